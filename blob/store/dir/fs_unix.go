//go:build unix

package dir

import (
	"errors"
	"os"
	"syscall"
)

// What files are opened with, so that a FIFO in the place of one blocks nobody.
const (
	nonBlocking = syscall.O_NONBLOCK
	directory   = os.O_RDONLY | syscall.O_NONBLOCK | syscall.O_DIRECTORY
)

// hasModes is set where the mode of a file says who may write to it.
const hasModes = true

func syncFile(f *os.File) error { return f.Sync() }

// lacksLinks reports whether an error of link(2) can mean that the file system has no hard
// links: they have different ones for it.
func lacksLinks(err error) bool {
	for _, code := range []error{syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EMLINK, syscall.EINVAL} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}
