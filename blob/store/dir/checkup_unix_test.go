//go:build unix

package dir

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

func TestCheckupTellsWhatPutHasNotMade(t *testing.T) {
	path := t.TempDir()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx := context.Background()
	for _, name := range []string{key("payroll", 1, 1), members} {
		if err := d.Put(ctx, name, []byte("object")); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-2 * abandoned)
	for _, file := range []string{
		"keys/payroll/.tmp-OLD", "keys/payroll/.tmp-NEW", ".tmp-TOP", "keys/payroll/notes.txt", "README",
		".git/config", ".gitignore", "keys/.hidden", "keys/UPPER/1.1.cms",
	} {
		file = filepath.Join(path, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if filepath.Base(file) != ".tmp-NEW" {
			if err := os.Chtimes(file, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(path, blob.MembersPath([32]byte{2}))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"keys/payroll", object("keys/payroll/1.1")} {
		if err := os.Chmod(filepath.Join(path, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.Checkup(ctx)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got.Stray)
	for _, is := range []struct {
		what      string
		got, want []string
	}{
		{"unfinished", got.Unfinished, []string{".tmp-TOP", "keys/payroll/.tmp-OLD"}},
		{"stray", got.Stray, []string{"README", "keys/.hidden", "keys/UPPER", "keys/payroll/notes.txt"}},
		{"open", got.Open, []string{"keys/payroll", object("keys/payroll/1.1")}},
	} {
		if !slices.Equal(is.got, is.want) {
			t.Errorf("%s: got %q, want %q", is.what, is.got, is.want)
		}
	}
	if got.Objects != 3 { // with what is in the place of one: Get says what it is
		t.Errorf("%d objects, want 3", got.Objects)
	}
}

func TestTryWriteLeavesNothing(t *testing.T) {
	path := t.TempDir()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Put(context.Background(), members, []byte("object")); err != nil {
		t.Fatal(err)
	}
	synced := map[string]int{}
	d.sync = func(f *os.File) error {
		info, err := f.Stat()
		if err == nil && info.IsDir() {
			synced[filepath.Base(f.Name())]++
		}
		return err
	}
	if err := d.TryWrite(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(synced) != 2 || synced["members"] != 1 {
		t.Errorf("directories synced: %v, want the store's and members", synced)
	}
	d.sync = func(*os.File) error { return os.ErrDeadlineExceeded }
	if err := d.TryWrite(context.Background()); err == nil {
		t.Error("a disk that does not sync is taken for sound")
	}
	all, err := filepath.Glob(filepath.Join(path, "*", ".*"))
	top, _ := filepath.Glob(filepath.Join(path, ".*"))
	if err != nil || len(all)+len(top) != 0 {
		t.Errorf("left: %q %q, %v", all, top, err)
	}
}

// What is in the place of a directory of objects is found before a Put fails by it.
func TestTryWriteFindsWhatIsInTheWay(t *testing.T) {
	s, at := newStore(t)
	if err := os.Symlink(".", filepath.Join(at, "packs")); err != nil {
		t.Fatal(err)
	}
	if err := s.TryWrite(context.Background()); !errors.Is(err, blob.ErrOccupied) {
		t.Error(err)
	}
}
