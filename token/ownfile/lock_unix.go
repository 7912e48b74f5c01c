//go:build unix

package ownfile

import (
	"errors"
	"os"
	"syscall"
)

// Lock waits until no other process has the file locked, locks it, and returns the function that
// unlocks it. A missing file is made, with mode 0600.
func Lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil // closing it unlocks
}
