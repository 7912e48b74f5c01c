//go:build unix

package dir

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A list goes on after a directory that cannot be read, and says which it is.
func TestAListGoesOnAfterAnError(t *testing.T) {
	t.Parallel()
	s, at := newStore(t)
	for _, name := range []string{"a", "z"} {
		mustPut(t, s, key(name, 1, 1), "x")
	}
	if err := os.Symlink("a", filepath.Join(at, "keys/m")); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for path, err := range s.List(context.Background(), "") {
		if (err != nil) != (path == "keys/m") || err != nil && !errors.Is(err, blob.ErrOccupied) {
			t.Errorf("%q: %v", path, err)
		}
		seen = append(seen, path)
	}
	slices.Sort(seen)
	if want := []string{key("a", 1, 1), "keys/m", key("z", 1, 1)}; !slices.Equal(seen, want) {
		t.Errorf("listed %q, want %q", seen, want)
	}
}

func TestOnlyTheOwnerCanRead(t *testing.T) {
	t.Parallel()
	d, at := newStore(t)
	mustPut(t, d, key("payroll", 1, 1), "one")
	for name, want := range map[string]fs.FileMode{"": fs.ModeDir | 0o700, "keys": fs.ModeDir | 0o700, "keys/payroll": fs.ModeDir | 0o700, object("keys/payroll/1.1"): 0o600} {
		if info, err := os.Stat(filepath.Join(at, name)); err != nil || info.Mode() != want {
			t.Errorf("%q has mode %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
	if d.String() != at {
		t.Errorf("store says it is in %q", d)
	}
}

// A copy that is put in the place of a store does not go unnoticed, nor is anything written to the former
// one.
func TestAStoreThatIsExchanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Put(t.Context(), blob.SlotPath(1), []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, change := range []func() error{
		func() error { return os.Rename(path, path+"2") },
		func() error { return os.Mkdir(path, 0o700) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		_, err := s.Get(t.Context(), blob.SlotPath(2))
		_, rangeErr := s.GetRange(t.Context(), blob.SlotPath(2), 0, 1)
		for _, err := range []error{err, rangeErr, s.Put(t.Context(), blob.SlotPath(3), []byte("x"))} {
			if !errors.Is(err, ErrExchanged) || !errors.Is(err, blob.ErrUnavailable) || errors.Is(err, blob.ErrNotFound) {
				t.Error(err)
			}
		}
	}
}
