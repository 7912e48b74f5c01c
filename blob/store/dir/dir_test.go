package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Test(t, func(t *testing.T) blob.Store {
		s, at := newStore(t)
		t.Cleanup(func() { wantNoTemporaryFiles(t, at) })
		return s
	})
}

// Off Linux, and with old kernels, everything goes the slow way.
func TestStoreTheSlowWay(t *testing.T) {
	t.Parallel()
	storetest.Test(t, func(t *testing.T) blob.Store {
		s, _ := newStore(t)
		closed, err := s.root.Open(".")
		if err != nil {
			t.Fatal(err)
		}
		closed.Close()
		return &Store{path: s.path, root: s.root, open: closed, link: s.link, sync: s.sync, syncFS: func(*os.File) error { return errors.ErrUnsupported }}
	})
}

func TestWhatIsPutStays(t *testing.T) {
	t.Parallel()
	s, at := newStore(t)
	for _, path := range []string{key("payroll", 1, 1), key("payroll/eu", 1, 1), members, blob.SlotPath(1000)} {
		mustPut(t, s, path, path)
	}
	wantFiles(t, at, object("keys/payroll/1.1"), object("keys/payroll/eu/1.1"),
		members, "state/0000001/000")
	again, err := Open(at)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	wantObject(t, again, key("payroll", 1, 1), key("payroll", 1, 1))
	if err := again.Delete(context.Background(), key("payroll/eu", 1, 1)); err != nil {
		t.Error(err)
	}
	wantFiles(t, at, object("keys/payroll/1.1"), members, "state/0000001/000")
}

func TestPathsAreCheckedBeforeTheDiskIsTouched(t *testing.T) {
	t.Parallel()
	s, at := newStore(t)
	for _, path := range []string{"", "x", "keys/../../x", key("Payroll", 1, 1), key("a", 0, 1), blob.SlotPath(0)} {
		if err := s.Put(context.Background(), path, []byte("x")); !errors.Is(err, blob.ErrName) {
			t.Errorf("put %q: %v", path, err)
		}
	}
	if all, err := os.ReadDir(at); err != nil || len(all) > 0 {
		t.Errorf("there are %v, %v", all, err)
	}
}

func TestOfManyWritersOneWins(t *testing.T) {
	t.Parallel()
	ofManyWritersOneWins(t, func(*Store) {})
}

func ofManyWritersOneWins(t *testing.T, change func(*Store)) {
	t.Helper()
	ctx := context.Background()
	at := filepath.Join(t.TempDir(), "new", "store")
	const writers, objects = 16, 20
	var won [objects]atomic.Pointer[string]
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			d, err := Create(at) // a process of its own, as good as
			if err != nil {
				t.Error(err)
				return
			}
			defer d.Close()
			change(d)
			for o := range objects {
				data := strings.Repeat(fmt.Sprintf("writer %d ", w), 1000)
				path := key(fmt.Sprintf("a/b/%d", o), 1, 1)
				switch err := d.Put(ctx, path, []byte(data)); {
				case err == nil:
					if other := won[o].Swap(&data); other != nil {
						t.Errorf("object %d was put twice", o)
					}
				case !errors.Is(err, blob.ErrExists):
					t.Error(err)
				default:
					// The loser can build on what the winner stored.
					if got, err := d.Get(ctx, path); err != nil || len(got) < 9000 {
						t.Errorf("loser reads %d bytes, %v", len(got), err)
					}
				}
			}
		})
	}
	all.Wait()
	d, err := Open(at)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for o := range objects {
		if won[o].Load() == nil {
			t.Fatalf("nobody put object %d", o)
		}
		wantObject(t, d, key(fmt.Sprintf("a/b/%d", o), 1, 1), *won[o].Load())
	}
	wantNoTemporaryFiles(t, at)
}

// Another writer that fails removes the directories it made, which may be those
// that this one is about to use.
func TestPutOutlivesDirectoriesThatVanish(t *testing.T) {
	t.Parallel()
	d, at := newStore(t)
	for i := range 50 {
		var stop atomic.Bool
		var remover sync.WaitGroup
		name := fmt.Sprintf("n%d", i)
		remover.Go(func() {
			for range 8 {
				for !stop.Load() && os.Remove(filepath.Join(at, "keys", name)) != nil {
				}
			}
		})
		err := d.Put(context.Background(), key(name, 1, 1), []byte("x"))
		stop.Store(true)
		remover.Wait()
		if err != nil {
			t.Fatal(err)
		}
		wantObject(t, d, key(name, 1, 1), "x")
	}
}

func TestOpenDirWantsADirectory(t *testing.T) {
	t.Parallel()
	at := filepath.Join(t.TempDir(), "none")
	if d, err := Open(at); d != nil || !errors.Is(err, blob.ErrNotFound) || !strings.Contains(err.Error(), at) {
		t.Errorf("no directory: %v", err)
	}
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := Open(at); d != nil || err == nil {
		t.Error("a file was opened as a store")
	}
	if d, err := Create(filepath.Join(at, "store")); d != nil || !errors.Is(err, syscall.ENOTDIR) && !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("store below a file: %v", err)
	}
}

func BenchmarkPut(b *testing.B) {
	d, _ := newStore(b)
	data := bytes.Repeat([]byte{'x'}, 1200)
	n := 0
	for b.Loop() {
		n++
		if err := d.Put(context.Background(), key("payroll", n, 1), data); err != nil {
			b.Fatal(err)
		}
	}
}
