package dir

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/hsmkeys/hsmkeys/blob"
)

// maxTries bounds how often Put begins again because of what others do meanwhile. One try
// for each other writer that might is plenty.
const maxTries = 16

// Put implements [blob.Store].
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := check(ctx, "store", name); err != nil {
		return err
	}
	if err := blob.ValidSize(name, int64(len(data))); err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	// An object that was in the way may have been deleted when its turn comes to be
	// synced, and directories that are empty may be tidied up.
	err := s.put(name, data)
	for try := 1; try < maxTries && errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil; try++ {
		err = s.put(name, data)
	}
	if moved := s.inPlace(); moved != nil {
		err = moved
	}
	return storeError("store", name, err)
}

func (s *Store) put(name string, data []byte) error {
	dir := path.Dir(name)
	if err := s.makeDirs(dir); err != nil {
		return err
	}
	temporary := path.Join(dir, temporaryPrefix+rand.Text())
	defer s.root.Remove(temporary)
	if err := s.writeFile(temporary, data); err != nil {
		return err
	}
	switch placed := s.place(temporary, name); {
	case placed == nil:
		return s.syncDirs(dir)
	case errors.Is(placed, fs.ErrExist):
		// The other writer may have died, or the machine be about to, before the
		// object was on disk. The caller will build on it, so this one makes it durable.
		if err := s.syncObject(name); err != nil {
			return err
		}
		return placed
	default:
		return placed
	}
}

// Delete implements [blob.Store].
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := check(ctx, "delete", name); err != nil {
		return err
	}
	return storeError("delete", name, s.remove(name))
}

func (s *Store) remove(name string) error {
	dir := path.Dir(name)
	if err := s.occupied(dir); err != nil {
		return err
	}
	if info, err := s.root.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return regular(info)
	}
	if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Also when it was gone already: whoever removed it may not have come to this.
	if err := s.syncDirs(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// place renames a temporary file to its final name, unless something has that already, which is
// an fs.ErrExist. The temporary name may or may not be there afterwards.
func (s *Store) place(temporary, name string) error {
	linked := s.link(temporary, name)
	if !lacksLinks(linked) {
		return linked
	}
	dir, err := s.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	renamed := renameToNew(dir, path.Base(temporary), path.Base(name))
	if errors.Is(renamed, errors.ErrUnsupported) {
		renamed = fmt.Errorf("%w: the file system has neither hard links nor renameat2(2) with RENAME_NOREPLACE (%v)", blob.ErrNotExclusive, cause(linked))
	}
	return errors.Join(renamed, dir.Close())
}

// cause returns the error of a system call without the paths of our temporary files.
func cause(err error) error {
	if at := (*os.LinkError)(nil); errors.As(err, &at) {
		return fmt.Errorf("link: %v", at.Err)
	}
	return err
}

// makeDirs makes dir and those above it.
func (s *Store) makeDirs(dir string) error {
	if dir == "." {
		return nil
	}
	if err := s.makeDirs(path.Dir(dir)); err != nil {
		return err
	}
	switch err := s.root.Mkdir(dir, dirMode); {
	case err == nil:
		s.durable.Delete(dir) // that was another one
		return nil
	case errors.Is(err, fs.ErrExist):
		return s.isDirectory(dir)
	default:
		return err
	}
}

// writeFile makes a new file, whole and on disk. What it leaves on failure is for the
// caller to remove.
func (s *Store) writeFile(name string, data []byte) error {
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = s.commit(f)
	}
	return errors.Join(err, f.Close())
}
