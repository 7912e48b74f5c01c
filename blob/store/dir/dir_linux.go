package blob

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// syncFileSystem is syncfs(2): all that is on the file system of f is durable when it
// returns. Since Linux 5.8 it fails when something could not be written since f was
// opened.
func syncFileSystem(f *os.File) error {
	return ignoringEINTR(func() error { return unix.Syncfs(int(f.Fd())) })
}

// renameToNew is renameat2(2) with RENAME_NOREPLACE, within a directory. Where the kernel or
// the file system has none the error is an [errors.ErrUnsupported].
func renameToNew(dir *os.File, from, to string) error {
	at := int(dir.Fd())
	err := ignoringEINTR(func() error { return unix.Renameat2(at, from, at, to, unix.RENAME_NOREPLACE) })
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("renameat2 with RENAME_NOREPLACE: %w", errors.ErrUnsupported)
	case err != nil:
		return fmt.Errorf("renameat2 with RENAME_NOREPLACE: %w", err)
	}
	return nil
}

// readBeneath reads a regular file of at most most bytes below a directory that is open,
// in as few calls as there can be. It says false where the kernel does not keep the path
// below the directory (openat2(2), Linux 5.6), or anything is not as it should be: then
// the slow way finds out what it is.
func readBeneath(dir *os.File, name string, most int64) ([]byte, bool) {
	at := int(dir.Fd())
	var info unix.Stat_t
	// To open a device can act on it, so look first.
	if unix.Fstatat(at, name, &info, unix.AT_SYMLINK_NOFOLLOW) != nil || info.Mode&unix.S_IFMT != unix.S_IFREG || info.Size > most {
		return nil, false
	}
	fd := -1
	err := ignoringEINTR(func() (err error) {
		fd, err = unix.Openat2(at, name, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOFOLLOW | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
		})
		return err
	})
	if err != nil {
		return nil, false
	}
	defer unix.Close(fd)
	// Nothing holds still between the look and the opening.
	if unix.Fstat(fd, &info) != nil || info.Mode&unix.S_IFMT != unix.S_IFREG || info.Size > most {
		return nil, false
	}
	data := make([]byte, info.Size+1) // one more, to see the end, or that it has grown
	size := 0
	for size < len(data) {
		n := 0
		if err := ignoringEINTR(func() (err error) { n, err = unix.Read(fd, data[size:]); return err }); err != nil {
			return nil, false
		}
		if n == 0 {
			return data[:size], true
		}
		size += n
	}
	return nil, false
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
