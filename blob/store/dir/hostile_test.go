//go:build unix

package dir

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

func TestForeignFilesAreIgnored(t *testing.T) {
	t.Parallel()
	d, at := newStore(t)
	mustPut(t, d, key("payroll", 1, 1), "one")
	sum := strings.Repeat("0", 64)
	for _, name := range []string{
		".tmp-crashed", "keys/.tmp-crashed", "keys/payroll/.tmp-crashed", object("keys/payroll/01.1"), "keys/payroll/1.2.cms~",
		"keys/payroll/readme", object("keys/1.1"), "readme.cms", object("other/payroll/1.1"), object("keys/.git/1.1"), "keys/payroll/1.1.cms",
		object("keys/Payroll/1.1"), object("keys/x.cms/1.1"), "members/sub/" + sum + ".der", "members/" + sum, "members/.tmp-crashed", "keyring/1.cms",
		"state/readme", "state/0000000/000", "state/0000000/1", "state/9999999/001", "state/001", "packs/" + sum + ".pack", "changes/.tmp-crashed",
		"proofs/" + sum + ".cms", "proofs/anna/" + sum + ".cms", "proofs/" + strings.Repeat("A", 40) + "/" + sum + ".cms", "proofs/" + sum[:40] + "/sub/" + sum + ".cms",
	} {
		if err := os.MkdirAll(filepath.Join(at, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, name), []byte("foreign"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantListed(t, d, "", object("keys/payroll/1.1"))
	wantListed(t, d, "keys/payroll/", object("keys/payroll/1.1"))
	wantListed(t, d, "other/")
	wantListed(t, d, "state/")
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
	slices.Sort(got)
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
	secret := filepath.Join(outside, filepath.Base(key("x", 1, 1)))
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
	plant(object("keys/payroll/1.2"), func(p string) error { return syscall.Mkfifo(p, 0o600) })
	plant(object("keys/payroll/1.3"), link(secret))
	plant(object("keys/payroll/1.4"), link("../../../"+filepath.Base(outside)+"/"+filepath.Base(secret)))
	plant(object("keys/payroll/1.5"), link(filepath.Base(secret)))
	plant(object("keys/payroll/1.6"), link(filepath.Base(key("x", 1, 6))))
	plant(object("keys/payroll/1.7"), link("/dev/zero"))
	plant(object("keys/payroll/1.8"), func(p string) error { return os.Mkdir(p, 0o700) })
	plant(object("keys/payroll/1.9"), func(p string) error {
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
			if data, err := d.GetRange(ctx, path, 0, 1); !errors.Is(err, blob.ErrOccupied) {
				t.Errorf("get a range of %s: %q, %v", path, data, err)
			}
			if err := d.Sync(ctx, path); !errors.Is(err, blob.ErrOccupied) {
				t.Errorf("sync %s: %v", path, err)
			}
			if err := d.Delete(ctx, path); !errors.Is(err, blob.ErrOccupied) {
				t.Errorf("delete %s: %v", path, err)
			}
		}
		if _, err := d.Get(ctx, key("payroll", 1, 9)); !errors.Is(err, blob.ErrTooLarge) {
			t.Errorf("get of 100 GiB: %v", err)
		}
		if data, err := d.GetRange(ctx, key("payroll", 1, 9), 100, 2); string(data) != "\x00\x00" || err != nil {
			t.Errorf("get of a range of 100 GiB: %q, %v", data, err)
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
		if err := d.Delete(ctx, key("other", 1, 1)); !errors.Is(err, blob.ErrOccupied) {
			t.Errorf("delete elsewhere: %v", err)
		}
		if err := d.Sync(ctx, key("other", 1, 1)); !errors.Is(err, blob.ErrOccupied) {
			t.Errorf("sync elsewhere: %v", err)
		}
		wantOccupied(t, d, "keys/other/", "keys/other")
		if err := d.Put(ctx, key("fifo", 1, 1), []byte("x")); err == nil {
			t.Error("put into a FIFO")
		}
		// None is passed over, but for what could be no directory of ours.
		wantOccupied(t, d, "", "keys/loop", "keys/other", "keys/out")
		wantListed(t, d, "keys/payroll/", object("keys/payroll/1.1"), object("keys/payroll/1.2"), object("keys/payroll/1.3"), object("keys/payroll/1.4"),
			object("keys/payroll/1.5"), object("keys/payroll/1.6"), object("keys/payroll/1.7"), object("keys/payroll/1.8"), object("keys/payroll/1.9"))
		wantOccupied(t, d, "keys/fifo/", "keys/fifo")
	}()
	<-done // or a planted file blocks the reader, until go test ends it
	wantFiles(t, outside, filepath.Base(secret))
	if data, err := os.ReadFile(secret); string(data) != "secret" {
		t.Errorf("the file outside holds %q, %v", data, err)
	}
	wantObject(t, d, key("payroll", 1, 1), "one")
}
