package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hsmkeys/hsmkeys/softhsm"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"hsmkeys": main})
}

// TestScripts runs the sessions under testdata, each with a SoftHSM environment,
// a token "office" and a store of its own. Every hsmkeys is a process of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":     status1,
			"flip":       flip,
			"size":       size,
			"smalldisk":  smallDisk,
			"readonly":   readOnly,
			"ageencrypt": ageEncrypt,
			"absent":     absent,
		},
	})
}

const testPIN, testSOPIN = "1357924680", "2468013579"

func setup(e *testscript.Env) error {
	env, err := softhsm.New()
	if err != nil {
		return err
	}
	e.Defer(func() { env.Close() })
	for name, content := range map[string]string{"pin": testPIN, "so-pin": testSOPIN} {
		if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(content+"\n"), 0o600); err != nil {
			return err
		}
	}
	e.Vars = append(e.Vars, env.Environ()...)
	e.Vars = append(e.Vars,
		"HSMKEYS_MODULE="+env.Module(), "HSMKEYS_TOKEN=office", "HSMKEYS_STORE="+filepath.Join(e.WorkDir, "store"),
		"HSMKEYS_PIN_SOURCE=file:"+filepath.Join(e.WorkDir, "pin"), "HOME="+e.WorkDir)
	return nil
}

// status N COMMAND…: the command ends with exit status N, and nothing that it
// prints shows a PIN.
func status1(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); err != nil {
		if !asExit(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
	for _, out := range []string{ts.ReadFile("stdout"), ts.ReadFile("stderr")} {
		if strings.Contains(out, testPIN) || strings.Contains(out, testSOPIN) {
			ts.Fatalf("the output shows a PIN")
		}
	}
	// An error is one line, and perhaps a hint.
	if lines := strings.Split(strings.TrimSpace(ts.ReadFile("stderr")), "\n"); got != 0 && lines[0] == "" {
		ts.Fatalf("no word about the failure")
	}
}

func asExit(err error, exit **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*exit = e
	return ok
}

// flip FILE OFFSET: one bit of the byte there, counted from the end when negative.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 1
	ts.Check(os.WriteFile(path, data, 0o600))
}

// size FILE BYTES: cuts or lengthens a file.
func size(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR|os.O_CREATE, 0o600)
	ts.Check(err)
	ts.Check(f.Truncate(n))
	ts.Check(f.Close())
}

// mount puts a tmpfs at a directory until the script ends. It takes root, as does
// the CI; without it the test fails and says so.
func mount(ts *testscript.TestScript, path, options string) {
	ts.Check(os.MkdirAll(path, 0o700))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", path).CombinedOutput(); err == nil {
		ts.Defer(func() { exec.Command("umount", "-l", path).Run() })
	} else {
		ts.Fatalf("this test mounts a small file system, for which it must be root: %v: %s", err, out)
	}
}

// smalldisk DIRECTORY BYTES: a file system that is soon full.
func smallDisk(ts *testscript.TestScript, neg bool, args []string) {
	mount(ts, ts.MkAbs(args[0]), "size="+args[1])
}

// readonly DIRECTORY: remounts a smalldisk read-only.
func readOnly(ts *testscript.TestScript, neg bool, args []string) {
	if out, err := exec.Command("mount", "-o", "remount,ro", ts.MkAbs(args[0])).CombinedOutput(); err != nil {
		ts.Fatalf("%v: %s", err, out)
	}
}

// ageencrypt FILE: an age file for somebody else.
func ageEncrypt(ts *testscript.TestScript, neg bool, args []string) {
	identity, err := age.GenerateX25519Identity()
	ts.Check(err)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, identity.Recipient())
	ts.Check(err)
	fmt.Fprint(w, "for somebody else")
	ts.Check(w.Close())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), out.Bytes(), 0o600))
}

// absent GLOB: no file has such a name.
func absent(ts *testscript.TestScript, neg bool, args []string) {
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(found) > 0 {
		ts.Fatalf("there is %v", found)
	}
}

// TestInterrupted sends ^C to a process that is in the middle of a file: it ends,
// and leaves neither the file nor a temporary one.
func TestInterrupted(t *testing.T) {
	env := softhsm.NewT(t)
	made, err := env.InitToken("office")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("HSMKEYS_MODULE", env.Module())
	t.Setenv("HSMKEYS_STORE", filepath.Join(dir, "store"))
	t.Setenv("HSMKEYS_PIN_SOURCE", "env:PIN_FOR_TEST")
	t.Setenv("PIN_FOR_TEST", made.PIN)
	t.Setenv("HOME", dir)
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("hsmkeys", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	run("init", "--key-type", "rsa2048")
	run("create", "payroll")

	out := filepath.Join(dir, "out.age")
	cmd := exec.Command("hsmkeys", "encrypt", "--key", "payroll", "-o", out)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(in, zeros{}, 4<<20); err != nil { // it has begun to write
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		cmd.Process.Kill()
		t.Fatal("it does not end")
	}
	if got := cmd.ProcessState.ExitCode(); got != statusFailed || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit status %d, %q", got, stderr.String())
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	hidden, _ := filepath.Glob(filepath.Join(dir, ".hsmkeys-*"))
	if len(left) != 1 || len(hidden) > 0 { // the store
		t.Errorf("left behind: %v %v", left, hidden)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
