package datafile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// createUnnamed creates a file of mode 0600 without a name, which disappears with the process
// (O_TMPFILE, open(2)). The error is an [errors.ErrUnsupported] if the file system or the kernel
// has no such files, or the file could not be given a name.
func createUnnamed(dir *os.File, path string) (*os.File, error) {
	file, err := createAt(dir, ".", unix.O_TMPFILE, path)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL):
		return nil, errors.ErrUnsupported
	case err != nil:
		return nil, err
	}
	if _, err := os.Lstat(procName(file)); err != nil {
		return nil, errors.Join(errors.ErrUnsupported, file.Close())
	}
	return file, nil
}

// linkUnnamed gives such a file a name. By descriptor (AT_EMPTY_PATH) that would need a privilege;
// by /proc it does not.
func linkUnnamed(file, dir *os.File, name string) error {
	err := unix.Linkat(unix.AT_FDCWD, procName(file), int(dir.Fd()), name, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &fs.PathError{Op: "link", Path: name, Err: err}
	}
	return nil
}

func procName(file *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", file.Fd()) }
