package dir

import (
	"context"
	"errors"
	"os"
	"path"
	"syscall"
)

// Sync implements [blob.Syncer]: it syncs the file and the directories that lead to it.
func (s *Store) Sync(ctx context.Context, name string) error {
	if err := check(ctx, "sync", name); err != nil {
		return err
	}
	return storeError("sync", name, s.syncObject(name))
}

// maxTop bounds how many entries of the top are looked at: a store has seven.
const maxTop = 64

func (s *Store) syncObject(name string) error {
	f, _, err := s.openObject(name)
	if err != nil {
		return err
	}
	defer f.Close()
	// A file system without the call is one that only reads; Windows does not sync what
	// is open for reading. There is nothing more to be had.
	if err := s.sync(f); err != nil && !cannotSync(err) {
		return err
	}
	return s.syncDirs(path.Dir(name))
}

// syncDirs makes the entries of dir durable, and dir itself in those above it: whoever
// made them may not have come to that. A directory that this Store has seen durable in
// those above it stays so, as none is ever removed. Those at the top become durable
// together.
func (s *Store) syncDirs(dir string) error {
	var dirs []string
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for at := dir; ; at = path.Dir(at) {
		f, err := s.root.Open(at)
		if err != nil {
			return err
		}
		files, dirs = append(files, f), append(dirs, at)
		if _, known := s.durable.Load(at); known || at == "." {
			break
		}
	}
	if last := len(dirs) - 1; dirs[last] == "." {
		there, _ := files[last].ReadDir(maxTop) // what is not seen is synced when its turn comes
		for _, e := range there {
			if e.IsDir() {
				dirs = append(dirs, e.Name())
			}
		}
	}
	if err := s.commit(files...); err != nil {
		return err
	}
	for _, at := range dirs {
		s.durable.Store(at, nil)
	}
	return nil
}

// cannotSync reports whether an error of fsync(2) says that the file system has no such
// call, or none for this kind of file.
func cannotSync(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported)
}
