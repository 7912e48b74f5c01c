//go:build !linux

package blob

import (
	"errors"
	"os"
)

// syncFileSystem is for Linux.
func syncFileSystem(*os.File) error { return errors.ErrUnsupported }

// renameToNew is for Linux.
func renameToNew(*os.File, string, string) error { return errors.ErrUnsupported }

// readBeneath is for Linux.
func readBeneath(*os.File, string, int64) ([]byte, bool) { return nil, false }
