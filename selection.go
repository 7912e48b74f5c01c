package hsmkeys

import (
	"context"
	"strings"

	"github.com/hsmkeys/hsmkeys/ledger"
)

// A Selected is a key that was chosen by its name, or by the beginning of its name.
type Selected struct {
	Entry    Entry // of the current version, or the newest if there is none
	ByPrefix bool

	Destroyed bool // all of its versions
}

// Select returns the keys with the names, and those whose names start with a name that ends in a
// slash, sorted by name and none twice; without any, all keys. A name that no key has is a
// [blob.ErrNotFound], a prefix that none has is not an error.
func (k *Keyring) Select(ctx context.Context, names []string) ([]Selected, error) {
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	var all []Selected
	seen := map[string]bool{}
	lister := k.lister()
	add := func(e ledger.Entry, byPrefix bool) error {
		if seen[e.Name] {
			return nil
		}
		seen[e.Name] = true
		versions, err := k.chosen(ctx, e, false)
		if err != nil {
			return err
		}
		s := Selected{Entry: lister.entry(e, versions[0]), ByPrefix: byPrefix}
		if s.Destroyed = versions[0].Status == ledger.Destroyed; s.Destroyed && e.Total() > 1 {
			for v, err := range k.view().Versions(ctx, e) {
				if err != nil {
					return err
				}
				s.Destroyed = s.Destroyed && v.Status == ledger.Destroyed
			}
		}
		all = append(all, s)
		return nil
	}
	// Names first: one that is also below a prefix was meant by itself.
	for _, name := range names {
		if strings.HasSuffix(name, "/") {
			continue
		}
		e, err := k.entryNamed(ctx, name)
		if err == nil {
			err = add(e, false)
		}
		if err != nil {
			return nil, err
		}
	}
	prefixes := names
	if len(names) == 0 {
		prefixes = []string{""}
	}
	for _, prefix := range prefixes {
		if prefix != "" && !strings.HasSuffix(prefix, "/") {
			continue
		}
		if err := ValidPrefix(prefix); err != nil {
			return nil, err
		}
		for e, err := range k.view().Entries(ctx, prefix) {
			if err == nil {
				err = add(e, true)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}
