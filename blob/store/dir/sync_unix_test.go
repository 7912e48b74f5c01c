//go:build unix

package dir

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

// recordSyncs makes synced give what was synced since it was last called.
func recordSyncs(d *Store, at string) (synced func() []string) {
	var names []string
	d.sync = func(f *os.File) error {
		name, _ := filepath.Rel(at, f.Name())
		if strings.HasPrefix(filepath.Base(name), temporaryPrefix) {
			name = "file"
		}
		names = append(names, name)
		return f.Sync()
	}
	return func() []string {
		out := names
		names = nil
		return out
	}
}

func TestWhatIsPutIsDurable(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d, at := newStore(t)
	synced := recordSyncs(d, at)
	want := func(what string, names ...string) {
		t.Helper()
		if got := synced(); !slices.Equal(got, names) {
			t.Errorf("%s syncs %q, want %q", what, got, names)
		}
	}
	mustPut(t, d, key("a/b", 1, 1), "one")
	want("the first object", "file", "keys/a/b", "keys/a", "keys", ".")
	mustPut(t, d, key("a/b", 1, 2), "one")
	want("another in the same directory", "file", "keys/a/b")
	mustPut(t, d, key("a/c", 1, 1), "one")
	want("an object in a new directory", "file", "keys/a/c", "keys/a")

	// Another process that came no further than its link, and one that finds
	// the name taken: what that builds on must not vanish with the power.
	mustPut(t, d, key("x", 1, 1), "one")
	again, err := Open(at)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	synced = recordSyncs(again, at)
	if err := again.Put(ctx, key("x", 1, 1), nil); !errors.Is(err, blob.ErrExists) {
		t.Error(err)
	}
	want("the loser of a race", "file", key("x", 1, 1), "keys/x", "keys", ".")
	if err := again.Put(ctx, key("x", 1, 1), nil); !errors.Is(err, blob.ErrExists) {
		t.Error(err)
	}
	want("the loser of another race", "file", key("x", 1, 1), "keys/x")
}

func TestWhatIsDeletedIsGoneForGood(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, at := newStore(t)
	mustPut(t, s, key("a", 1, 1), "one")
	synced := recordSyncs(s, at)
	for _, what := range []string{"delete", "delete of what is gone, as another may have come no further"} {
		if err := s.Delete(ctx, key("a", 1, 1)); err != nil {
			t.Error(err)
		}
		if got := synced(); !slices.Equal(got, []string{"keys/a"}) {
			t.Errorf("%s syncs %q", what, got)
		}
	}
	s.sync = func(*os.File) error { return syscall.EIO }
	if err := s.Delete(ctx, key("a", 1, 1)); !errors.Is(err, syscall.EIO) {
		t.Errorf("delete on a disk that fails: %v", err)
	}
}

// A reader syncs what somebody has copied into the store: file and directories.
func TestSyncOfWhatOthersHaveStored(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, at := newStore(t)
	slot := blob.SlotPath(1)
	file := filepath.Join(at, slot)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte("copied"), 0o600)); err != nil {
		t.Fatal(err)
	}
	synced := recordSyncs(s, at)
	for _, want := range [][]string{{slot, "state/0000000", "state", "."}, {slot, "state/0000000"}} {
		if err := s.Sync(ctx, slot); err != nil {
			t.Error(err)
		}
		if got := synced(); !slices.Equal(got, want) {
			t.Errorf("sync syncs %q, want %q", got, want)
		}
	}
	s.sync = func(*os.File) error { return syscall.EIO }
	if err := s.Sync(ctx, slot); !errors.Is(err, syscall.EIO) {
		t.Errorf("sync on a disk that fails: %v", err)
	}
	s.sync = func(*os.File) error { return syscall.EINVAL } // a file system that only reads
	if err := s.Sync(ctx, slot); err != nil {
		t.Errorf("sync on a file system that has no such call: %v", err)
	}
}

func TestADiskThatFailsToSyncIsNotTrusted(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d, at := newStore(t)
	mustPut(t, d, key("payroll", 1, 1), "one")
	failing := func(when func(info fs.FileInfo) bool, with error) {
		d.sync = func(f *os.File) error {
			if info, err := f.Stat(); err != nil || when(info) {
				return errors.Join(err, with)
			}
			return f.Sync()
		}
	}
	failing(func(info fs.FileInfo) bool { return !info.IsDir() }, syscall.EIO)
	if err := d.Put(ctx, key("billing", 1, 1), []byte("x")); !errors.Is(err, syscall.EIO) {
		t.Errorf("file: %v", err)
	}
	wantFiles(t, at, object("keys/payroll/1.1"))

	failing(fs.FileInfo.IsDir, syscall.EIO)
	if err := d.Put(ctx, key("payroll", 1, 1), []byte("x")); !errors.Is(err, syscall.EIO) || errors.Is(err, blob.ErrExists) {
		t.Errorf("directory, object there: %v", err)
	}
	if err := d.Put(ctx, key("payroll", 1, 2), []byte("x")); !errors.Is(err, syscall.EIO) {
		t.Errorf("directory: %v", err)
	}
	wantNoTemporaryFiles(t, at)

	// There are file systems that cannot sync a directory.
	failing(fs.FileInfo.IsDir, syscall.EINVAL)
	if err := d.Put(ctx, key("payroll", 1, 3), []byte("x")); err != nil {
		t.Error(err)
	}
}
