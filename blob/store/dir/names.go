package dir

import (
	"context"
	"io/fs"
	"iter"
	"path"
	"strings"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Names returns what the names of keys that start with prefix go on with, up to the next
// '/': the name of a key, and, where there are names below it, what they have in common,
// with a '/' at its end. They come in no order. It completes names as they are typed:
// nothing is verified, of a large store only one directory is read, and errors end the
// list and are not reported.
func (s *Store) Names(ctx context.Context, prefix string) iter.Seq[string] {
	return func(yield func(string) bool) {
		dir := path.Dir(blob.KeysPrefix + prefix + "x")
		if !blob.ValidDir(dir) {
			return
		}
		for e := range s.entries(ctx, dir) {
			name := strings.TrimPrefix(path.Join(dir, e.Name()), blob.KeysPrefix)
			if !e.IsDir() || !strings.HasPrefix(name, prefix) || blob.ValidName(name) != nil {
				continue
			}
			key, more := s.holds(ctx, blob.KeysPrefix+name)
			if key && !yield(name) || more && !yield(name+"/") {
				return
			}
		}
	}
}

// holds reports whether there are blobs of a key in a directory, and whether directories.
func (s *Store) holds(ctx context.Context, dir string) (key, more bool) {
	for e := range s.entries(ctx, dir) {
		at := path.Join(dir, e.Name())
		key = key || e.Type().IsRegular() && blob.ValidPath(at) == nil
		more = more || e.IsDir() && blob.ValidDir(at)
		if key && more {
			break
		}
	}
	return key, more
}

// entries reads a directory as far as the caller wants.
func (s *Store) entries(ctx context.Context, dir string) iter.Seq[fs.DirEntry] {
	return func(yield func(fs.DirEntry) bool) {
		f, err := s.root.OpenFile(dir, directory, 0)
		if err != nil {
			return
		}
		defer f.Close()
		for err == nil && ctx.Err() == nil {
			var some []fs.DirEntry
			some, err = f.ReadDir(readAtOnce)
			for _, e := range some {
				if !yield(e) {
					return
				}
			}
		}
	}
}
