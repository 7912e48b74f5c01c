package datafile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ErrChanged is the error for a file that was changed while it was rewritten.
var ErrChanged = errors.New("it was changed meanwhile, and stays as it is")

// Rewrite calls f with a regular file, and puts what f writes in the place of the file when f has
// succeeded and everything is on the disk. The file keeps its mode, group and time of modification. What
// f writes has no name before, see [Write].
//
// A symbolic link is refused, and so is a file with several names (hard links): the others would keep
// the old content.
func Rewrite(ctx context.Context, path string, f func(in *os.File, out io.Writer) error) error {
	in, info, err := openRegular(path)
	if err != nil {
		return err
	}
	defer in.Close()
	t, err := findTarget(path)
	if err != nil {
		return atPath(err, path)
	}
	defer t.close()
	if !t.is(info) {
		return fmt.Errorf("%q: %w", path, ErrChanged)
	}
	t.rewrites = true
	return t.replace(ctx, path, func(out io.Writer) error { return f(in, out) })
}

// openRegular opens a regular file that has only one name.
func openRegular(path string) (*os.File, fs.FileInfo, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(path)
		if err != nil {
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("%q is a symbolic link to %q: name that file", path, to)
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%q is not a regular file", path)
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	opened, err := in.Stat()
	if err == nil && !os.SameFile(opened, info) {
		err = fmt.Errorf("%q: %w", path, ErrChanged)
	}
	if n := names(opened); err == nil && n > 1 {
		err = fmt.Errorf("%q has %d names (hard links), and the others would keep the old content: find DIRECTORY -samefile %s lists them; keep one, and make the links anew afterwards", path, n, path)
	}
	if err != nil {
		return nil, nil, errors.Join(err, in.Close())
	}
	return in, opened, nil
}

// is reports whether a target is the file as it was, to judge by its size and time.
func (t *target) is(was fs.FileInfo) bool {
	return t.info != nil && os.SameFile(t.info, was) && t.info.Size() == was.Size() && t.info.ModTime().Equal(was.ModTime())
}
