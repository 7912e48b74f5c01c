package dir

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Windows has no FIFOs in directories.
const (
	nonBlocking = 0
	directory   = os.O_RDONLY
)

// hasModes is not set: access control lists say who may write to a file.
const hasModes = false

// syncFile syncs what is open for writing. FlushFileBuffers refuses other files, and
// directories.
func syncFile(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, syscall.ERROR_ACCESS_DENIED) {
		return fmt.Errorf("%w: %v", errors.ErrUnsupported, err)
	}
	return err
}

// errInvalidFunction is ERROR_INVALID_FUNCTION, which is what FAT says to CreateHardLink.
const errInvalidFunction = syscall.Errno(1)

// lacksLinks reports whether an error can mean that the file system has no hard links.
func lacksLinks(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, errInvalidFunction)
}
