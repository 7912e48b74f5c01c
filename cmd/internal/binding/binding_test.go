package binding

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
)

// TestALinkIsPutInThePlaceOfAStore has the storage lead from one store to another one that is
// known as well: directly, and through a directory above it.
func TestALinkIsPutInThePlaceOfAStore(t *testing.T) {
	first, second := blob.ID{1}, blob.ID{2}
	for _, test := range []struct{ name, moved, to string }{
		{"the store", "nas/a/store", "../b/store"},
		{"a directory above", "nas/a", "b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
			in := func(path string) string { return filepath.Join(dir, path) }
			for path, id := range map[string]blob.ID{"nas/a/store": first, "nas/b/store": second} {
				if err := errors.Join(os.MkdirAll(in(path), 0o700), Set(in(path), id)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(in("nas/a/store"), in("mine")); err != nil {
				t.Fatal(err)
			}
			if id, err := Of(in("mine")); id != first || err != nil {
				t.Fatalf("%v, %v", id, err)
			}
			if err := errors.Join(os.Rename(in(test.moved), in("away")), os.Symlink(test.to, in(test.moved))); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{"nas/a/store", "mine"} {
				if id, err := Of(in(path)); !errors.Is(err, hsmkeys.ErrOtherKeyring) {
					t.Errorf("%s: %v, %v", path, id, err)
				}
			}
			// Who joins there chooses.
			if err := Set(in("mine"), second); err != nil {
				t.Fatal(err)
			}
			if id, err := Of(in("mine")); id != second || err != nil {
				t.Errorf("%v, %v", id, err)
			}
		})
	}
}
