package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

// The tests here want a process of their own: one that may mount file systems,
// with which the mounts go, or that sets limits, which are for a whole process.
// Each runs the test binary again, as this environment variable tells it.
const inProcess = "HSMKEYS_TEST_IN_PROCESS"

// inNamespace runs body in a mount namespace of its own, where the test is root
// even when its user is not.
func inNamespace(t *testing.T, body func(t *testing.T)) {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	inOwnProcess(t, attr, body)
}

func inOwnProcess(t *testing.T, attr *syscall.SysProcAttr, body func(t *testing.T)) {
	t.Helper()
	if os.Getenv(inProcess) == t.Name() {
		body(t)
		return
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), inProcess+"="+t.Name())
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v (as user %d; without root some of these tests need user namespaces)\n%s", err, os.Getuid(), out)
	}
}

// mountSmall gives a store on a file system of 256 KiB.
func mountSmall(t *testing.T) (*Store, string) {
	t.Helper()
	// Without this the mount would be seen outside as well.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatalf("make mounts private: %v", err)
	}
	at := t.TempDir()
	if err := syscall.Mount("tmpfs", at, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(at, syscall.MNT_DETACH) })
	d, err := Open(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, at
}

func TestAFullDiskLeavesTheStoreAsItWas(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		ctx := context.Background()
		d, at := mountSmall(t)
		mustPut(t, d, key("payroll", 1, 1), "one")
		if err := os.WriteFile(filepath.Join(at, "filler"), make([]byte, 200<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		// In a directory that is there, and in some that must be made.
		for _, path := range []string{key("payroll", 1, 2), key("a/b/c", 1, 1), members} {
			err := d.Put(ctx, path, make([]byte, 100<<10))
			if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, blob.ErrIntegrity) {
				t.Errorf("put on a full disk: %v", err)
			}
			wantFiles(t, at, "filler", object("keys/payroll/1.1"))
		}
		wantObject(t, d, key("payroll", 1, 1), "one")
		// The name is not stuck.
		if err := os.Remove(filepath.Join(at, "filler")); err != nil {
			t.Fatal(err)
		}
		mustPut(t, d, key("payroll", 1, 2), "two")
		mustPut(t, d, key("a/b/c", 1, 1), "three")
	})
}

// A file system can also be out of i-nodes, which fails at another call.
func TestADiskWithoutInodesLeavesTheStoreAsItWas(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		d, at := mountSmall(t)
		mustPut(t, d, key("payroll", 1, 1), "one")
		// Now 4 are in use, with the root. A new object takes three for its
		// directories, one for the file and, on tmpfs, one for its second
		// name: each step gets one call further.
		for free := range 4 {
			if err := syscall.Mount("", at, "", syscall.MS_REMOUNT, fmt.Sprintf("nr_inodes=%d", 5+free)); err != nil {
				t.Fatalf("remount: %v", err)
			}
			if err := d.Put(context.Background(), key("a/b/c", 1, 1), []byte("x")); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("put with %d i-nodes free: %v", free, err)
			}
			wantFiles(t, at, object("keys/payroll/1.1"))
		}
	})
}

func TestAReadOnlyStoreCanBeRead(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		d, at := mountSmall(t)
		mustPut(t, d, key("payroll", 1, 1), "one")
		if err := syscall.Mount("", at, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Fatalf("remount read-only: %v", err)
		}
		for _, path := range []string{key("payroll", 1, 2), key("billing", 1, 1), members} {
			if err := d.Put(context.Background(), path, nil); !errors.Is(err, syscall.EROFS) || errors.Is(err, blob.ErrNotFound) {
				t.Errorf("put: %v", err)
			}
		}
		wantObject(t, d, key("payroll", 1, 1), "one")
		wantListed(t, d, "", object("keys/payroll/1.1"))
		if err := d.Sync(context.Background(), key("payroll", 1, 1)); err != nil {
			t.Errorf("sync: %v", err)
		}
		if err := d.Delete(context.Background(), key("payroll", 1, 1)); !errors.Is(err, syscall.EROFS) {
			t.Errorf("delete: %v", err)
		}
	})
}

// A file can hold more than it says, and so can one that grows.
func TestAFileThatSaysItIsSmallIsNotReadWithoutEnd(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		d, at := mountSmall(t)
		mustPut(t, d, key("payroll", 1, 1), "one")
		const symbols = "/proc/kallsyms" // a regular file of 0 bytes that reads as some megabytes
		if err := syscall.Mount(symbols, filepath.Join(at, object("keys/payroll/1.1")), "", syscall.MS_BIND, ""); err != nil {
			t.Fatalf("mount %s: %v", symbols, err)
		}
		if data, err := d.Get(context.Background(), key("payroll", 1, 1)); !errors.Is(err, blob.ErrTooLarge) {
			t.Errorf("got %d bytes, %v", len(data), err)
		}
	})
}

