//go:build unix && !linux

package datafile

import (
	"errors"
	"os"
)

// createUnnamed and linkUnnamed are for Linux.
func createUnnamed(*os.File, string) (*os.File, error) { return nil, errors.ErrUnsupported }

func linkUnnamed(*os.File, *os.File, string) error { return errors.ErrUnsupported }
