package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

var _ Store = (*Store)(nil)

func newStore(t testing.TB) (*Store, string) {
	t.Helper()
	at := filepath.Join(t.TempDir(), "store")
	d, err := Create(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, at
}

func mustPut(t testing.TB, s blob.Store, path, data string) {
	t.Helper()
	if err := s.Put(context.Background(), path, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func wantObject(t testing.TB, s blob.Store, path, data string) {
	t.Helper()
	if got, err := s.Get(context.Background(), path); err != nil || string(got) != data {
		t.Errorf("%s holds %.40q, %v; want %.40q", path, got, err, data)
	}
}

func wantListed(t testing.TB, s blob.Store, prefix string, want ...string) {
	t.Helper()
	var got []string
	for path, err := range s.List(context.Background(), prefix) {
		if err != nil {
			t.Error(err)
		}
		got = append(got, path)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("list of %q is %q, want %q", prefix, got, want)
	}
}

// wantFiles checks every file and directory that is there, not only objects.
func wantFiles(t testing.TB, at string, want ...string) {
	t.Helper()
	var got []string
	err := filepath.WalkDir(at, func(p string, e fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(at, p); rel != "." {
			got = append(got, rel)
		}
		return err
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("store has %q, %v; want %q", got, err, want)
	}
}

func TestWhatIsPutIsThere(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d, at := newStore(t)
	full := strings.Repeat("x", blob.MaxSize)
	mustPut(t, d, key("payroll", 1, 1), "one")
	mustPut(t, d, key("payroll", 1, 2), "")
	mustPut(t, d, key("payroll/eu", 1, 1), full)
	mustPut(t, d, members, "members")
	mustPut(t, d, InventoryPath([32]byte{}), "inventory")
	mustPut(t, d, ProofPath(make([]byte, 20), 1), "proof")

	sum, holder := strings.Repeat("0", 64), strings.Repeat("0", 40)
	wantObject(t, d, "inventory/"+sum+".sha256", "inventory")
	wantObject(t, d, "proofs/"+holder+"/1.cms", "proof")
	wantObject(t, d, at("keys/payroll/1.1"), "one")
	wantObject(t, d, at("keys/payroll/1.2"), "")
	wantObject(t, d, at("keys/payroll/eu/1.1"), full)
	wantObject(t, d, "keyring/1.cms", "members")
	wantFiles(t, at, "inventory", "inventory/"+sum+".sha256", "keyring", "", "keys", "keys/payroll", at("keys/payroll/1.1"), at("keys/payroll/1.2"),
		"keys/payroll/eu", at("keys/payroll/eu/1.1"), "proofs", "proofs/"+holder, "proofs/"+holder+"/1.cms")

	if err := d.Put(ctx, key("payroll", 1, 1), []byte("two")); !errors.Is(err, blob.ErrExists) || errors.Is(err, blob.ErrIntegrity) {
		t.Errorf("second put: %v", err)
	}
	wantObject(t, d, at("keys/payroll/1.1"), "one")
	if _, err := d.Get(ctx, key("payroll", 1, 3)); !errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrIntegrity) {
		t.Errorf("get of nothing: %v", err)
	}
	if _, err := d.Get(ctx, key("billing", 1, 1)); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("get in no directory: %v", err)
	}
	if err := d.Put(ctx, key("payroll", 9, 1), make([]byte, blob.MaxSize+1)); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("put of too much: %v", err)
	}

	again, err := Open(at)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	wantObject(t, again, at("keys/payroll/1.1"), "one")
}

func TestListGivesWhatHasThePrefix(t *testing.T) {
	t.Parallel()
	d, _ := newStore(t)
	wantListed(t, d, "")
	wantListed(t, d, "keys/")
	wantListed(t, d, "keys/payroll/")
	all := []string{"keyring/1.cms", at("keys/pay/1.1"), at("keys/payroll/1.1"), at("keys/payroll/1.2"), at("keys/payroll/eu/1.1")}
	for _, path := range all {
		mustPut(t, d, path, path)
	}
	wantListed(t, d, "", all...)
	wantListed(t, d, "key", all...)
	wantListed(t, d, "keyring/", all[:1]...)
	wantListed(t, d, "keys/", all[1:]...)
	wantListed(t, d, "keys", all[1:]...)
	wantListed(t, d, "keys/pay", all[1:]...)
	wantListed(t, d, "keys/pay/", all[1])
	wantListed(t, d, "keys/payroll/", all[2:]...)
	wantListed(t, d, "keys/payroll/1.", all[2:4]...)
	wantListed(t, d, at("keys/payroll/1.2"), all[3])

	one, two := bytes.Repeat([]byte{1}, 20), bytes.Repeat([]byte{2}, 20)
	parts := []string{InventoryPath([32]byte{1}), InventoryPath([32]byte{2})}
	proofs := []string{ProofPath(one, 1), ProofPath(one, 2), ProofPath(two, 1)}
	for _, path := range append(parts, proofs...) {
		mustPut(t, d, path, path)
	}
	wantListed(t, d, "", slices.Concat(parts, all, proofs)...)
	wantListed(t, d, "inventory/", parts...)
	wantListed(t, d, "inventory/01", parts[0])
	wantListed(t, d, "proofs/", proofs...)
	wantListed(t, d, "proofs/02", proofs[2])
	wantListed(t, d, strings.TrimSuffix(proofs[0], "1.cms"), proofs[:2]...)
	wantListed(t, d, "keys/", all[1:]...)
	for _, nothing := range []string{"x", "keys/x/", "keys/payroll/1.1.cms/", "/", "/keys/", "../", "keys/../keys/", "keys//", "./keys/"} {
		wantListed(t, d, nothing)
	}
}

func TestListReadsNoFurtherThanItMust(t *testing.T) {
	t.Parallel()
	d, at := newStore(t)
	mustPut(t, d, key("payroll", 1, 1), "one")
	mustPut(t, d, key("payroll/eu", 1, 1), "two")
	next, stop := iter.Pull2(d.List(context.Background(), "keys/payroll/"))
	defer stop()
	if path, err, ok := next(); path != at("keys/payroll/1.1") || err != nil || !ok {
		t.Fatal(path, err, ok)
	}
	// Objects of the name itself come first; what is below is not read yet.
	if err := os.RemoveAll(filepath.Join(at, "keys/payroll/eu")); err != nil {
		t.Fatal(err)
	}
	if path, err, ok := next(); ok {
		t.Error(path, err)
	}
	for range d.List(context.Background(), "") {
		break
	}
}

func TestListOfManyObjects(t *testing.T) {
	t.Parallel()
	d, at := newStore(t)
	mustPut(t, d, key("payroll", 1, 1), "first")
	want := []string{at("keys/payroll/1.1")}
	for i := range 1000 {
		name := fmt.Sprintf("keys/payroll/1.%d.cms", i+2)
		want = append(want, name)
		if err := os.WriteFile(filepath.Join(at, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	wantListed(t, d, "keys/payroll/", want...)
}

func TestPathsAreCheckedBeforeTheDiskIsTouched(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d, at := newStore(t)
	for _, path := range []string{"", "x", "../x", "keys/../../x", "keys/../1.1.cms", "keys/Payroll/1.1.cms", at("keys/payroll/0.1"), key("", 1, 1), key("a", 0, 1), MembersPath(0), ProofPath(nil, 1), ProofPath(make([]byte, 20), 0), "inventory/x.sha256", "proofs/../1.cms"} {
		if err := d.Put(ctx, path, []byte("x")); !errors.Is(err, blob.ErrName) {
			t.Errorf("put %q: %v", path, err)
		}
		if _, err := d.Get(ctx, path); !errors.Is(err, blob.ErrName) {
			t.Errorf("get %q: %v", path, err)
		}
	}
	wantFiles(t, at)
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

func wantNoTemporaryFiles(t *testing.T, at string) {
	t.Helper()
	filepath.WalkDir(at, func(p string, e fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(e.Name(), temporaryPrefix) {
			t.Errorf("left over: %s, %v", p, err)
		}
		return nil
	})
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
	mustPut(t, d, key("a/c", 1, 1), "one")
	want("an object in a new directory", "file", "keys/a/c", "keys/a")

	// Another process that came no further than its link, and one that finds
	// the name taken: what that builds on must not vanish with the power.
	mustPut(t, d, key("x", 1, 1), "one")
	again := must(Open(at))
	defer again.Close()
	synced = recordSyncs(again, at)
	if err := again.Put(ctx, key("x", 1, 1), nil); !errors.Is(err, blob.ErrExists) {
		t.Error(err)
	}
	want("the loser of a race", "file", "keys/x", "keys", ".")
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
	wantFiles(t, at, "keys", "keys/payroll", at("keys/payroll/1.1"))

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

func TestACancelledContextStopsEverything(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	d, at := newStore(t)
	mustPut(t, d, key("payroll", 1, 1), "one")
	cancel()
	if err := d.Put(ctx, key("billing", 1, 1), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
	if _, err := d.Get(ctx, key("payroll", 1, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("get: %v", err)
	}
	n := 0
	for path, err := range d.List(ctx, "") {
		if n++; path != "" || !errors.Is(err, context.Canceled) || n > 1 {
			t.Errorf("list: %q, %v", path, err)
		}
	}
	if n != 1 {
		t.Errorf("list gave %d times", n)
	}
	wantFiles(t, at, "keys", "keys/payroll", at("keys/payroll/1.1"))
}

func TestForeignFilesAreIgnored(t *testing.T) {
	t.Parallel()
	d, at := newStore(t)
	mustPut(t, d, key("payroll", 1, 1), "one")
	for _, name := range []string{
		".tmp-crashed", "keys/.tmp-crashed", "keys/payroll/.tmp-crashed", at("keys/payroll/01.1"), "keys/payroll/1.2.cms~",
		"keys/payroll/readme", "keys/1.1.cms", "keyring/0.cms", "readme.cms", "other/payroll/1.1.cms", "keys/.git/1.1.cms",
		"keys/Payroll/1.1.cms", "keys/x.cms/1.1.cms", "keyring/sub/1.cms",
		"inventory/readme", "inventory/sub/" + strings.Repeat("0", 64) + ".sha256", "inventory/" + strings.Repeat("A", 64) + ".sha256", "inventory/.tmp-crashed",
		"proofs/1.cms", "proofs/anna/1.cms", "proofs/" + strings.Repeat("A", 40) + "/1.cms", "proofs/" + strings.Repeat("0", 40) + "/sub/1.cms", "proofs/.tmp-crashed",
	} {
		if err := os.MkdirAll(filepath.Join(at, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, name), []byte("foreign"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantListed(t, d, "", at("keys/payroll/1.1"))
	wantListed(t, d, "keys/payroll/", at("keys/payroll/1.1"))
	wantListed(t, d, "other/")
	wantListed(t, d, "inventory/")
	wantListed(t, d, "proofs/")
	// A leftover is in nobody's way.
	mustPut(t, d, key("payroll", 1, 2), "two")
}

// wantOccupied lists what is no directory and not passed over.
func wantOccupied(t *testing.T, d *Store, prefix string, want ...string) {
	t.Helper()
	var got []string
	for path, err := range d.List(context.Background(), prefix) {
		if err == nil {
			continue
		}
		if got = append(got, path); !errors.Is(err, blob.ErrOccupied) {
			t.Errorf("list of %q: %v", prefix, err)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("list of %q tells of %q, want %q", prefix, got, want)
	}
}

// planted are what somebody with access to the storage can put where an object
// belongs.
func TestPlantedFilesHarmNobody(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d, at := newStore(t)
	outside := t.TempDir()
	secret := filepath.Join(outside, "1.1.cms")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustPut(t, d, key("payroll", 1, 1), "one")
	plant := func(name string, how func(path string) error) {
		t.Helper()
		if err := how(filepath.Join(at, name)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target string) func(string) error {
		return func(path string) error { return os.Symlink(target, path) }
	}
	plant(at("keys/payroll/1.2"), func(p string) error { return syscall.Mkfifo(p, 0o600) })
	plant(at("keys/payroll/1.3"), link(secret))
	plant(at("keys/payroll/1.4"), link("../../../"+filepath.Base(outside)+"/1.1.cms"))
	plant(at("keys/payroll/1.5"), link("1.1.cms"))
	plant(at("keys/payroll/1.6"), link("1.6.cms"))
	plant(at("keys/payroll/1.7"), link("/dev/zero"))
	plant(at("keys/payroll/1.8"), func(p string) error { return os.Mkdir(p, 0o700) })
	plant(at("keys/payroll/1.9"), func(p string) error {
		return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, 100<<30)) // sparse
	})
	plant("keys/loop", link("."))
	plant("keys/other", link("payroll"))
	plant("keys/out", link(outside))
	plant("keys/fifo", func(p string) error { return syscall.Mkfifo(p, 0o600) })

	done := make(chan struct{})
	go func() {
		defer close(done)
		for revision := 2; revision <= 8; revision++ {
			path := key("payroll", 1, revision)
			if data, err := d.Get(ctx, path); !errors.Is(err, blob.ErrOccupied) || !errors.Is(err, blob.ErrIntegrity) {
				t.Errorf("get %s: %.20q, %v", path, data, err)
			}
			if err := d.Put(ctx, path, []byte("x")); !errors.Is(err, blob.ErrOccupied) || errors.Is(err, blob.ErrExists) {
				t.Errorf("put %s: %v", path, err)
			}
		}
		if _, err := d.Get(ctx, key("payroll", 1, 9)); !errors.Is(err, blob.ErrTooLarge) {
			t.Errorf("get of 100 GiB: %v", err)
		}
		if data, err := d.Get(ctx, key("out", 1, 1)); err == nil {
			t.Errorf("get outside: %q", data)
		}
		if err := d.Put(ctx, key("out", 2, 1), []byte("x")); !errors.Is(err, blob.ErrOccupied) {
			t.Errorf("put outside: %v", err)
		}
		// Nor to another place in the store.
		if data, err := d.Get(ctx, key("other", 1, 1)); !errors.Is(err, blob.ErrOccupied) {
			t.Errorf("get elsewhere: %q, %v", data, err)
		}
		if err := d.Put(ctx, key("other", 2, 1), []byte("x")); !errors.Is(err, blob.ErrOccupied) {
			t.Errorf("put elsewhere: %v", err)
		}
		wantOccupied(t, d, "keys/other/", "keys/other")
		if err := d.Put(ctx, key("fifo", 1, 1), []byte("x")); err == nil {
			t.Error("put into a FIFO")
		}
		// None is passed over, but for what could be no directory of ours.
		wantOccupied(t, d, "", "keys/loop", "keys/other", "keys/out")
		wantListed(t, d, "keys/payroll/", at("keys/payroll/1.1"), at("keys/payroll/1.2"), at("keys/payroll/1.3"), at("keys/payroll/1.4"),
			at("keys/payroll/1.5"), at("keys/payroll/1.6"), at("keys/payroll/1.7"), at("keys/payroll/1.8"), at("keys/payroll/1.9"))
		wantOccupied(t, d, "keys/fifo/", "keys/fifo")
	}()
	<-done // or a planted file blocks the reader, until go test ends it
	wantFiles(t, outside, "1.1.cms")
	if data, err := os.ReadFile(secret); string(data) != "secret" {
		t.Errorf("the file outside holds %q, %v", data, err)
	}
	wantObject(t, d, key("payroll", 1, 1), "one")
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
	if d, err := Create(filepath.Join(at, "store")); d != nil || !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("store below a file: %v", err)
	}
}

func TestOnlyTheOwnerCanRead(t *testing.T) {
	t.Parallel()
	d, at := newStore(t)
	mustPut(t, d, key("payroll", 1, 1), "one")
	for name, want := range map[string]fs.FileMode{"": fs.ModeDir | 0o700, "keys": fs.ModeDir | 0o700, "keys/payroll": fs.ModeDir | 0o700, at("keys/payroll/1.1"): 0o600} {
		if info, err := os.Stat(filepath.Join(at, name)); err != nil || info.Mode() != want {
			t.Errorf("%q has mode %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
	if d.String() != at {
		t.Errorf("store says it is in %q", d)
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

// Of a directory with more entries than are read at once nothing is left out or given
// twice, and the blobs of a name come together, before those of names below it.
func TestListsOfLargeDirectories(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	want := map[string]bool{}
	write := func(path string) {
		want[path] = true
		at := filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(at, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range listChunk + 100 {
		write(key("big", 1, i+1))
		write(key(fmt.Sprintf("big/k%d", i), 1, 1))
		write(key(fmt.Sprintf("k%d", i), 1, 1))
	}
	d, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	left, last := map[string]bool{}, ""
	for path, err := range d.List(context.Background(), "keys/") {
		if err != nil || !want[path] {
			t.Fatalf("%q was not stored or was given twice, %v", path, err)
		}
		delete(want, path)
		name, _, _, _ := ParseKeyPath(path)
		if name != last && left[name] {
			t.Fatalf("%q comes in two parts", name)
		}
		if name == "big" && left["big/k1"] {
			t.Fatal("names below come before the blobs of a name")
		}
		last, left[name] = name, true
	}
	if len(want) > 0 {
		t.Errorf("%d of the objects were left out", len(want))
	}
	seen := 0
	for range d.List(context.Background(), "keys/big/") {
		if seen++; seen == 10 {
			break
		}
	}
	if seen != 10 {
		t.Errorf("stopped after %d", seen)
	}
}
