package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/datafile"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// Which keyring belongs to a store is remembered by init and join, in a file for each
// store below $XDG_STATE_HOME: another keyring that the same token knows, and that somebody
// puts there, would be used without a word.

// maxBinding bounds the size of such a file, in bytes: an identifier and a path.
const maxBinding = 8 << 10

// bindingPath is the file for a store by its identity, or nothing where there is no place
// for it.
func bindingPath(identity string) string {
	dir := xdg("XDG_STATE_HOME", ".local/state", "stores")
	if dir == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(identity))
	return filepath.Join(dir, hex.EncodeToString(sum[:16]))
}

// storeIdentity is a store's absolute path, without symbolic links as far as it exists.
func storeIdentity(store string) string {
	absolute, err := filepath.Abs(store)
	if err != nil {
		return store
	}
	for path, rest := absolute, ""; ; path, rest = filepath.Dir(path), filepath.Join(filepath.Base(path), rest) {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return filepath.Join(real, rest)
		}
		if path == filepath.Dir(path) {
			return absolute
		}
	}
}

// places returns the absolute paths by which a store is reached: from the one that is named,
// one symbolic link after the other, to its identity. A storage that puts a link to another
// store into the place of one is found out so.
func places(store string) []string {
	var all []string
	path, err := filepath.Abs(store)
	for more := err == nil; more && len(all) < datafile.MaxLinks; path, more = followLink(path) {
		all = append(all, path)
	}
	if last := storeIdentity(store); !slices.Contains(all, last) {
		all = append(all, last)
	}
	return all
}

// followLink replaces the first symbolic link in an absolute path, and reports whether there
// is one.
func followLink(path string) (string, bool) {
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != filepath.Separator {
			continue
		}
		target, err := os.Readlink(path[:i])
		if err != nil {
			continue
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path[:i]), target)
		}
		return filepath.Join(target, path[i:]), true
	}
	return path, false
}

// boundTo returns the keyring that belongs to a store; the zero ID where nobody knows. Two
// that belong to places on the way to it are an [hsmkeys.ErrOtherKeyring].
func boundTo(store string) (bound blob.ID, err error) {
	from := ""
	for _, place := range places(store) {
		id, err := bindingOf(place)
		switch {
		case err != nil:
			return id, err
		case id == bound || id == blob.ID{}:
		case bound == blob.ID{}:
			bound, from = id, place
		default:
			return bound, fmt.Errorf("keyring %s belongs to %q, which leads to %q, where %s belongs: %w", bound, from, place, id, hsmkeys.ErrOtherKeyring)
		}
	}
	return bound, nil
}

// bindingOf returns the keyring that belongs to a place.
func bindingOf(identity string) (blob.ID, error) {
	path := bindingPath(identity)
	if path == "" {
		return blob.ID{}, nil
	}
	data, err := ownfile.Read(path, maxBinding)
	if errors.Is(err, fs.ErrNotExist) {
		return blob.ID{}, nil
	}
	if err != nil {
		return blob.ID{}, fmt.Errorf("which keyring belongs to the store: %w", err)
	}
	text, _, _ := strings.Cut(string(data), " ")
	id, err := parseKeyring(text)
	if err != nil {
		return id, fmt.Errorf("which keyring belongs to the store: %q: %w", path, err)
	}
	return id, nil
}

// parseKeyring reads the identifier of a keyring.
func parseKeyring(s string) (blob.ID, error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != len(blob.ID{}) || strings.ToLower(s) != s || blob.ID(raw) == (blob.ID{}) { // which would be any
		return blob.ID{}, fmt.Errorf("%q is not the identifier of a keyring, 32 hexadecimal digits: %w", s, blob.ErrMalformed)
	}
	return blob.ID(raw), nil
}

// bindStore remembers which keyring belongs to a store, also for the places on the way to it
// where another one belonged.
func bindStore(store string, id blob.ID) error {
	identity := storeIdentity(store)
	for _, place := range places(store) {
		path := bindingPath(place)
		if path == "" {
			return nil
		}
		was, err := bindingOf(place)
		if err == nil && (was == id || was == blob.ID{} && place != identity) {
			continue
		}
		if err := ownfile.Replace(path, []byte(id.String()+" "+place+"\n")); err != nil {
			return err
		}
	}
	return nil
}

// expected is the keyring that the store must hold: the one of --keyring, or else the one
// that init or join has remembered.
func expected(c *cli.Context) (blob.ID, error) {
	if s := c.String("keyring"); s != "" {
		id, err := parseKeyring(s)
		if err != nil {
			return id, failure.Usage("--keyring: %v", err)
		}
		return id, nil
	}
	path, err := namedStore(c)
	if err != nil {
		return blob.ID{}, err
	}
	return boundTo(path)
}

// otherKeyring has the error of a store that holds another keyring say what to do.
func otherKeyring(err error) error {
	if errors.Is(err, hsmkeys.ErrOtherKeyring) {
		return failure.WithHint(err, "put the store back from a copy; or if it is meant, name the keyring with --keyring, or hsmkeys join it")
	}
	return err
}
