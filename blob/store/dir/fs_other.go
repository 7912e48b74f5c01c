//go:build !linux

package dir

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

// readRangeBeneath is for Linux.
func readRangeBeneath(*os.File, string, int64, int) ([]byte, bool) { return nil, false }
