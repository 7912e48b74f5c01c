package ownfile

import (
	"errors"
	"os"
	"path/filepath"
)

// Replace writes a file with mode 0600 atomically, in place of an existing one if there is one. It is
// durable when Replace returns nil. Missing directories are made, with mode 0700.
func Replace(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := MkdirAll(dir); err != nil {
		return err
	}
	if err := CheckPlace(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".tmp-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails when it has its name: good
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return Rename(f.Name(), path)
}

// MkdirAll makes a directory and the missing ones above it, with mode 0700. They are durable when it
// returns nil.
func MkdirAll(dir string) error {
	var made []string
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil || at == filepath.Dir(at) {
			break
		}
		made = append(made, at)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, at := range made {
		if err := syncDirectory(filepath.Dir(at)); err != nil {
			return err
		}
	}
	return nil
}
