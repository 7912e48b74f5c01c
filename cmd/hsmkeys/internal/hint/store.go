package hint

import (
	"errors"
	"syscall"

	"github.com/hsmkeys/hsmkeys/blob"
)

// store returns hints for errors of package blob, its stores and the file system.
func store(err error) string {
	switch {
	case errors.Is(err, blob.ErrOccupied):
		return "hsmkeys has not made it: look at it, and take it away"
	case errors.Is(err, blob.ErrNotExclusive):
		return "keep the store on another file system, such as ext4, XFS, Btrfs or NFS; copies of it may lie anywhere"
	case errors.Is(err, syscall.ENOSPC):
		return "the disk is full; what was stored before is not touched"
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "the directory or file cannot be written or read by this user"
	case errors.Is(err, blob.ErrName):
		return "names are segments of a-z 0-9 . _ - joined by /, at most 128 bytes, none starting with . or ending in .cms"
	}
	return ""
}
