package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"
	"syscall"

	"github.com/hsmkeys/hsmkeys/blob"
)

// readAtOnce is how many entries of a directory are read at a time, and held in memory.
const readAtOnce = 256

// List implements [blob.Store]. A symbolic link in the place of a directory is a
// [blob.ErrOccupied].
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		dir := "."
		if slash := strings.LastIndexByte(prefix, '/'); slash >= 0 {
			dir = prefix[:slash]
		}
		if err := ctx.Err(); err != nil {
			yield("", fmt.Errorf("list %s: %w", dir, err))
			return
		}
		// Nothing that Put stores is elsewhere.
		if dir != "." && !blob.ValidDir(dir) {
			return
		}
		if err := s.occupied(dir); err != nil {
			yield(dir, storeError("list", dir, err))
			return
		}
		l := &listing{s, ctx, prefix, yield}
		l.list(dir)
	}
}

type listing struct {
	*Store
	ctx    context.Context
	prefix string
	yield  func(string, error) bool
}

// list reports whether the caller wants more. Directories stay open while those below are
// read, which are as many as a key name has segments, 64 at most.
func (l *listing) list(dir string) bool {
	f, err := l.root.OpenFile(dir, directory, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return true
	}
	if err != nil {
		return l.yield(dir, storeError("list", dir, err))
	}
	defer f.Close()
	for {
		if err := l.ctx.Err(); err != nil {
			l.yield("", fmt.Errorf("list %s: %w", dir, err))
			return false
		}
		entries, err := f.ReadDir(readAtOnce)
		for _, e := range entries {
			if !l.entry(path.Join(dir, e.Name()), e) {
				return false
			}
		}
		switch {
		case err == io.EOF:
			return true
		case err != nil:
			return l.yield(dir, storeError("list", dir, err))
		}
	}
}

// entry returns an object, and what is in a directory that can lead to some.
func (l *listing) entry(name string, e fs.DirEntry) bool {
	switch {
	case blob.MaxSizeOf(name) > 0: // also what is no file: Get says so
		return !strings.HasPrefix(name, l.prefix) || l.yield(name, nil)
	case !strings.HasPrefix(name+"/", l.prefix) || !blob.ValidDir(name):
		return true
	case e.IsDir():
		return l.list(name)
	case e.Type()&fs.ModeSymlink != 0: // not followed, lest it go round in circles
		return l.yield(name, fmt.Errorf("list %s: %w: a symbolic link", name, blob.ErrOccupied))
	}
	return true
}
