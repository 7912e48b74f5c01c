package dir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Many writers at a time need fewer syncs than each of them alone, and each has its own
// when it is told that it is done. The first syncs are held until all others wait, so that
// it does not depend on how fast the disk is.
func TestManyWritersShareSyncs(t *testing.T) {
	ctx := context.Background()
	for name, syncFS := range map[string]func(*os.File) error{
		"syncfs":    syncFileSystem,
		"no syncfs": func(*os.File) error { return errors.ErrUnsupported },
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Create(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			put := func(name string) {
				if err := d.Put(ctx, key(name, 1, 1), []byte("x")); err != nil {
					t.Error(err)
				}
			}
			put("first") // makes what all have in common
			var files, all atomic.Int64
			held := make(chan struct{})
			d.sync = func(f *os.File) error { files.Add(1); <-held; return syncFile(f) }
			d.syncFS = func(f *os.File) error { all.Add(1); return syncFS(f) }
			const writers = 32
			var wait sync.WaitGroup
			for w := range writers {
				wait.Go(func() { put(fmt.Sprintf("k%d", w)) })
			}
			waitForWriters(t, d, writers-maxAlone)
			close(held)
			wait.Wait()

			shared := files.Load() + all.Load()
			files.Store(0)
			put("alone")
			alone := writers * files.Load()
			// What waited took one sync for all of them.
			if syncFS(d.open) == nil && (all.Load() == 0 || shared > alone-(writers-maxAlone-1)) {
				t.Errorf("%d writes took %d syncs, %d of them of all; alone it would be %d", writers, shared, all.Load(), alone)
			}
			if syncFS(d.open) != nil && shared < alone {
				t.Errorf("%d writes took %d syncs: some of %d were left out", writers, shared, alone)
			}
			found := 0
			for _, err := range d.List(ctx, "keys/") {
				if err != nil {
					t.Fatal(err)
				}
				found++
			}
			if found != writers+2 {
				t.Errorf("%d objects are there", found)
			}
		})
	}
}

// waitForWriters returns when n writers wait for the next round.
func waitForWriters(t *testing.T, d *Store, n int) {
	t.Helper()
	for range 6000 {
		d.commits.mu.Lock()
		waiting := d.commits.next != nil && d.commits.next.writers == n
		d.commits.mu.Unlock()
		if waiting {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("there are not %d writers that wait", n)
}

// A disk that fails for one of many fails for all who were synced with it, and nobody is
// told that it is done.
func TestAFailingDiskFailsForAllThatWereSyncedTogether(t *testing.T) {
	ctx := context.Background()
	d, err := Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.sync = func(*os.File) error { return syscall.EIO }
	d.syncFS = func(*os.File) error { return syscall.EIO }
	var wait sync.WaitGroup
	for w := range 16 {
		wait.Go(func() {
			if err := d.Put(ctx, key(fmt.Sprintf("k%d", w), 1, 1), []byte("x")); !errors.Is(err, syscall.EIO) {
				t.Errorf("stored on a disk that fails: %v", err)
			}
		})
	}
	wait.Wait()
	for path := range d.List(ctx, "keys/") {
		t.Errorf("%s is there", path)
	}
	// And works again when the disk does.
	d.sync, d.syncFS = syncFile, syncFileSystem
	if err := d.Put(ctx, key("later", 1, 1), []byte("x")); err != nil {
		t.Error(err)
	}
}
