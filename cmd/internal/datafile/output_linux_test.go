package datafile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func write(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

func TestAnOutputGoesWhereALinkLeads(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"a", "a/b", "other"} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"relative": "other/file", "absolute": at("other/file"), "chain": "relative", "a/b/up": "../../other/file",
		"directory": "a/b", "dangling": "other/none", "loop": "loop", "to-directory": "other",
	} {
		if err := os.Symlink(to, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"relative", "absolute", "chain", "a/b/up", "directory/up", "directory/../b/up"} {
		if err := os.WriteFile(at("other/file"), []byte("before"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := Write(context.Background(), dir+"/"+path, write(path)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		info, err := os.Lstat(at("other/file"))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
		if got, err := os.ReadFile(at("other/file")); err != nil || string(got) != path {
			t.Errorf("%s: %q, %v", path, got, err)
		}
		if info, err := os.Lstat(dir + "/" + path); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("%s: the link is gone: %v, %v", path, info, err)
		}
	}
	for path, want := range map[string]error{"dangling": fs.ErrNotExist, "loop": syscall.ELOOP, "to-directory": syscall.EISDIR, "other/": syscall.EISDIR, "none/file": fs.ErrNotExist} {
		if err := Write(context.Background(), dir+"/"+path, write("x")); !errors.Is(err, want) || !strings.Contains(err.Error(), path) && want != fs.ErrNotExist {
			t.Errorf("%s: %v", path, err)
		}
	}
	if names := allNames(t, at("other")); names != "file" {
		t.Errorf("left in the directory: %s", names)
	}
}

func TestOutputsOfOtherUsersAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of another user")
	}
	dir := t.TempDir()
	const nobody = 65534
	at := func(name string) string { return filepath.Join(dir, name) }
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sticky", "plain"} {
		check(os.Mkdir(at(name), 0o700))
		check(os.WriteFile(at(name+"/own"), []byte("before"), 0o666))
		check(os.WriteFile(at(name+"/file"), []byte("before"), 0o666))
		check(syscall.Mkfifo(at(name+"/fifo"), 0o666))
		check(syscall.Mknod(at(name+"/socket"), syscall.S_IFSOCK|0o666, 0))
		check(syscall.Mknod(at(name+"/null"), syscall.S_IFCHR|0o666, 1<<8|3))
		check(os.Symlink("own", at(name+"/link")))
		check(os.Symlink("own", at(name+"/our-link")))
		check(os.Symlink("fifo", at(name+"/link-to-fifo")))
		check(os.Mkdir(at(name+"-target"), 0o700))
		check(os.WriteFile(at(name+"-target/data"), []byte("before"), 0o600))
		check(os.Symlink("../"+name+"-target", at(name+"/out")))
		for _, other := range []string{"file", "fifo", "socket", "null", "link", "out"} {
			check(os.Lchown(at(name+"/"+other), nobody, nobody))
		}
	}
	check(os.Chmod(at("sticky"), 0o777|fs.ModeSticky))
	check(os.Symlink("sticky/out", at("our-way"))) // which leads through theirs
	// A reader, so that nobody waits to write.
	for _, name := range []string{"sticky/fifo", "plain/fifo"} {
		reader, err := os.OpenFile(at(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
		check(err)
		defer reader.Close()
		defer func() {
			if n, _ := reader.Read(make([]byte, 1)); n > 0 {
				t.Errorf("%s: something came out", name)
			}
		}()
	}
	for _, name := range []string{"sticky/file", "plain/file", "sticky/fifo", "plain/fifo", "plain/socket", "plain/null", "plain/link-to-fifo", "sticky/link",
		"sticky/out/data", "sticky/out/new", "our-way/data"} {
		err := Write(context.Background(), at(name), func(io.Writer) error { t.Errorf("%s: it is written", name); return nil })
		if err == nil || !strings.Contains(err.Error(), "belongs to another user (uid 65534)") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"plain/link", "plain/out/data", "plain/our-link", "sticky/our-link", "sticky/own"} {
		if err := Write(context.Background(), at(name), write("x")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOutputsThatAreNoRegularFiles(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan string)
	go func() {
		data, err := os.ReadFile(fifo)
		got <- fmt.Sprint(string(data), err)
	}()
	if err := Write(context.Background(), fifo, write("hello")); err != nil {
		t.Error(err)
	}
	if got := <-got; got != "hello<nil>" {
		t.Error(got)
	}
	if info, err := os.Lstat(fifo); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		t.Errorf("%v, %v", info, err)
	}
	if err := Write(context.Background(), os.DevNull, write("x")); err != nil {
		t.Error(err)
	}
	if err := Write(context.Background(), "/dev/full", write("x")); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for path, want := range map[string]error{
		fmt.Sprintf("/dev/fd/%d", w.Fd()): nil, fmt.Sprintf("/proc/self/fd/%d", w.Fd()): nil,
		fmt.Sprintf("/dev/fd/%d", r.Fd()): syscall.EBADF, "/dev/fd/99999": syscall.EBADF, "/dev/fd/x": fs.ErrNotExist,
	} {
		out, err := inherited(path)
		if !errors.Is(err, want) || (err == nil) != (out != nil) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Where a file cannot be without a name it has a temporary one, which is removed.
func TestAFileSystemWithoutUnnamedFiles(t *testing.T) {
	newUnnamed = func(*os.File, string) (*os.File, error) { return nil, errors.ErrUnsupported }
	defer func() { newUnnamed = createUnnamed }()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	for _, text := range []string{"first", "second"} {
		err := Write(context.Background(), out, func(w io.Writer) error {
			if names := allNames(t, dir); !strings.HasPrefix(names, ".hsmkeys-") {
				t.Errorf("in the directory: %q", names)
			}
			return write(text)(w)
		})
		if got, read := os.ReadFile(out); err != nil || read != nil || string(got) != text {
			t.Errorf("%v, %q, %v", err, got, read)
		}
	}
	failed := errors.New("failed")
	if err := Write(context.Background(), out, func(io.Writer) error { return failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	_ = Write(ctx, out, func(io.Writer) error {
		cancel()
		until(t, "the temporary file is gone", func() bool { return allNames(t, dir) == "out" })
		return ctx.Err()
	})
	if names := allNames(t, dir); names != "out" {
		t.Errorf("left in the directory: %s", names)
	}
}

// unnamedHere returns a directory on a file system that has unnamed files: that of the
// other temporary files, or else a tmpfs.
func unnamedHere(t *testing.T) string {
	t.Helper()
	for _, above := range []string{t.TempDir(), "/dev/shm"} {
		dir, err := os.MkdirTemp(above, "hsmkeys-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if TryUnnamed(dir) == nil {
			return dir
		}
	}
	t.Fatal("neither the directory for temporary files nor /dev/shm has O_TMPFILE")
	return ""
}

// What appears while a file is written is replaced, as what was there before would be.
func TestAnOutputThatAppearsMeanwhile(t *testing.T) {
	dir := unnamedHere(t)
	out := filepath.Join(dir, "out")
	err := Write(context.Background(), out, func(w io.Writer) error {
		if names := allNames(t, dir); names != "" {
			t.Errorf("the file has a name before it is complete: %s", names)
		}
		if err := os.WriteFile(out, []byte("another"), 0o600); err != nil {
			return err
		}
		return write("ours")(w)
	})
	if got, read := os.ReadFile(out); err != nil || read != nil || string(got) != "ours" {
		t.Errorf("%v, %q, %v", err, got, read)
	}
	failed := errors.New("failed")
	err = Write(context.Background(), out, func(w io.Writer) error { return errors.Join(write("part")(w), failed) })
	if got, _ := os.ReadFile(out); !errors.Is(err, failed) || string(got) != "ours" {
		t.Errorf("%v, %q", err, got)
	}
	if names := allNames(t, dir); names != "out" {
		t.Errorf("left in the directory: %s", names)
	}
}

func allNames(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// until waits for a condition.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so after ten seconds: %s", what)
		}
	}
}
