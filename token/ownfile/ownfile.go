// Package ownfile reads the files that tell a program what to do, or what to believe: its
// configuration, its secrets, its state. It reads them as ssh(1) reads its own: only where
// nobody but this user and root can have written them. Whoever else could would run
// commands as this user, and as root where root runs the program with another user's HOME.
//
// The file, and each directory and symbolic link on the way to it, belong to this user or to
// root, and neither group nor others can write to them. In a sticky directory such as /tmp
// others can write, but not exchange a file of ours; a link of theirs there is refused. What
// is read is what was checked: the checks of the file are made on the open descriptor.
//
// Windows has neither owners nor modes of this kind, and there only kind and size of the
// file are checked.
package ownfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ErrForeign is the kind of [Error].
var ErrForeign = errors.New("only files that this user or root owns, and nobody else can write to, are trusted")

// Error reports why a file is not trusted. It is an [ErrForeign].
type Error struct {
	Path   string // of the file or of a directory on the way to it
	Reason string

	// Writable means that the group or others can write to Path.
	Writable bool
}

func (e *Error) Error() string { return fmt.Sprintf("%q %s: %v", e.Path, e.Reason, ErrForeign) }

// Unwrap returns [ErrForeign].
func (e *Error) Unwrap() error { return ErrForeign }

// ErrKind is returned for what is not a regular file, such as a device, and for a file
// that is larger than expected.
var ErrKind = errors.New("not a file of the expected kind")

// Read returns the content of a regular file of at most most bytes. It waits for nothing:
// a named pipe is refused and not read.
func Read(path string, most int) ([]byte, error) {
	f, err := Open(path, false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > most {
		clear(data)
		return nil, fmt.Errorf("%q: %w: it has more than %d bytes", path, ErrKind, most)
	}
	return data, nil
}

// CheckPlace checks the directories on the way to a file that is going to be made, as far as
// there are any: nobody but this user and root can exchange it then.
func CheckPlace(path string) error { return checkWay(path, thisUser()) }

// Open opens a regular file for reading. Where pipe is set it opens a pipe as well, and
// waits until somebody writes to it; the pipe has to be this user's or root's as a file has.
func Open(path string, pipe bool) (*os.File, error) { return open(path, pipe, thisUser()) }

func open(path string, pipe bool, user int) (*os.File, error) {
	// Before it is opened: to open some devices is to use them.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := kind(path, info, pipe); err != nil {
		return nil, err
	}
	if err := checkWay(path, user); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|nonBlocking, 0) // it may be a pipe by now
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil {
		err = errors.Join(kind(path, info, pipe), checkFile(path, info, user))
	}
	if err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		err = awaitWriter(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// kind refuses everything but regular files and, where they are allowed, pipes.
func kind(path string, info fs.FileInfo, pipe bool) error {
	if info.Mode().IsRegular() || pipe && info.Mode()&fs.ModeNamedPipe != 0 {
		return nil
	}
	what := "a device"
	switch mode := info.Mode(); {
	case mode.IsDir():
		what = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		what = "a named pipe"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	}
	return fmt.Errorf("%q: %w: it is %s", path, ErrKind, what)
}
