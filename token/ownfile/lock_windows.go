package ownfile

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// Lock waits until no other process has the file locked, locks it, and returns the function that
// unlocks it. A missing file is made.
func Lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, new(windows.Overlapped)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil // closing it unlocks
}
