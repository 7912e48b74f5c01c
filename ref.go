package hsmkeys

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Ref names a key: its name and version. Version 0 is the newest.
type Ref struct {
	Name    string
	Version int
}

// ParseRef reads NAME or NAME@VERSION.
func ParseRef(s string) (Ref, error) {
	name, version, given := strings.Cut(s, "@")
	if err := blob.ValidName(name); err != nil {
		return Ref{}, err
	}
	if !given {
		return Ref{Name: name}, nil
	}
	// The one way to write a number, as in the store's own paths.
	n, err := strconv.ParseInt(version, 10, 32)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != version {
		return Ref{}, withFacts(fmt.Errorf("version %q of key %q is not a number from 1: %w", version, name, blob.ErrName), ErrVersionNumber)
	}
	return Ref{Name: name, Version: int(n)}, nil
}

func (r Ref) String() string {
	if r.Version == 0 {
		return r.Name
	}
	return r.Name + "@" + strconv.Itoa(r.Version)
}

// refsTo returns keys without versions.
func refsTo(names []string) []Ref {
	refs := make([]Ref, len(names))
	for i, name := range names {
		refs[i].Name = name
	}
	return refs
}
