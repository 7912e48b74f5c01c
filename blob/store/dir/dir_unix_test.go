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
