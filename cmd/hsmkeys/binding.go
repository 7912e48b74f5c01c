package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
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

// boundTo returns the keyring that belongs to a store; the zero ID where nobody knows.
func boundTo(store string) (blob.ID, error) { return bindingOf(storeIdentity(store)) }

// bindingOf is boundTo for a store by its identity.
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

// bindStore remembers which keyring belongs to a store.
func bindStore(store string, id blob.ID) error {
	path := bindingPath(storeIdentity(store))
	if path == "" {
		return nil
	}
	if was, err := boundTo(store); err == nil && was == id {
		return nil
	}
	return ownfile.Replace(path, []byte(id.String()+" "+storeIdentity(store)+"\n"))
}

// expected is the keyring that the store must hold: the one of --keyring, or else the one
// that init or join has remembered.
func expected(c *cli.Context) (blob.ID, error) {
	if s := c.String("keyring"); s != "" {
		id, err := parseKeyring(s)
		if err != nil {
			return id, usage("--keyring: %v", err)
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
		return &hintedError{err, "put the store back from a copy; or if it is meant, name the keyring with --keyring, or hsmkeys join it"}
	}
	return err
}
