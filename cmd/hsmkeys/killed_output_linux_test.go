package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hsmkeys/hsmkeys/cmd/internal/datafile"
)

// unnamed returns the sizes of the regular files without a name that a process has open.
func unnamed(pid int) (sizes []int64) {
	found, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range found {
		if info, err := os.Stat(fd); err == nil && info.Mode().IsRegular() && info.Sys().(*syscall.Stat_t).Nlink == 0 {
			sizes = append(sizes, info.Size())
		}
	}
	return sizes
}

// A program that is killed in the middle of a file leaves nothing of it.
func TestKilled(t *testing.T) {
	o := newOffice(t)
	data := make([]byte, 1<<20)
	rand.Read(data)
	if err := os.WriteFile(filepath.Join(o.dir, "plain"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	o.run(t, "encrypt", "--key", "payroll", "-o", "sealed", "plain")
	sealed, err := os.ReadFile(filepath.Join(o.dir, "sealed"))
	if err != nil {
		t.Fatal(err)
	}
	for _, before := range []string{"", "the old one"} {
		dir := unnamedHere(t)
		out, left := filepath.Join(dir, "out"), ""
		if before != "" {
			left = "out"
			if err := os.WriteFile(out, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for round := range 5 {
			cmd := o.command("decrypt", "-o", out)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// It waits for the rest, with more or less of the file on the disk.
			if _, err := in.Write(sealed[:len(sealed)-1-round*200<<10]); err != nil {
				t.Fatal(err)
			}
			Until(t, "plaintext is on the disk", func() bool {
				sizes := unnamed(cmd.Process.Pid)
				return len(sizes) == 1 && sizes[0] > 0
			})
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			wait(t, cmd)
			in.Close()
			if names := allNames(t, dir); names != left {
				t.Errorf("round %d: left in the directory: %q", round, names)
			}
		}
		if got, err := os.ReadFile(out); before != "" && !bytes.Equal(got, []byte(before)) {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// unnamedHere returns a directory on a file system that has unnamed files: that of the other
// temporary files, or else a tmpfs.
func unnamedHere(t *testing.T) string {
	t.Helper()
	for _, above := range []string{t.TempDir(), "/dev/shm"} {
		dir, err := os.MkdirTemp(above, "hsmkeys-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if datafile.TryUnnamed(dir) == nil {
			return dir
		}
	}
	t.Fatal("neither the directory for temporary files nor /dev/shm has O_TMPFILE")
	return ""
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
