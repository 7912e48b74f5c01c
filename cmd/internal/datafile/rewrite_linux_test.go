package datafile

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A file that is rewritten keeps its mode and time, and stays as it is when something goes wrong.
func TestAFileIsRewritten(t *testing.T) {
	ctx := context.Background()
	for name, dir := range map[string]string{"": t.TempDir(), "with O_TMPFILE": unnamedHere(t)} {
		path := filepath.Join(dir, "file")
		was := time.Date(2020, 2, 3, 4, 5, 6, 789, time.UTC)
		prepare := func() {
			t.Helper()
			if err := errors.Join(os.WriteFile(path, []byte("before"), 0o600), os.Chmod(path, 0o604), os.Chtimes(path, time.Time{}, was)); err != nil {
				t.Fatal(err)
			}
		}
		holds := func(want string) {
			t.Helper()
			got, err := os.ReadFile(path)
			info, statErr := os.Stat(path)
			if err != nil || statErr != nil || string(got) != want || info.Mode() != 0o604 || !info.ModTime().Equal(was) {
				t.Errorf("%s: %q, %v, %v, %v", name, got, info, err, statErr)
			}
			if names := allNames(t, dir); names != "file" {
				t.Errorf("%s: in the directory: %q", name, names)
			}
		}
		prepare()
		if err := Rewrite(ctx, path, func(in *os.File, out io.Writer) error {
			text, err := io.ReadAll(in)
			return errors.Join(err, write(strings.ToUpper(string(text)))(out))
		}); err != nil {
			t.Error(err)
		}
		holds("BEFORE")

		prepare()
		failed := errors.New("failed")
		if err := Rewrite(ctx, path, func(_ *os.File, out io.Writer) error { return errors.Join(write("part")(out), failed) }); !errors.Is(err, failed) {
			t.Error(err)
		}
		holds("before")

		// Another program writes to it meanwhile, or puts another file in its place.
		for what, meddle := range map[string]func() error{
			"written to": func() error { return os.WriteFile(path, []byte("theirs"), 0o604) },
			"replaced": func() error {
				return errors.Join(os.WriteFile(path+"2", []byte("theirs"), 0o604), os.Rename(path+"2", path))
			},
			"removed": func() error { return os.Remove(path) },
		} {
			prepare()
			err := Rewrite(ctx, path, func(_ *os.File, out io.Writer) error { return errors.Join(meddle(), write("ours")(out)) })
			if !errors.Is(err, ErrChanged) && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s meanwhile: %v", what, err)
			}
			if got, err := os.ReadFile(path); err == nil && string(got) != "theirs" {
				t.Errorf("%s meanwhile: %q", what, got)
			}
			if names := allNames(t, dir); strings.Contains(names, "hsmkeys-") {
				t.Errorf("%s meanwhile: in the directory: %q", what, names)
			}
		}
	}
}

func TestFilesThatAreNotRewritten(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(at("two"), nil, 0o600), os.Link(at("two"), at("names")), os.Symlink("two", at("link")), os.Mkdir(at("dir"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"two": "has 2 names", "names": "has 2 names", "link": "is a symbolic link to \"two\"", "dir": "not a regular file", "none": "no such file"} {
		err := Rewrite(context.Background(), at(name), func(*os.File, io.Writer) error { t.Errorf("%s is rewritten", name); return nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
