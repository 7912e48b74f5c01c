package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"
)

// A Dir is a [Store] in a directory of the file system, which must have hard
// links or renameat2(2) with RENAME_NOREPLACE; if it has neither, Put returns an
// [ErrNotExclusive].
//
// An object is written to a temporary file beside its final place, synced, and
// linked, or else renamed, to its final name, which fails if that exists. A crash
// can leave a temporary file, named .tmp-*, which is ignored ever after and may be
// deleted when no writer runs; it cannot leave half an object.
//
// What others have put into the directory cannot lead a read or a write out of
// it ([os.Root]), nor make one block: only regular files are read.
//
// Other errors than those of [Store] keep their cause: [errors.Is] finds
// ENOSPC, EROFS, [fs.ErrPermission].
type Dir struct {
	root    *os.Root
	open    *os.File // the same directory
	durable sync.Map // directories that are durable in the ones above them
	commits commits

	link   func(from, to string) error // link(2); tests have file systems without hard links
	sync   func(*os.File) error        // fsync(2); tests have disks that fail
	syncFS func(*os.File) error        // of all that is on the file's file system
}

const (
	dirMode  = 0o700 // nothing in a store is secret, but who holds which key is nobody's business
	fileMode = 0o600

	temporaryPrefix = ".tmp-"
)

// OpenDir opens the store in an existing directory. If there is none the error
// is an [ErrNotFound].
func OpenDir(path string) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, storeError("open store", path, err)
	}
	open, err := root.Open(".")
	if err != nil {
		return nil, storeError("open store", path, errors.Join(err, root.Close()))
	}
	return &Dir{root: root, open: open, link: root.Link, sync: (*os.File).Sync, syncFS: syncFileSystem}, nil
}

// CreateDir makes the directory, and those above it, where they are missing,
// and opens the store in it.
func CreateDir(path string) (*Dir, error) {
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
	d, err := OpenDir(path)
	if err != nil {
		return nil, err
	}
	for _, p := range missing {
		// A store that is gone after a power failure takes the keys with it.
		if err := d.syncPath(filepath.Dir(p)); err != nil {
			d.Close()
			return nil, storeError("create store", path, err)
		}
	}
	return d, nil
}

// Close releases the directory.
func (d *Dir) Close() error { return errors.Join(d.open.Close(), d.root.Close()) }

// String gives the path of the directory.
func (d *Dir) String() string { return d.root.Name() }

// Put implements [Store].
func (d *Dir) Put(ctx context.Context, name string, data []byte) error {
	if err := validPath(name); err != nil {
		return err
	}
	if len(data) > MaxSize {
		return fmt.Errorf("%w: store %s: %d bytes, at most %d are allowed", ErrTooLarge, name, len(data), MaxSize)
	}
	// Another writer that fails removes the directories it made, maybe under
	// our feet. One try more for each writer that might is plenty.
	var err error
	for range 16 {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("store %s: %w", name, err)
		}
		if err = d.put(name, data); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return storeError("store", name, err)
}

func (d *Dir) put(name string, data []byte) (err error) {
	dir := path.Dir(name)
	made, err := d.makeDirs(dir)
	defer func() {
		if err != nil {
			for _, p := range made {
				d.root.Remove(p) // fails when somebody has put something there: good
			}
		}
	}()
	if err != nil {
		return err
	}
	temporary := path.Join(dir, temporaryPrefix+rand.Text())
	defer d.root.Remove(temporary)
	if err := d.writeFile(temporary, data); err != nil {
		return err
	}
	placed := d.place(temporary, name)
	if placed != nil && !errors.Is(placed, fs.ErrExist) {
		return placed
	}
	// Who is told that an object exists looks for it, and tries again where it does not
	// find one: somebody's symbolic link would keep it busy for ever.
	if placed != nil {
		if info, err := d.root.Lstat(name); err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("%w: %s", ErrOccupied, kind(info))
		}
	}
	// When the object was there already its writer may have died, or the
	// machine be about to, before its name was on disk. The caller will build
	// on it, so this writer makes it durable.
	if err := d.syncDirs(dir); err != nil {
		return err
	}
	return placed
}

// place gives a temporary file its final name, unless something has that already, which is
// an fs.ErrExist. The temporary name may or may not be there afterwards.
func (d *Dir) place(temporary, name string) error {
	linked := d.link(temporary, name)
	if !lacksLinks(linked) {
		return linked
	}
	dir, err := d.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	renamed := renameToNew(dir, path.Base(temporary), path.Base(name))
	if errors.Is(renamed, errors.ErrUnsupported) {
		renamed = fmt.Errorf("%w (%v)", ErrNotExclusive, cause(linked))
	}
	return errors.Join(renamed, dir.Close())
}

