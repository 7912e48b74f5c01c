package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// Checkup is what lies in the directory of a store. Paths are relative to it.
type Checkup struct {
	Objects    int      // that List gives
	Unfinished []string // temporary files that a writer has left for an hour or longer
	Stray      []string // what Put has not made; it is ignored
	Open       []string // what everybody may write to
}

// abandoned is the age of a temporary file whose writer is not at work any more.
const abandoned = time.Hour

// Checkup looks at everything in the directory, and changes nothing. What begins with
// a dot at the top, such as .git, is somebody else's business and not looked at.
func (d *Dir) Checkup(ctx context.Context) (Checkup, error) {
	var c Checkup
	err := fs.WalkDir(d.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // a writer has removed it meanwhile
		case err != nil:
			return err
		case strings.HasPrefix(name, ".") && name != "." && !strings.HasPrefix(name, temporaryPrefix):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o002 != 0 && info.Mode().Type()&fs.ModeSymlink == 0 {
			c.Open = append(c.Open, name)
		}
		switch {
		case name == ".":
		case validPath(name) == nil: // List gives it, and Get says what it is
			if c.Objects++; e.IsDir() {
				return fs.SkipDir
			}
		case e.Type()&fs.ModeSymlink != 0 && leadsToObjects(name): // List says so
		case e.IsDir():
			if !leadsToObjects(name) {
				c.Stray = append(c.Stray, name)
				return fs.SkipDir
			}
		case !e.Type().IsRegular():
			c.Stray = append(c.Stray, name)
		case strings.HasPrefix(path.Base(name), temporaryPrefix):
			if time.Since(info.ModTime()) >= abandoned {
				c.Unfinished = append(c.Unfinished, name)
			}
		default:
			c.Stray = append(c.Stray, name)
		}
		return nil
	})
	return c, storeError("look at store", d.String(), err)
}

// TryWrite does what Put does, in each directory that Put writes to and that is
// there, and leaves nothing: a file is written, synced and given another name,
// which must fail the second time, and the directory is synced.
func (d *Dir) TryWrite(ctx context.Context) error {
	for _, dir := range []string{".", path.Clean(keysPrefix), path.Clean(membersPrefix), path.Clean(proofsPrefix)} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := d.root.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := d.tryWrite(dir); err != nil {
			return storeError("write to store", path.Join(d.String(), dir), err)
		}
	}
	return nil
}

func (d *Dir) tryWrite(dir string) error {
	temporary := path.Join(dir, temporaryPrefix+rand.Text())
	placed := path.Join(dir, temporaryPrefix+rand.Text()) // what a crash leaves is known for what it is
	defer d.root.Remove(temporary)
	defer d.root.Remove(placed)
	for _, again := range []bool{false, true} {
		d.root.Remove(temporary) // which is there still where it was linked
		if err := d.writeFile(temporary, []byte("hsmkeys looks whether the store can be written\n")); err != nil {
			return err
		}
		switch err := d.place(temporary, placed); {
		case again && err == nil:
			return fmt.Errorf("%w: a file that was there was replaced", ErrNotExclusive)
		case again && errors.Is(err, fs.ErrExist):
		case err != nil:
			return err
		}
	}
	f, err := d.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.syncOne(f), f.Close())
}
