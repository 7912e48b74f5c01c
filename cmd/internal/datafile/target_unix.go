//go:build unix

package datafile

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hsmkeys/hsmkeys/token/ownfile"
	"golang.org/x/sys/unix"
)

// withoutEffect opens a terminal that does not become that of the process, and does not wait for the
// other end of a FIFO.
const withoutEffect = unix.O_NOCTTY | unix.O_NONBLOCK

// inherited returns the file behind the names that systems have for stdout and other open
// descriptors, or nil. Whoever opened them has chosen them; /dev/fd/63 is what a shell passes for
// >(command).
func inherited(path string) (*os.File, error) {
	number, ok := strings.CutPrefix(path, "/dev/fd/")
	if !ok {
		number, ok = strings.CutPrefix(path, "/proc/self/fd/")
	}
	switch {
	case path == "" || path == "-" || path == "/dev/stdout" || ok && number == "1":
		return os.Stdout, nil
	case path == "/dev/stderr" || ok && number == "2":
		return os.Stderr, nil
	case !ok:
		return nil, nil
	}
	fd, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_ACCMODE == unix.O_RDONLY {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EBADF}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// A target is where a path leads: a name in an open directory, so that both stay the same whatever
// is renamed meanwhile.
type target struct {
	root *os.Root
	dir  *os.File // the same directory
	name string
	path string      // with the directory, for errors
	info fs.FileInfo // of what is there; nil for nothing

	rewrites bool // the file keeps its mode, group and time, unless it was changed meanwhile
}

func (t *target) close() { _ = errors.Join(t.dir.Close(), t.root.Close()) }

// maxLinks is how many symbolic links in a row are followed; the kernel has the same limit.
const maxLinks = 40

// findTarget follows symbolic links as cp(1) does, which refuses one that leads nowhere.
func findTarget(path string) (*target, error) {
	link := ""
	for range maxLinks {
		t, err := lookAt(path)
		switch {
		case err != nil:
			return nil, err
		case t.info == nil && link != "":
			t.close()
			return nil, fmt.Errorf("%q is a symbolic link to %q, which does not exist: %w", link, path, fs.ErrNotExist)
		case t.info == nil || t.info.Mode()&fs.ModeSymlink == 0:
			if err := t.refuse(); err != nil {
				t.close()
				return nil, err
			}
			return t, nil
		}
		link = path
		to, err := t.follow()
		t.close()
		if err != nil {
			return nil, err
		}
		if !filepath.IsAbs(to) {
			dir, _ := filepath.Split(path)
			to = dir + to // not cleaned: the directory may be a link, and ".." is not the one before it
		}
		path = to
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
}

func lookAt(path string) (*target, error) {
	dir, name := filepath.Split(path)
	if name == "" || name == "." || name == ".." {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
	}
	if dir == "" {
		dir = "."
	}
	walked, err := checkLinks(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	open, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if info, err := open.Stat(); err != nil || !os.SameFile(info, walked) {
		if err == nil {
			err = fmt.Errorf("%q was exchanged while it was opened", dir)
		}
		return nil, errors.Join(err, open.Close(), root.Close())
	}
	t := &target{root: root, dir: open, name: name, path: path}
	if t.info, err = root.Lstat(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.close()
		return nil, err
	}
	return t, nil
}

// checkLinks checks the symbolic links through which the path of a directory leads, and returns the
// directory.
func checkLinks(dir string) (last fs.FileInfo, err error) {
	err = ownfile.Walk(dir, func(path string, info, in fs.FileInfo) error {
		if info.Mode()&fs.ModeSymlink != 0 {
			return checkLink(path, info, in)
		}
		last = info
		return nil
	})
	return last, err
}

// checkLink refuses a symbolic link that must not be followed. In a directory where anybody may
// create links, it has to belong to this user or to the directory's owner; nobody else can exchange
// such a link after this check.
func checkLink(path string, link, dir fs.FileInfo) error {
	if dir.Mode()&fs.ModeSticky != 0 && dir.Mode().Perm()&0o002 != 0 && owner(link) != os.Geteuid() && owner(link) != owner(dir) {
		return refused(path, link)
	}
	return nil
}

// follow reads a symbolic link.
func (t *target) follow() (string, error) {
	dir, err := t.dir.Stat()
	if err != nil {
		return "", err
	}
	if err := checkLink(t.path, t.info, dir); err != nil {
		return "", err
	}
	return t.root.Readlink(t.name)
}

// refuse refuses a file of another user, who could read or keep what is written. Devices are
// root's.
func (t *target) refuse() error {
	switch {
	case t.info == nil:
		return nil
	case t.info.IsDir():
		return &fs.PathError{Op: "open", Path: t.name, Err: syscall.EISDIR}
	case owner(t.info) == os.Geteuid(), owner(t.info) == 0 && t.info.Mode()&fs.ModeDevice != 0:
		return nil
	}
	return refused(t.path, t.info)
}

func refused(path string, info fs.FileInfo) error {
	kind := "a regular file"
	switch mode := info.Mode(); {
	case mode&fs.ModeSymlink != 0:
		kind = "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		kind = "a FIFO"
	case mode&fs.ModeSocket != 0:
		kind = "a socket"
	case mode&fs.ModeDevice != 0:
		kind = "a device"
	}
	return fmt.Errorf("refusing to write to %q: it is %s that belongs to another user (uid %d)", path, kind, owner(info))
}

func owner(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// openInPlace opens a device or a FIFO, and makes sure before anything is written that it is the
// one that was checked.
func (t *target) openInPlace() (*os.File, error) {
	out, err := t.root.OpenFile(t.name, os.O_WRONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	info, err := out.Stat()
	if err == nil && !os.SameFile(info, t.info) {
		err = fmt.Errorf("%q was exchanged while it was opened", t.path)
	}
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

// replace calls f to write a new file of mode 0600, and moves it to the target, which the user
// knows as path.
func (t *target) replace(ctx context.Context, path string, f func(io.Writer) error) (err error) {
	temporary := ""
	remove := func() {
		if temporary != "" {
			_ = t.root.Remove(temporary)
		}
	}
	file, err := newUnnamed(t.dir, path)
	if errors.Is(err, errors.ErrUnsupported) {
		name := temporaryName()
		if file, err = createAt(t.dir, name, unix.O_CREAT|unix.O_EXCL, path); err == nil {
			temporary = name
			// Also when the program is interrupted while it waits for its input.
			defer context.AfterFunc(ctx, remove)()
		}
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			remove()
		}
	}()
	defer file.Close()
	if t.rewrites {
		if err := t.keepMode(file); err != nil {
			return atPath(err, path)
		}
	}
	if err := writeBuffered(&early{file: file}, f); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if temporary == "" && t.info == nil {
		err := linkUnnamed(file, t.dir, t.name)
		if err == nil {
			return atPath(t.dir.Sync(), path)
		}
		if !errors.Is(err, fs.ErrExist) {
			return atPath(err, path)
		}
		// Somebody has made one meanwhile, which is replaced as one from before is.
	}
	if temporary == "" {
		name := temporaryName() // for no longer than the rename takes that follows
		if err := linkUnnamed(file, t.dir, name); err != nil {
			return atPath(err, path)
		}
		temporary = name
	}
	if err := file.Close(); err != nil {
		return err
	}
	if t.rewrites {
		if err := t.keepTime(temporary, path); err != nil {
			return atPath(err, path)
		}
	}
	if err := t.root.Rename(temporary, t.name); err != nil {
		return atPath(err, path)
	}
	return atPath(t.dir.Sync(), path)
}

// keepMode gives a new file the mode and the group of the target.
func (t *target) keepMode(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if gid := t.info.Sys().(*syscall.Stat_t).Gid; gid != info.Sys().(*syscall.Stat_t).Gid {
		if err := file.Chown(-1, int(gid)); err != nil {
			return err
		}
	}
	return file.Chmod(t.info.Mode())
}

// keepTime gives a new file the time of modification of the target, if that was not changed meanwhile.
func (t *target) keepTime(name, path string) error {
	now, err := t.root.Lstat(t.name)
	if err != nil {
		return err
	}
	if !t.is(now) {
		return fmt.Errorf("%q: %w", path, ErrChanged)
	}
	return t.root.Chtimes(name, time.Time{}, t.info.ModTime())
}

// names returns how many names a file has.
func names(info fs.FileInfo) int {
	if info == nil {
		return 0
	}
	return int(info.Sys().(*syscall.Stat_t).Nlink)
}

// createAt creates a file of mode 0600 in a directory. Errors name it by path.
func createAt(dir *os.File, name string, flags int, path string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

var newUnnamed = createUnnamed // tests have a file system that cannot

func temporaryName() string { return ".hsmkeys-" + rand.Text() }

// TryUnnamed creates a file without a name in a directory, as [Write] does, and closes it. The
// error is an [errors.ErrUnsupported] if the file system has no such files.
func TryUnnamed(dir string) error {
	open, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer open.Close()
	file, err := newUnnamed(open, dir)
	if err != nil {
		return err
	}
	return file.Close()
}
