package dir

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
// in as few calls as there can be. It reports false where the kernel does not keep the path
// below the directory (openat2(2), Linux 5.6), or anything is not as it should be: then
// the slow way finds out what it is.
func readBeneath(dir *os.File, name string, most int64) ([]byte, bool) {
	fd, size, ok := openBeneath(dir, name)
	if !ok {
		return nil, false
	}
	defer unix.Close(fd)
	if size > most {
		return nil, false
	}
	data := make([]byte, size+1) // one more, to see the end, or that it has grown
	n, ok := readAt(fd, data, 0)
	return data[:n], ok && int64(n) <= size
}

// readRangeBeneath is readBeneath for a part of a file.
func readRangeBeneath(dir *os.File, name string, offset int64, length int) ([]byte, bool) {
	fd, size, ok := openBeneath(dir, name)
	if !ok {
		return nil, false
	}
	defer unix.Close(fd)
	if offset+int64(length) > size {
		return nil, false
	}
	data := make([]byte, length)
	n, ok := readAt(fd, data, offset)
	return data, ok && n == length
}

func openBeneath(dir *os.File, name string) (fd int, size int64, ok bool) {
	at := int(dir.Fd())
	var info unix.Stat_t
	// To open a device can act on it, so look first.
	if unix.Fstatat(at, name, &info, unix.AT_SYMLINK_NOFOLLOW) != nil || info.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, 0, false
	}
	err := ignoringEINTR(func() (err error) {
		fd, err = unix.Openat2(at, name, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOFOLLOW | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
		})
		return err
	})
	if err != nil {
		return -1, 0, false
	}
	// Nothing holds still between the look and the opening.
	if unix.Fstat(fd, &info) != nil || info.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return -1, 0, false
	}
	return fd, info.Size, true
}

// readAt reads until data is full or the file ends.
func readAt(fd int, data []byte, offset int64) (size int, ok bool) {
	for size < len(data) {
		n := 0
		err := ignoringEINTR(func() (err error) { n, err = unix.Pread(fd, data[size:], offset+int64(size)); return err })
		if err != nil {
			return size, false
		}
		if n == 0 {
			break
		}
		size += n
	}
	return size, true
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
