//go:build unix

package ownfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestAFileToAppendToIsMade(t *testing.T) {
	path := filepath.Join(place(t), "log")
	for _, text := range []string{"one\n", "two\n"} {
		f, err := Append(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	data, err := os.ReadFile(path)
	info, statErr := os.Stat(path)
	if err != nil || statErr != nil || string(data) != "one\ntwo\n" || info.Mode() != 0o600 {
		t.Errorf("%q, %v, %v, %v", data, info, err, statErr)
	}
}

func TestWhatIsNotAppendedTo(t *testing.T) {
	dir := place(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	own := write(t, at("own"), 0o600)
	if err := errors.Join(os.Symlink(own, at("link")), os.Symlink(at("none"), at("dangling")), syscall.Mkfifo(at("fifo"), 0o600), os.Mkdir(at("dir"), 0o700), os.Mkdir(at("open"), 0o700), os.Chmod(at("open"), 0o777)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		at("link"): ErrKind, at("dangling"): ErrKind, at("fifo"): ErrKind, dir: ErrKind, "/dev/null": ErrKind, "/dev/full": ErrKind,
		write(t, at("shared"), 0o620): ErrForeign, at("open/log"): ErrForeign, at("none/log"): fs.ErrNotExist,
	} {
		if f, err := Append(path); !errors.Is(err, want) {
			t.Errorf("%s: %v, %v", path, f, err)
		}
	}
	for _, name := range []string{"none", "open/log"} {
		if _, err := os.Lstat(at(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was made: %v", name, err)
		}
	}
}

// As in [TestWhatAnotherUserOwnsIsRefused], this user's file is another's for another user.
func TestAnotherUsersFileIsNotAppendedTo(t *testing.T) {
	const owner, another = 65533, 65532
	dir := place(t)
	path := write(t, filepath.Join(dir, "log"), 0o600)
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chown(dir, owner, -1), os.Chown(path, owner, -1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openAppend(path, another); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "content" {
		t.Errorf("%q, %v", data, err)
	}
}
