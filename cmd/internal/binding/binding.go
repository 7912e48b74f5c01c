// Package binding remembers which keyring belongs to a store, as init and join have found it, in a
// file for each store below $XDG_STATE_HOME. Otherwise another keyring that the same token knows, and
// that somebody puts there, would be used without a warning.
package binding

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

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// maxFile is the maximal size of such a file, in bytes: an identifier and a path.
const maxFile = 8 << 10

// maxLinks is how many symbolic links in a row are followed; the kernel has the same limit.
const maxLinks = 40

// File returns the path of the file for a store by its identity, or "" if there is no place for it.
func File(identity string) string {
	dir := settings.XDG("XDG_STATE_HOME", ".local/state", "stores")
	if dir == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(identity))
	return filepath.Join(dir, hex.EncodeToString(sum[:16]))
}

// Identity returns the absolute path of a store, with symbolic links resolved as far as it exists, or the
// canonical URL of a bucket.
func Identity(store string) string {
	if place.IsBucket(store) {
		return place.Same(store)
	}
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

// places returns the absolute paths through which a store is reached: from the one that is named, one
// symbolic link after the other, to its identity. They show when the storage has replaced a store
// with a link to another one.
func places(store string) []string {
	if place.IsBucket(store) {
		return []string{Identity(store)}
	}
	var all []string
	path, err := filepath.Abs(store)
	for more := err == nil; more && len(all) < maxLinks; path, more = followLink(path) {
		all = append(all, path)
	}
	if last := Identity(store); !slices.Contains(all, last) {
		all = append(all, last)
	}
	return all
}

// followLink resolves the first symbolic link in an absolute path, and reports whether there is one.
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

// Of returns the keyring that belongs to a store, or the zero ID if none is known. If different
// keyrings belong to places on the way to it, the error is an [hsmkeys.ErrOtherKeyring].
func Of(store string) (bound blob.ID, err error) {
	from := ""
	for _, at := range places(store) {
		id, err := At(at)
		switch {
		case err != nil:
			return id, err
		case id == bound || id == blob.ID{}:
		case bound == blob.ID{}:
			bound, from = id, at
		default:
			return bound, fmt.Errorf("keyring %s belongs to %q, which leads to %q, where %s belongs: %w", bound, from, at, id, hsmkeys.ErrOtherKeyring)
		}
	}
	return bound, nil
}

// At returns the keyring that belongs to a place by its identity, or the zero ID if none is known.
func At(identity string) (blob.ID, error) {
	path := File(identity)
	if path == "" {
		return blob.ID{}, nil
	}
	data, err := ownfile.Read(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return blob.ID{}, nil
	}
	if err != nil {
		return blob.ID{}, fmt.Errorf("read which keyring belongs to the store: %w", err)
	}
	text, _, _ := strings.Cut(string(data), " ")
	id, err := ParseKeyring(text)
	if err != nil {
		return id, fmt.Errorf("read which keyring belongs to the store: %q: %w", path, err)
	}
	return id, nil
}

// ParseKeyring parses the identifier of a keyring.
func ParseKeyring(s string) (blob.ID, error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != len(blob.ID{}) || strings.ToLower(s) != s || blob.ID(raw) == (blob.ID{}) { // zero would match any
		return blob.ID{}, fmt.Errorf("%q is not the identifier of a keyring, 32 hexadecimal digits: %w", s, blob.ErrMalformed)
	}
	return blob.ID(raw), nil
}

// Set remembers which keyring belongs to a store, also for the places on the way to it where another
// one belonged.
func Set(store string, id blob.ID) error {
	identity := Identity(store)
	for _, at := range places(store) {
		path := File(at)
		if path == "" {
			return nil
		}
		was, err := At(at)
		if err == nil && (was == id || was == blob.ID{} && at != identity) {
			continue
		}
		if err := ownfile.Replace(path, []byte(id.String()+" "+at+"\n")); err != nil {
			return err
		}
	}
	return nil
}
