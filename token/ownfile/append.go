package ownfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Append opens a regular file to append to it and to read it. A missing file is made with mode 0600, and
// durable when Append returns nil; its directory must exist. A symbolic link is refused.
func Append(path string) (*os.File, error) { return openAppend(path, thisUser()) }

func openAppend(path string, user int) (*os.File, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, fmt.Errorf("%q: %w: it is a symbolic link", path, ErrKind)
	default:
		if err := kind(path, info, false); err != nil { // before it is opened, which has an effect on some devices
			return nil, err
		}
	}
	if err := checkWay(path, user); err != nil {
		return nil, err
	}
	f, made, err := createOrOpen(path)
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil {
		err = errors.Join(kind(path, info, false), checkFile(path, info, user))
	}
	if err == nil && made {
		err = syncDirectory(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// createOrOpen reports whether it has made the file. Others may make and rename it at the same time.
func createOrOpen(path string) (f *os.File, made bool, err error) {
	const flags = os.O_RDWR | os.O_APPEND | nonBlocking | noFollow
	for range 3 {
		if f, err = os.OpenFile(path, flags, 0); !errors.Is(err, fs.ErrNotExist) {
			return f, false, err
		}
		if f, err = os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, 0o600); !errors.Is(err, fs.ErrExist) {
			return f, true, err
		}
	}
	return nil, false, err
}
