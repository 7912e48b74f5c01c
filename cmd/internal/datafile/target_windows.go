package datafile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

const withoutEffect = 0

// inherited returns stdout where it is meant, or nil.
func inherited(path string) (*os.File, error) {
	if path == "" || path == "-" {
		return os.Stdout, nil
	}
	return nil, nil
}

// A target is where a path leads.
type target struct {
	path string
	info fs.FileInfo // of what is there; nil for nothing

	rewrites bool // the file keeps its time, unless it was changed meanwhile
}

func (t *target) close() {}

// findTarget follows symbolic links.
func findTarget(path string) (*target, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &target{path: path}, nil
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
	case info.Mode().IsRegular():
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, err
		}
	}
	return &target{path: path, info: info}, nil
}

// openInPlace opens a device, such as NUL.
func (t *target) openInPlace() (*os.File, error) { return os.OpenFile(t.path, os.O_WRONLY, 0) }

// replace calls f to write a new file, and moves it to the target, which the user knows as path.
func (t *target) replace(ctx context.Context, path string, f func(io.Writer) error) (err error) {
	file, err := os.CreateTemp(filepath.Dir(t.path), ".hsmkeys-*")
	if err != nil {
		return atPath(err, path)
	}
	remove := func() {
		_ = file.Close() // Windows does not remove what is open
		_ = os.Remove(file.Name())
	}
	defer context.AfterFunc(ctx, remove)()
	defer func() {
		if err != nil {
			remove()
		}
	}()
	if err := writeBuffered(&early{file: file}, f); err != nil {
		return err
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return err
	}
	if t.rewrites {
		now, err := os.Stat(t.path)
		if err == nil && !t.is(now) {
			err = fmt.Errorf("%q: %w", path, ErrChanged)
		}
		if err == nil {
			err = os.Chtimes(file.Name(), time.Time{}, t.info.ModTime())
		}
		if err != nil {
			return err
		}
	}
	return atPath(ownfile.Rename(file.Name(), t.path), path)
}

// names returns 1: how many names a file has is not looked up on Windows.
func names(fs.FileInfo) int { return 1 }

// TryUnnamed returns [errors.ErrUnsupported]: Windows has no files without a name.
func TryUnnamed(string) error { return errors.ErrUnsupported }
