package blob

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// Many writers at a time need fewer syncs than each of them alone, and each has its own
// when it is told that it is done.
func TestManyWritersShareSyncs(t *testing.T) {
	ctx := context.Background()
	for name, syncFS := range map[string]func(*os.File) error{
		"syncfs":    nil,
		"no syncfs": func(*os.File) error { return errors.ErrUnsupported },
	} {
		t.Run(name, func(t *testing.T) {
			d, err := CreateDir(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			var one, all atomic.Int64
			real := d.syncFS
			if syncFS != nil {
				real = syncFS
			}
			d.sync = func(f *os.File) error { one.Add(1); return f.Sync() }
			d.syncFS = func(f *os.File) error { all.Add(1); return real(f) }
			const writers, each = 32, 8
			var wait sync.WaitGroup
			for w := range writers {
				wait.Go(func() {
					for i := range each {
						if err := d.Put(ctx, KeyPath(fmt.Sprintf("k%d/n%d", w, i), 1, 1), []byte("x")); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wait.Wait()
			alone := int64(writers * each * 2)
			if syncFS == nil && (all.Load() == 0 || one.Load()+all.Load() > alone*9/10) {
				t.Errorf("%d writes took %d syncs of files and %d of all", writers*each, one.Load(), all.Load())
			}
			if syncFS != nil && one.Load() < alone {
				t.Errorf("%d writes took %d syncs: some were left out", writers*each, one.Load())
			}
			found := 0
			for _, err := range d.List(ctx, "keys/") {
				if err != nil {
					t.Fatal(err)
				}
				found++
			}
			if found != writers*each {
				t.Errorf("%d objects are there", found)
			}
		})
	}
}

// A disk that fails for one of many fails for all who were synced with it, and nobody is
// told that it is done.
func TestAFailingDiskFailsForAllThatWereSyncedTogether(t *testing.T) {
	ctx := context.Background()
	d, err := CreateDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.sync = func(*os.File) error { return syscall.EIO }
	d.syncFS = func(*os.File) error { return syscall.EIO }
	var wait sync.WaitGroup
	for w := range 16 {
		wait.Go(func() {
			if err := d.Put(ctx, KeyPath(fmt.Sprintf("k%d", w), 1, 1), []byte("x")); !errors.Is(err, syscall.EIO) {
				t.Errorf("stored on a disk that fails: %v", err)
			}
		})
	}
	wait.Wait()
	for path := range d.List(ctx, "keys/") {
		t.Errorf("%s is there", path)
	}
	// And works again when the disk does.
	d.sync, d.syncFS = (*os.File).Sync, syncFileSystem
	if err := d.Put(ctx, KeyPath("later", 1, 1), []byte("x")); err != nil {
		t.Error(err)
	}
}
