//go:build unix

package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// The test binary is also a writer, which is told to by this variable: a destination, the number of
// records and the name of their key.
const writerVariable = "HSMKEYS_TEST_WRITER"

func TestMain(m *testing.M) {
	syscall.Umask(0o022)
	if words := strings.Fields(os.Getenv(writerVariable)); len(words) == 3 {
		n, _ := strconv.Atoi(words[1])
		os.Exit(writeMany(words[0], n, words[2]))
	}
	os.Exit(m.Run())
}

func writeMany(to string, n int, key string) int {
	l, err := Open(to)
	for i := 0; err == nil && i < n; i++ {
		err = l.Write(record(key, i+1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// record returns a record of some length, which depends on the version.
func record(key string, version int) Record {
	return Record{Process: ThisProcess(), Event: hsmkeys.Event{
		Use:     hsmkeys.Use{Operation: hsmkeys.OpDecrypt, Key: key, Version: version, File: "/" + strings.Repeat("x", version*37%1000)},
		Outcome: hsmkeys.OutcomeDone,
	}}
}

// logFile returns the path of a log in a directory of its own, and the log.
func logFile(t *testing.T) (string, *Log) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	l, err := Open("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return path, l
}

// versions returns the versions of the records in a file by their keys, in their order. Each line must
// be whole, or empty, see isTorn.
func versions(t *testing.T, path string) map[string][]int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]int{}
	for line := range bytes.Lines(data) {
		if string(line) == "\n" {
			continue
		}
		var r struct {
			Key     string `json:"key"`
			Version int    `json:"version"`
		}
		if err := json.Unmarshal(line, &r); err != nil || line[len(line)-1] != '\n' {
			t.Fatalf("%v: %q", err, line)
		}
		all[r.Key] = append(all[r.Key], r.Version)
	}
	return all
}

func TestSixteenProcessesWriteAtOnce(t *testing.T) {
	path, l := logFile(t)
	const each = 50
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var processes sync.WaitGroup
	for i := range 16 {
		processes.Go(func() {
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=file:%s %d process-%d", writerVariable, path, each, i))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	for i := range 16 { // and as many goroutines in one process
		processes.Go(func() {
			for n := range each {
				if err := l.Write(record(fmt.Sprint("goroutine-", i), n+1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	processes.Wait()
	all := versions(t, path)
	for key, got := range all {
		for i, version := range got {
			if version != i+1 {
				t.Fatalf("%s: %v", key, got)
			}
		}
		if len(got) != each {
			t.Errorf("%s: %d records", key, len(got))
		}
	}
	if len(all) != 32 {
		t.Errorf("%d writers", len(all))
	}
}

// A program or the machine may have stopped while a line was written.
func TestATornLineIsNotContinued(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte(`{"key":"whole","version":1}`+"\n"+`{"key":"to`), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Open("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	if !l.Torn() {
		t.Error("it is not told")
	}
	for range 2 {
		if err := l.Write(Record{}); err != nil {
			t.Error(err)
		}
	}
	data, err := os.ReadFile(path)
	if lines := strings.Split(string(data), "\n"); err != nil || len(lines) != 5 || lines[1] != `{"key":"to` || !json.Valid([]byte(lines[2])) || !json.Valid([]byte(lines[3])) {
		t.Errorf("%q, %v", data, err)
	}
	again, err := Open("file:" + path)
	if err != nil || again.Torn() {
		t.Errorf("it is told of the next end of file: %v", err)
	}
}

// A file that may not grow is as a full disk: of a line a part is written, or nothing.
func TestALineThatDoesNotFit(t *testing.T) {
	path, l := logFile(t)
	if err := l.Write(record("a", 1)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	limited := func(bytes int64) string {
		cmd := exec.Command("prlimit", fmt.Sprintf("--fsize=%d:%d", bytes, bytes), self)
		cmd.Env = append(os.Environ(), writerVariable+"=file:"+path+" 1 b")
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("%d bytes are enough", bytes)
		}
		return string(out)
	}
	if out := limited(info.Size() + 10); !strings.Contains(out, "10 of ") || !strings.Contains(out, "short write") {
		t.Errorf("a part fits: %s", out)
	}
	if out := limited(info.Size() + 10); !strings.Contains(out, "0 of ") || !strings.Contains(out, "file too large") {
		t.Errorf("nothing fits: %s", out)
	}
	if err := l.Write(record("a", 2)); err != nil {
		t.Error(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || strings.Count(string(data), `"key":"a"`) != 2 || strings.Contains(string(data), `"key":"b"`) || len(strings.Split(string(data), "\n")) != 4 {
		t.Errorf("%v, %s", err, data)
	}
}

// As logrotate does it: the file is renamed, and the process gets a signal.
func TestALogIsRotated(t *testing.T) {
	path, l := logFile(t)
	write := func(version int) {
		t.Helper()
		if err := l.Write(record("a", version)); err != nil {
			t.Error(err)
		}
	}
	write(1)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(2)
	if err := l.Reopen(); err != nil {
		t.Error(err)
	}
	write(3)
	for name, want := range map[string]string{path + ".1": "[1 2]", path: "[3]"} {
		if got := fmt.Sprint(versions(t, name)["a"]); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}

	// It cannot be opened: nothing is written until it can be.
	if err := errors.Join(os.Rename(path, path+".2"), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); !errors.Is(err, ownfile.ErrKind) {
		t.Errorf("a directory is opened: %v", err)
	}
	if err := l.Write(record("a", 4)); !errors.Is(err, ownfile.ErrKind) {
		t.Errorf("a record goes nowhere: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(5)
	if got := fmt.Sprint(versions(t, path)["a"]); got != "[5]" {
		t.Error(got)
	}

	// Somebody has removed it.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(6)
	if got := fmt.Sprint(versions(t, path)["a"]); got != "[6]" {
		t.Error(got)
	}
}

// Records are written while the file is rotated all the time, and none is lost.
func TestALogIsRotatedWhileItIsWrittenTo(t *testing.T) {
	path, l := logFile(t)
	const writers, each = 8, 200
	var written atomic.Int64
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			for n := range each {
				if err := l.Write(record(fmt.Sprint("writer-", i), n+1)); err != nil {
					t.Error(err)
				}
				written.Add(1)
			}
		})
	}
	rotated := 0
	for ; written.Load() < writers*each; rotated++ {
		if err := errors.Join(os.Rename(path, fmt.Sprint(path, ".", rotated)), l.Reopen()); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	count := 0
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		for _, v := range versions(t, f) {
			count += len(v)
		}
	}
	if count != writers*each {
		t.Errorf("%d records in %d files", count, len(files))
	}
}

func TestFilesThatAreNoLogs(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.Mkdir(at("dir"), 0o700), unix.Mkfifo(at("fifo"), 0o600), os.WriteFile(at("shared"), nil, 0o600), os.Chmod(at("shared"), 0o666), os.Symlink(at("other"), at("link"))); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]error{
		"file:" + at("dir"): ownfile.ErrKind, "file:" + at("fifo"): ownfile.ErrKind, "file:/dev/null": ownfile.ErrKind, "file:" + at("link"): ownfile.ErrKind,
		"file:" + at("shared"): ownfile.ErrForeign, "file:" + at("none/log"): fs.ErrNotExist,
		"file:relative": ErrDestination, "file:": ErrDestination, "file": ErrDestination, "": ErrDestination, "stdout": ErrDestination, "syslog:relative": ErrDestination,
	} {
		l, err := Open(to)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, %v", to, l, err)
		}
	}
}

// Once a sync has failed, the system may report the next one as done though the data is lost.
func TestNothingIsWrittenAfterASyncHasFailed(t *testing.T) {
	var s sharedSync
	calls := 0
	broken := errors.New("broken")
	for range 3 {
		if err := s.do(func() error { calls++; return broken }); !errors.Is(err, broken) {
			t.Error(err)
		}
	}
	if calls != 1 {
		t.Errorf("%d syncs", calls)
	}
}

// Who has written before a sync begins shares it; who comes later waits for the next.
func TestSyncsAreShared(t *testing.T) {
	var s sharedSync
	var syncs, written, synced atomic.Int64
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for range 20 {
				mine := written.Add(1)
				_ = s.do(func() error {
					syncs.Add(1)
					synced.Store(written.Load())
					return nil
				})
				if synced.Load() < mine {
					t.Error("do has returned before what was written is synced")
				}
			}
		})
	}
	all.Wait()
	if syncs.Load() > 64*20 {
		t.Errorf("%d syncs", syncs.Load())
	}
}

// BenchmarkWrite measures a record on the disk, with one writer and with sixteen.
func BenchmarkWrite(b *testing.B) {
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l, err := Open("file:" + filepath.Join(b.TempDir(), "audit.log"))
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			var next atomic.Int64
			var all sync.WaitGroup
			for range writers {
				all.Go(func() {
					for next.Add(1) <= int64(b.N) {
						if err := l.Write(record("a", 1)); err != nil {
							b.Error(err)
						}
					}
				})
			}
			all.Wait()
		})
	}
}
