// Package datafile reads the input that a command works on and writes the output that -o names:
// completely or not at all, readable for nobody else, and where the path leads. The rules for whom
// a file may belong to are those of the kernel for sticky directories (proc_sys_fs(5),
// protected_fifos and protected_symlinks), but apply in every directory and need not be turned on.
// Windows has no owners and modes of this kind: there a file is written as its directory allows.
package datafile

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
)

// Write calls f to write to a file, or to stdout if path is "-" or empty. A regular file appears,
// or is replaced, only when f has succeeded and everything is on the disk. Until then it has no
// name, so that nothing is left of it when the program is killed; on a file system without
// O_TMPFILE it has a temporary one.
func Write(ctx context.Context, path string, f func(io.Writer) error) error {
	if out, err := inherited(path); out != nil || err != nil {
		if err != nil {
			return err
		}
		return writeBuffered(out, f)
	}
	t, err := findTarget(path)
	if err != nil {
		return atPath(err, path)
	}
	defer t.close()
	if t.info != nil && !t.info.Mode().IsRegular() {
		out, err := t.openInPlace()
		if err != nil {
			return atPath(err, path)
		}
		return errors.Join(f(out), out.Close())
	}
	return t.replace(ctx, path, f)
}

// atPath replaces the path in an error with the one that the user knows.
func atPath(err error, path string) error {
	if at := (*fs.PathError)(nil); errors.As(err, &at) {
		at.Path = path
	}
	if at := (*os.LinkError)(nil); errors.As(err, &at) {
		return &fs.PathError{Op: "rename", Path: path, Err: at.Err}
	}
	return err
}

// outBuffer is the size of the buffer for small writes. It is smaller than age's chunks of 64 KiB,
// so that these are not copied once more.
const outBuffer = 32 << 10

// writeBuffered calls f with a buffered writer. What f has written before it failed is authentic,
// and is written too.
func writeBuffered(out io.Writer, f func(io.Writer) error) error {
	w := bufio.NewWriterSize(out, outBuffer)
	err := f(w)
	if flushed := w.Flush(); err == nil { // or else it is the same error
		err = flushed
	}
	return err
}

// WriteBytes writes data as [Write] does.
func WriteBytes(ctx context.Context, path string, data []byte) error {
	return Write(ctx, path, func(out io.Writer) error {
		_, err := out.Write(data)
		return err
	})
}

// ToTerminal reports whether the output that -o names is a terminal.
func ToTerminal(path string) bool {
	if path == "" || path == "-" {
		return terminal.Is(os.Stdout)
	}
	if info, err := os.Stat(path); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	f, err := os.OpenFile(path, os.O_WRONLY|withoutEffect, 0)
	if err != nil {
		return false // and writing to it fails as well
	}
	defer f.Close()
	return terminal.Is(f)
}