// asNobody gives a store of a user to whom modes mean something.
func asNobody(t *testing.T, body func(t *testing.T, d *Store, at string)) {
	inOwnProcess(t, nil, func(t *testing.T) {
		d, at := newStore(t)
		mustPut(t, d, key("payroll", 1, 1), "one")
		// The way to the store may be closed to others.
		if err := os.Chdir(at); err != nil {
			t.Fatal(err)
		}
		if os.Getuid() != 0 {
			body(t, d, ".")
			return
		}
		const nobody = 65534
		for _, name := range []string{"", "keys", "keys/payroll", object("keys/payroll/1.1")} {
			if err := os.Chown(filepath.Join(".", name), nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
		if err := syscall.Setreuid(-1, nobody); err != nil {
			t.Fatal(err)
		}
		defer syscall.Setreuid(-1, 0)
		body(t, d, ".")
	})
}

// setMode changes a mode until the test ends.
func setMode(t *testing.T, at, name string, mode fs.FileMode) {
	t.Helper()
	before, err := os.Stat(filepath.Join(at, name))
	if err == nil {
		err = os.Chmod(filepath.Join(at, name), mode)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(at, name), before.Mode().Perm()) })
}

func TestADeniedPermissionIsNotAnEmptyStore(t *testing.T) {
	asNobody(t, func(t *testing.T, d *Store, at string) {
		ctx := context.Background()
		setMode(t, at, "keys/payroll", 0o500)
		if err := d.Put(ctx, key("payroll", 1, 2), nil); !errors.Is(err, fs.ErrPermission) || errors.Is(err, blob.ErrNotFound) {
			t.Errorf("put: %v", err)
		}
		wantObject(t, d, key("payroll", 1, 1), "one")
		setMode(t, at, "keys/payroll", 0)
		if _, err := d.Get(ctx, key("payroll", 1, 1)); !errors.Is(err, fs.ErrPermission) || errors.Is(err, blob.ErrNotFound) {
			t.Errorf("get: %v", err)
		}
		n := 0
		for path, err := range d.List(ctx, "") {
			if n++; path != "keys/payroll" || !errors.Is(err, fs.ErrPermission) {
				t.Errorf("list: %q, %v", path, err)
			}
		}
		if n != 1 {
			t.Errorf("list gave %d times", n)
		}
	})
}

func TestDirectoriesOfOthersAreNotRead(t *testing.T) {
	asNobody(t, func(t *testing.T, d *Store, at string) {
		for _, name := range []string{"lost+found", "keys/.snapshots", "keys/Other"} {
			if err := os.Mkdir(filepath.Join(at, name), 0); err != nil {
				t.Fatal(err)
			}
		}
		wantListed(t, d, "", object("keys/payroll/1.1"))
	})
}

// A quota or a limit can stop a write half-way through a file.
func TestAWriteCutShortLeavesNothing(t *testing.T) {
	inOwnProcess(t, nil, func(t *testing.T) {
		d, at := newStore(t)
		signal.Ignore(syscall.SIGXFSZ)
		var before syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1000, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		defer syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before) // for the coverage file
		if err := d.Put(context.Background(), key("payroll", 1, 1), make([]byte, 1001)); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("put: %v", err)
		}
		wantFiles(t, at)
		mustPut(t, d, key("payroll", 1, 1), strings.Repeat("x", 1000))
		wantFiles(t, at, object("keys/payroll/1.1"))
	})
}

func withoutLinks(d *Store) {
	d.link = func(from, to string) error {
		return &os.LinkError{Op: "linkat", Old: from, New: to, Err: syscall.EPERM}
	}
}

// A file system without hard links renames, and does not replace.
func TestAStoreWithoutHardLinks(t *testing.T) {
	ofManyWritersOneWins(t, withoutLinks)
	d, at := newStore(t)
	withoutLinks(d)
	if err := d.TryWrite(context.Background()); err != nil {
		t.Error(err)
	}
	mustPut(t, d, members, "one")
	if err := d.Put(context.Background(), members, []byte("another")); !errors.Is(err, blob.ErrExists) {
		t.Error(err)
	}
	wantObject(t, d, members, "one")
	wantFiles(t, at, members)
}

// A link that fails for a reason of its own is not tried as a rename.
func TestALinkThatFails(t *testing.T) {
	d, at := newStore(t)
	d.link = func(string, string) error { return &os.LinkError{Op: "linkat", Err: syscall.EIO} }
	if err := d.Put(context.Background(), members, []byte("x")); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	if err := d.TryWrite(context.Background()); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	wantFiles(t, at)
}

// TryWrite finds a file system that replaces what must not be replaced.
func TestAFileSystemThatReplaces(t *testing.T) {
	d, at := newStore(t)
	d.link = func(from, to string) error { return d.root.Rename(from, to) }
	if err := d.TryWrite(context.Background()); !errors.Is(err, blob.ErrNotExclusive) {
		t.Error(err)
	}
	wantFiles(t, at)
}
