//go:build unix

package ownfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links are followed; the kernel has the same limit.
const maxLinks = 40

// Walk follows a path as the kernel does, and calls visit for each directory and each
// symbolic link on the way, before it goes on: with its path, which has no links in it, its FileInfo,
// and that of its directory. It ends without an error where nothing exists, and at what is neither a
// directory nor a link.
func Walk(path string, visit func(path string, info, dir fs.FileInfo) error) error {
	rest := path
	if !filepath.IsAbs(path) {
		wd, err := os.Getwd()
		if err != nil {
			return err
		}
		rest = wd + "/" + path // not cleaned: ".." behind a link is not the directory before it
	}
	at, info, err := "/", fs.FileInfo(nil), error(nil)
	if info, err = os.Lstat(at); err != nil {
		return err
	}
	if err := visit(at, info, info); err != nil {
		return err
	}
	for links := 0; ; {
		var name string
		name, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		if name == "" {
			return nil
		}
		next := filepath.Join(at, name)
		found, err := os.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) { // still to be made, or as /dev/fd/63 is for a pipe, in no directory
			return nil
		}
		if err != nil {
			return err
		}
		link := found.Mode()&fs.ModeSymlink != 0
		if !link && !found.IsDir() {
			return nil
		}
		if err := visit(next, found, info); err != nil {
			return err
		}
		if !link {
			at, info = next, found
			continue
		}
		if links++; links > maxLinks {
			return &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
		}
		to, err := os.Readlink(next)
		if err != nil {
			return err
		}
		rest = to + "/" + rest
		if filepath.IsAbs(to) {
			at = "/"
			if info, err = os.Lstat(at); err != nil {
				return err
			}
		}
	}
}
