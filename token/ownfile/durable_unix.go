//go:build unix

package ownfile

import (
	"errors"
	"os"
	"path/filepath"
)

// Rename renames a file, in place of an existing one if there is one. The new name is durable when it
// returns nil.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(to))
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
