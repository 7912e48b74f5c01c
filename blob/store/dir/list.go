package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// List implements [Store]. Of a directory with up to listChunk entries all comes in order;
// of a larger one in pieces of that size, each in order, so that nobody waits for a
// million names to be read and sorted before the first.
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		dir := "."
		if slash := strings.LastIndexByte(prefix, '/'); slash >= 0 {
			dir = prefix[:slash]
		}
		// Nothing that Put stores is elsewhere, and fs.ValidPath refuses what
		// would be a way out.
		if !fs.ValidPath(dir) || dir != "." && !leadsToObjects(dir) {
			return
		}
		if err := d.areDirectories(dir); errors.Is(err, ErrOccupied) {
			yield(dir, fmt.Errorf("list %s: %w", dir, err))
			return
		}
		l := &listing{d, ctx, prefix, yield}
		l.list(dir)
	}
}

const listChunk = 4096

type listing struct {
	*Dir
	ctx    context.Context
	prefix string
	yield  func(string, error) bool
}

// below is a directory that leads to objects, or a symbolic link in its place.
type below struct {
	dir    string
	isLink bool
}

// list reports whether the caller wants more.
func (l *listing) list(dir string) bool {
	f, err := l.root.OpenFile(dir, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return true
	}
	if err != nil {
		return l.yield(dir, storeError("list", dir, err))
	}
	defer f.Close()
	objects, deeper, whole, ok := l.chunk(f, dir)
	if !ok {
		return false
	}
	if whole {
		f.Close() // before going deeper, lest a deep store run out of descriptors
		return l.give(objects) && l.enter(deeper)
	}
	if dir+"/" != keysPrefix { // in which there can be no object
		if !l.objectsFirst(f, dir, objects) {
			return false
		}
		deeper = nil
	}
	for {
		if !l.enter(deeper) {
			return false
		}
		if whole {
			return true
		}
		if _, deeper, whole, ok = l.chunk(f, dir); !ok {
			return false
		}
	}
}

// objectsFirst gives the objects of a large directory, of which the first were read, and
// goes back to its beginning.
func (l *listing) objectsFirst(f *os.File, dir string, objects []string) bool {
	for whole, ok := false, true; l.give(objects); {
		if whole {
			_, err := f.Seek(0, io.SeekStart)
			if err != nil {
				l.yield(dir, storeError("list", dir, err))
			}
			return err == nil
		}
		if objects, _, whole, ok = l.chunk(f, dir); !ok {
			return false
		}
	}
	return false
}

// chunk reads the next entries of a directory: objects, and directories that lead to some,
// each in order, and whether these were the last.
func (l *listing) chunk(f *os.File, dir string) (objects []string, deeper []below, whole, ok bool) {
	for read := 0; read < listChunk && !whole; {
		if err := l.ctx.Err(); err != nil {
			l.yield("", fmt.Errorf("list %s: %w", dir, err))
			return nil, nil, false, false
		}
		entries, err := f.ReadDir(256)
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			switch {
			case validPath(name) == nil: // also what is no file: Get says so
				if strings.HasPrefix(name, l.prefix) {
					objects = append(objects, name)
				}
			case !leadsToObjects(name) || !strings.HasPrefix(name+"/", l.prefix):
			case e.IsDir(), e.Type()&fs.ModeSymlink != 0:
				deeper = append(deeper, below{name, !e.IsDir()})
			}
		}
		if err != nil && err != io.EOF && !l.yield(dir, storeError("list", dir, err)) {
			return nil, nil, false, false
		}
		whole = err != nil
		read += len(entries)
	}
	slices.Sort(objects)
	slices.SortFunc(deeper, func(a, b below) int { return strings.Compare(a.dir, b.dir) })
	return objects, deeper, whole, true
}

func (l *listing) give(objects []string) bool {
	for _, name := range objects {
		if !l.yield(name, nil) {
			return false
		}
	}
	return true
}

func (l *listing) enter(deeper []below) bool {
	for _, b := range deeper {
		more := false
		if b.isLink { // not followed, lest it go round in circles
			more = l.yield(b.dir, fmt.Errorf("list %s: %w: a symbolic link", b.dir, ErrOccupied))
		} else {
			more = l.list(b.dir)
		}
		if !more {
			return false
		}
	}
	return true
}

// leadsToObjects tells the directories that Put may have made.
func leadsToObjects(dir string) bool {
	switch dir + "/" {
	case keysPrefix, membersPrefix, proofsPrefix:
		return true
	}
	if signer, ok := strings.CutPrefix(dir, proofsPrefix); ok {
		_, ok := parseHex(signer, keyIDSize)
		return ok
	}
	name, ok := strings.CutPrefix(dir, keysPrefix)
	return ok && ValidName(name) == nil
}