// lacksLinks reports whether an error of link(2) can mean that the file system has no hard
// links: they have different ones for it.
func lacksLinks(err error) bool {
	for _, code := range []error{syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EMLINK, syscall.EINVAL} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// cause returns the error of a system call without the paths of our temporary files.
func cause(err error) error {
	if at := (*os.LinkError)(nil); errors.As(err, &at) {
		return fmt.Errorf("link: %v", at.Err)
	}
	return err
}

// makeDirs makes dir and those above it, and gives the new ones, deepest
// first.
func (d *Dir) makeDirs(dir string) (made []string, err error) {
	if dir == "." {
		return nil, nil
	}
	if made, err = d.makeDirs(path.Dir(dir)); err != nil {
		return made, err
	}
	switch err := d.root.Mkdir(dir, dirMode); {
	case err == nil:
		return append([]string{dir}, made...), nil
	case errors.Is(err, fs.ErrExist):
		return made, d.isDirectory(dir)
	default:
		return made, err
	}
}

// isDirectory says what else is at this path. Also a symbolic link to a directory of the
// store is something else: List does not follow it, so there would be keys of which list
// and rewrap know nothing.
func (d *Dir) isDirectory(at string) error {
	info, err := d.root.Lstat(at)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%w: %s is %s", ErrOccupied, at, kind(info))
	}
	return err
}

// areDirectories says what else is at this path or above.
func (d *Dir) areDirectories(at string) error {
	for ; at != "."; at = path.Dir(at) {
		if err := d.isDirectory(at); err != nil {
			return err
		}
	}
	return nil
}

// writeFile makes a new file, whole and on disk. What it leaves on failure is
// for the caller to remove.
func (d *Dir) writeFile(name string, data []byte) error {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = d.commit(f)
	}
	return errors.Join(err, f.Close())
}

// syncDirs makes the entries of dir durable, and dir itself in those above it:
// whoever made them may not have come to that. A directory above that this Dir
// has seen durable stays so, with what is in it, and is not looked at again.
func (d *Dir) syncDirs(dir string) error {
	var above []string
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for at := dir; ; at = path.Dir(at) {
		f, err := d.root.Open(at)
		if err != nil {
			return err
		}
		files = append(files, f)
		if at != dir {
			above = append(above, at)
		}
		if _, known := d.durable.Load(at); known || at == "." {
			break
		}
	}
	if err := d.commit(files...); err != nil {
		return err
	}
	for _, at := range above {
		d.durable.Store(at, nil)
	}
	return nil
}

func (d *Dir) syncPath(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.syncOne(f), f.Close())
}

// Get implements [Store]. What is at this path and not a regular file, or below what is no
// directory, is an [ErrOccupied]: Put did not make it.
func (d *Dir) Get(ctx context.Context, name string) ([]byte, error) {
	if err := validPath(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if data, ok := readBeneath(d.open, name, MaxSize); ok {
		return data, nil
	}
	if err := d.areDirectories(path.Dir(name)); errors.Is(err, ErrOccupied) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	// To open a device can act on it, so look first. Nothing holds still
	// between the look and the opening: O_NONBLOCK, as to open a FIFO without
	// a writer would wait for one, and look again.
	before, err := d.root.Lstat(name)
	if err != nil {
		return nil, storeError("read", name, err)
	}
	if err := readable(name, before); err != nil {
		return nil, err
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, storeError("read", name, err)
	}
	defer f.Close()
	opened, err := f.Stat()
	if err != nil {
		return nil, storeError("read", name, err)
	}
	if err := readable(name, opened); err != nil {
		return nil, err
	}
	// The file may have grown since.
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	switch {
	case err != nil:
		return nil, storeError("read", name, err)
	case len(data) > MaxSize:
		return nil, fmt.Errorf("%w: read %s: more than %d bytes", ErrTooLarge, name, MaxSize)
	}
	return data, nil
}

func readable(name string, info fs.FileInfo) error {
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("read %s: %w: %s", name, ErrOccupied, kind(info))
	case info.Size() > MaxSize:
		return fmt.Errorf("%w: read %s: %d bytes, at most %d are allowed", ErrTooLarge, name, info.Size(), MaxSize)
	}
	return nil
}

// kind says what is in the way.
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

// storeError says what failed on what, in the terms of [Store] where it has
// them, and keeps the cause.
func storeError(doing, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s %s: %w", doing, name, ErrExists)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s %s: %w", doing, name, ErrNotFound)
	}
	return fmt.Errorf("%s %s: %w", doing, name, err)
}
