// Package ownfile reads the files that a program trusts: its configuration, its secrets, its state.
// Like ssh(1), it reads them only if nobody but this user and root can have written them. Otherwise
// others could run commands as this user, and as root if root runs the program with another user's
// HOME.
//
// The file, and each directory and symbolic link on the way to it, must belong to this user or to
// root, and neither group nor others may be able to write to them. In a sticky directory such as
// /tmp others can write, but cannot replace this user's file; a link of theirs there is refused. The
// checks of the file are made on the open descriptor, so what is read is what was checked.
//
// Windows has neither owners nor modes of this kind. There only kind and size of the file are
// checked.
package ownfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrForeign is the kind of [Error].
var ErrForeign = errors.New("only files that this user or root owns, and nobody else can write to, are trusted")

// Error reports why a file is not trusted. It is an [ErrForeign].
type Error struct {
	Path   string // of the file or of a directory on the way to it
	Reason string

	// Writable is set if the group or others can write to Path.
	Writable bool
}

func (e *Error) Error() string { return fmt.Sprintf("%q %s: %v", e.Path, e.Reason, ErrForeign) }

// Unwrap returns [ErrForeign].
func (e *Error) Unwrap() error { return ErrForeign }

// ErrKind is the error for what is not a regular file, such as a device, and for a file that is
// larger than expected.
var ErrKind = errors.New("not a file of the expected kind")

// Read returns the content of a regular file of at most most bytes. It refuses a named pipe, so that
// it never waits.
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

// CheckPlace checks the existing directories on the way to a file that is going to be made: then
// nobody but this user and root can replace it.
func CheckPlace(path string) error { return checkWay(path, thisUser()) }

// CheckPlaceOf checks the directories on the way to what a user, by number, has made, such as a socket:
// nobody but that user, this one and root can have made it, and its directory is not sticky either.
func CheckPlaceOf(path string, user int) error {
	return errors.Join(checkWayTo(path, thisUser(), user), checkDir(filepath.Dir(path)))
}

// Open opens a regular file for reading. If pipe is set it also opens a pipe, and waits until it has
// a writer; the pipe must belong to this user or root like a file.
func Open(path string, pipe bool) (*os.File, error) { return open(path, pipe, thisUser()) }

func open(path string, pipe bool, user int) (*os.File, error) {
	// Before it is opened: opening some devices has an effect.
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
