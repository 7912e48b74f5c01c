package blob

import (
	"context"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"syscall"
)

// Names gives what the names of keys that start with prefix go on with, up to the next
// '/': the name of a key, and, where there are names below it, what they have in common,
// with a '/' at its end. They come as the directory has them, in no order. It is for who
// types a name: nothing is verified, of a large store only one directory is read, and
// errors end the list and are not told.
func (d *Dir) Names(ctx context.Context, prefix string) iter.Seq[string] {
	return func(yield func(string) bool) {
		dir := path.Dir(keysPrefix + prefix + "x")
		if !fs.ValidPath(dir) {
			return
		}
		for e := range d.entries(ctx, dir) {
			name := strings.TrimPrefix(path.Join(dir, e.Name()), keysPrefix)
			if !e.IsDir() || !strings.HasPrefix(name, prefix) || ValidName(name) != nil {
				continue
			}
			key, more := d.holds(ctx, keysPrefix+name)
			if key && !yield(name) || more && !yield(name+"/") {
				return
			}
		}
	}
}

// holds tells whether there are blobs of a key in a directory, and whether directories.
func (d *Dir) holds(ctx context.Context, dir string) (key, more bool) {
	for e := range d.entries(ctx, dir) {
		at := path.Join(dir, e.Name())
		key = key || e.Type().IsRegular() && validPath(at) == nil
		more = more || e.IsDir() && leadsToObjects(at)
		if key && more {
			break
		}
	}
	return key, more
}

// entries reads a directory as far as the caller wants.
func (d *Dir) entries(ctx context.Context, dir string) iter.Seq[fs.DirEntry] {
	return func(yield func(fs.DirEntry) bool) {
		f, err := d.root.OpenFile(dir, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_DIRECTORY, 0)
		if err != nil {
			return
		}
		defer f.Close()
		for err == nil && ctx.Err() == nil {
			var some []fs.DirEntry
			some, err = f.ReadDir(256)
			for _, e := range some {
				if !yield(e) {
					return
				}
			}
		}
	}
}
