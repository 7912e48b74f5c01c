package dir

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/hsmkeys/hsmkeys/blob"
)

// TryWrite does what Put does, in the store's directory and each one in it that Put writes
// to, and leaves nothing: a file is written, synced and given another name, which must fail
// the second time, and the directory is synced. The errors are those of Put.
func (s *Store) TryWrite(ctx context.Context) error {
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return storeError("write to store", s.String(), err)
	}
	dirs := []string{"."}
	for _, e := range entries {
		if blob.ValidDir(e.Name()) {
			dirs = append(dirs, e.Name())
		}
	}
	for _, dir := range dirs {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := s.occupied(dir)
		if err == nil {
			err = s.tryWrite(dir)
		}
		if err != nil {
			return storeError("write to store", path.Join(s.String(), dir), err)
		}
	}
	return nil
}

func (s *Store) tryWrite(dir string) error {
	temporary := path.Join(dir, temporaryPrefix+rand.Text())
	placed := path.Join(dir, temporaryPrefix+rand.Text()) // what a crash leaves is known for what it is
	defer s.root.Remove(temporary)
	defer s.root.Remove(placed)
	for _, again := range []bool{false, true} {
		s.root.Remove(temporary) // which is there still where it was linked
		if err := s.writeFile(temporary, []byte("hsmkeys looks whether the store can be written\n")); err != nil {
			return err
		}
		switch err := s.place(temporary, placed); {
		case again && err == nil:
			return fmt.Errorf("%w: a file that was there was replaced", blob.ErrNotExclusive)
		case again && errors.Is(err, fs.ErrExist):
		case err != nil:
			return err
		}
	}
	f, err := s.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(s.syncOne(f), f.Close())
}
