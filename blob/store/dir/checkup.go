package dir

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Checkup is what was found in the directory of a store. Paths are relative to it.
type Checkup struct {
	Objects    int      // that List returns
	Unfinished []string // temporary files that a writer has left for an hour or longer
	Stray      []string // what Put has not made; it is ignored
	Open       []string // what everybody may write to
}

// abandoned is the age from which the writer of a temporary file is taken to be gone.
const abandoned = time.Hour

// Checkup looks at everything in the directory, and changes nothing. What begins with
// a dot at the top, such as .git, is somebody else's business and not looked at.
func (s *Store) Checkup(ctx context.Context) (Checkup, error) {
	var c Checkup
	err := fs.WalkDir(s.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
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
		if hasModes && info.Mode().Perm()&0o002 != 0 && info.Mode().Type()&fs.ModeSymlink == 0 {
			c.Open = append(c.Open, name)
		}
		switch {
		case name == ".":
		case blob.ValidPath(name) == nil: // List returns it, and Get says what it is
			if c.Objects++; e.IsDir() {
				return fs.SkipDir
			}
		case e.Type()&fs.ModeSymlink != 0 && blob.ValidDir(name): // List says so
		case e.IsDir():
			if !blob.ValidDir(name) {
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
	return c, storeError("look at store", s.String(), err)
}
