package ownfile

import (
	"os"

	"golang.org/x/sys/windows"
)

// Rename renames a file, in place of an existing one if there is one. The new name is durable when it
// returns nil (MOVEFILE_WRITE_THROUGH).
func Rename(from, to string) error {
	old, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	name, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	if err := windows.MoveFileEx(old, name, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// syncDirectory does nothing on Windows, which does not sync directories: their file systems keep a
// journal.
func syncDirectory(string) error { return nil }
