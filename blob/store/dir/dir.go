// Package dir keeps the objects of a [blob.Store] in a directory of the file system.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Store is a [blob.Store] and a [blob.Syncer] in a directory of the file system, which
// must have hard links or renameat2(2) with RENAME_NOREPLACE; if it has neither, Put
// returns a [blob.ErrNotExclusive].
//
// An object is written to a temporary file beside its final place, synced, and linked, or
// else renamed, to its final name, which fails if that exists. A crash can leave a
// temporary file, named .tmp-*, which is ignored ever after and may be deleted when no
// writer runs; it cannot leave half an object. Directories stay when they are empty.
//
// What others have put into the directory cannot lead a read or a write out of it
// ([os.Root]), nor make one block: only regular files are read, and symbolic links are
// never followed.
//
// Other errors than those of [blob.Store] keep their cause: [errors.Is] finds ENOSPC,
// EROFS, [fs.ErrPermission].
//
// Windows syncs files, not directories: there an object whose Put has returned may be gone
// after a power failure, until NTFS has written its journal.
type Store struct {
	path    string // absolute
	root    *os.Root
	open    *os.File // the same directory
	durable sync.Map // directories that are durable in the ones above them
	commits commits

	link   func(from, to string) error // link(2); tests have file systems without hard links
	sync   func(*os.File) error        // fsync(2); tests have disks that fail
	syncFS func(*os.File) error        // of all that is on the file's file system
}

var (
	_ blob.Store  = (*Store)(nil)
	_ blob.Syncer = (*Store)(nil)
)

const (
	dirMode  = 0o700 // nothing in a store is secret, but who holds which key is nobody's business
	fileMode = 0o600

	temporaryPrefix = ".tmp-"
)

// Open opens the store in an existing directory. If there is none the error is a
// [blob.ErrNotFound].
func Open(path string) (*Store, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, storeError("open store", path, err)
	}
	open, err := root.Open(".")
	if err != nil {
		return nil, storeError("open store", path, errors.Join(err, root.Close()))
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, storeError("open store", path, errors.Join(err, open.Close(), root.Close()))
	}
	return &Store{path: absolute, root: root, open: open, link: root.Link, sync: syncFile, syncFS: syncFileSystem}, nil
}

// Create makes the directory, and those above it, where they are missing, and opens the
// store in it.
func Create(path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("create store: %w", err)
	}
	var missing []string
	for p := path; ; p = filepath.Dir(p) {
		if _, err := os.Stat(p); err == nil || !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append(missing, p)
	}
	if err := os.MkdirAll(path, dirMode); err != nil {
		return nil, storeError("create store", path, err)
	}
	s, err := Open(path)
	if err != nil {
		return nil, err
	}
	for _, p := range missing {
		// A store that is gone after a power failure takes the keys with it.
		if err := s.syncPath(filepath.Dir(p)); err != nil {
			s.Close()
			return nil, storeError("create store", path, err)
		}
	}
	return s, nil
}

// Close releases the directory.
func (s *Store) Close() error { return errors.Join(s.open.Close(), s.root.Close()) }

// String returns the path of the directory.
func (s *Store) String() string { return s.root.Name() }

// ErrExchanged means that the directory of a store is no longer where it was opened: it was renamed or
// removed, as when a copy is put in its place. It is a [blob.ErrUnavailable].
var ErrExchanged error = exchanged{}

type exchanged struct{}

func (exchanged) Error() string { return "the directory was exchanged since it was opened" }
func (exchanged) Unwrap() error { return blob.ErrUnavailable }

// inPlace returns an [ErrExchanged] if the directory is not where it was opened. What a program that runs
// for long does not find, or writes, in the former one is of no meaning.
func (s *Store) inPlace() error {
	there, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%q is gone: %w", s.path, ErrExchanged)
	}
	if err != nil {
		return nil // nobody may look there any more, say
	}
	if opened, err := s.root.Stat("."); err != nil || !os.SameFile(there, opened) {
		return fmt.Errorf("%q: %w", s.path, ErrExchanged)
	}
	return nil
}

// absent returns the error of what was not found: another one if the directory was exchanged.
func (s *Store) absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		if moved := s.inPlace(); moved != nil {
			return moved
		}
	}
	return err
}

func (s *Store) syncPath(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(s.syncOne(f), f.Close())
}

// check refuses what is no path, and ends what nobody waits for any more.
func check(ctx context.Context, doing, name string) error {
	if err := blob.ValidPath(name); err != nil {
		return err
	}
	return storeError(doing, name, ctx.Err())
}

// occupied returns a [blob.ErrOccupied] when dir, or something above it, is there and not
// a directory.
func (s *Store) occupied(dir string) error {
	for ; dir != "."; dir = path.Dir(dir) {
		if err := s.isDirectory(dir); errors.Is(err, blob.ErrOccupied) {
			return err
		}
	}
	return nil
}

// isDirectory returns a [blob.ErrOccupied] when there is something else. Also a symbolic
// link to a directory of the store is something else: List does not follow it, so there
// would be objects of which some readers know nothing.
func (s *Store) isDirectory(at string) error {
	info, err := s.root.Lstat(at)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%w: %s is %s", blob.ErrOccupied, at, kind(info))
	}
	return err
}

// regular returns a [blob.ErrOccupied] when a file is not a regular one.
func regular(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s", blob.ErrOccupied, kind(info))
	}
	return nil
}

// kind returns what is in the way.
func kind(info fs.FileInfo) string {
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return "a regular file"
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}

// storeError says what failed on what, in the terms of [blob.Store] where it has them, and
// keeps the cause otherwise.
func storeError(doing, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		err = blob.ErrExists
	case errors.Is(err, fs.ErrNotExist):
		err = blob.ErrNotFound
	}
	return fmt.Errorf("%s %s: %w", doing, name, err)
}
