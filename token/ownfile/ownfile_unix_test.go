//go:build unix

package ownfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// place makes a directory in which the files of these tests may be.
func place(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAFileOfThisUserIsRead(t *testing.T) {
	for _, mode := range []os.FileMode{0o400, 0o600, 0o644, 0o755} {
		path := write(t, filepath.Join(place(t), "file"), mode)
		data, err := Read(path, 7)
		if err != nil || string(data) != "content" {
			t.Errorf("mode %04o: %q, %v", mode, data, err)
		}
	}
}

func TestWhatOthersCanWriteIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o620, 0o602, 0o666} {
		path := write(t, filepath.Join(place(t), "file"), mode)
		_, err := Read(path, 100)
		var e *Error
		if !errors.Is(err, ErrForeign) || !errors.As(err, &e) || e.Path != path || !e.Writable {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	for _, mode := range []os.FileMode{0o770, 0o707} {
		dir := filepath.Join(place(t), "dir")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(filepath.Join(dir, "below"), 0o700)); err != nil {
			t.Fatal(err)
		}
		path := write(t, filepath.Join(dir, "below", "file"), 0o600)
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		var e *Error
		if _, err := Read(path, 100); !errors.As(err, &e) || e.Path != dir {
			t.Errorf("below a directory of mode %04o: %v", mode, err)
		}
		if err := os.Chmod(dir, mode|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path, 100); err != nil {
			t.Errorf("below a sticky directory of mode %04o: %v", mode, err)
		}
	}
}

// The files of this user are another user's for a program that another user runs, so no test needs a
// second account. Root's files are trusted by everybody, so a test that runs as root changes their
// owner first.
func TestWhatAnotherUserOwnsIsRefused(t *testing.T) {
	const owner, another = 65533, 65532
	dir := place(t)
	path := write(t, filepath.Join(dir, "file"), 0o600)
	user := os.Geteuid()
	if user == 0 {
		if err := errors.Join(os.Chown(dir, owner, -1), os.Chown(path, owner, -1)); err != nil {
			t.Fatal(err)
		}
		user = owner
		if _, err := open(path, false, 0); !errors.Is(err, ErrForeign) {
			t.Errorf("root trusts the file of another user: %v", err)
		}
		if _, err := Read(path, 100); !errors.Is(err, ErrForeign) {
			t.Errorf("root reads the file of another user: %v", err)
		}
	}
	f, err := open(path, false, user)
	if err != nil {
		t.Fatalf("the owner is refused: %v", err)
	}
	f.Close()
	_, err = open(path, false, another)
	if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "belongs to user") {
		t.Errorf("another user trusts it: %v", err)
	}
	// The file alone, in a directory that is to be trusted.
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	var e *Error
	if err := checkFile(path, info, another); !errors.As(err, &e) || e.Path != path {
		t.Errorf("the file itself: %v", err)
	}
}

func TestLinksAreFollowedToFilesOfThisUser(t *testing.T) {
	dir := place(t)
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	own := write(t, filepath.Join(dir, "own"), 0o600)
	inside := write(t, filepath.Join(open, "file"), 0o600)
	if err := os.Chmod(open, 0o777); err != nil { // after the umask
		t.Fatal(err)
	}
	link := func(name, to string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if _, err := Read(link("good", own), 100); err != nil {
		t.Errorf("a link to a file of this user: %v", err)
	}
	if _, err := Read(link("bad", inside), 100); !errors.Is(err, ErrForeign) {
		t.Errorf("a link into a directory that anybody can write to: %v", err)
	}
	if err := os.Symlink(own, filepath.Join(open, "planted")); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(filepath.Join(open, "planted"), 100); !errors.Is(err, ErrForeign) {
		t.Errorf("a link that anybody can have planted, to a file of this user: %v", err)
	}
}

// A link of another user in a sticky directory, where fs.protected_symlinks may be off: to a
// file of this user, to a directory of this user, and behind a link of this user's own.
func TestALinkOfAnotherUserIsNotFollowed(t *testing.T) {
	const another = 65532
	dir := place(t)
	sticky := filepath.Join(dir, "sticky")
	own := write(t, filepath.Join(dir, "own"), 0o600)
	if err := errors.Join(os.Mkdir(sticky, 0o700), os.Chmod(sticky, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link": own, "dir": dir} {
		if err := os.Symlink(to, filepath.Join(sticky, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(sticky, "link"), filepath.Join(dir, "ours")); err != nil {
		t.Fatal(err)
	}
	paths := []string{filepath.Join(sticky, "link"), sticky + "/dir/own", sticky + "/dir/../" + filepath.Base(dir) + "/own", filepath.Join(dir, "ours")}
	for _, path := range paths {
		if _, err := Read(path, 100); err != nil {
			t.Errorf("%s: a link of this user: %v", path, err)
		}
	}
	if os.Geteuid() != 0 {
		return // only root can make links of another user
	}
	if err := errors.Join(os.Lchown(filepath.Join(sticky, "link"), another, -1), os.Lchown(filepath.Join(sticky, "dir"), another, -1)); err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if _, err := Read(path, 100); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), sticky) {
			t.Errorf("%s: a link of another user: %v", path, err)
		}
	}
	if err := CheckPlace(sticky + "/dir/new"); !errors.Is(err, ErrForeign) {
		t.Errorf("a place behind a link of another user: %v", err)
	}
}

func TestWhatIsNoFileIsNotRead(t *testing.T) {
	dir := place(t)
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, dir, "/dev/zero", "/dev/null"} {
		if _, err := Read(path, 100); !errors.Is(err, ErrKind) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Open("/dev/zero", true); !errors.Is(err, ErrKind) {
		t.Errorf("/dev/zero in place of a pipe: %v", err)
	}
	long := write(t, filepath.Join(dir, "long"), 0o600)
	if _, err := Read(long, 6); !errors.Is(err, ErrKind) {
		t.Errorf("7 bytes in place of 6: %v", err)
	}
	if _, err := Read(filepath.Join(dir, "none"), 6); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// A pipe is read to its end, whichever side opens it first, and if its writer has exited already.
func TestAPipeOfThisUserIsReadWhereItMay(t *testing.T) {
	path := filepath.Join(place(t), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() { wrote <- os.WriteFile(path, []byte("content"), 0) }()
	f, err := Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err := errors.Join(err, <-wrote); err != nil || string(data) != "content" {
		t.Errorf("%q, %v", data, err)
	}
	if err := os.Chmod(path, 0o622); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, true); !errors.Is(err, ErrForeign) {
		t.Errorf("a pipe that anybody can write to: %v", err)
	}
}

func TestAnAnonymousPipeIsRead(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("content"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	f, err := Open(filepath.Join("/dev/fd", strconv.FormatUint(uint64(r.Fd()), 10)), true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if data, err := io.ReadAll(f); err != nil || string(data) != "content" {
		t.Errorf("%q, %v", data, err)
	}
}
