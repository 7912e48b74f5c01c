package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/tally"
	"github.com/hsmkeys/hsmkeys/softhsm"
)

// An office is a token with a keyring, for tests that need more than a script can
// do with a process.
type office struct {
	dir  string
	env  []string
	soft *softhsm.Env // nil if the test needs no token
}

// newOffice makes one, with the session key "payroll".
func newOffice(t *testing.T) *office {
	t.Helper()
	env, err := softhsm.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { env.Close() })
	dir := t.TempDir()
	o := &office{dir, append(append(os.Environ(), env.Environ()...),
		"HSMKEYS_MODULE="+env.Module(), "HSMKEYS_TOKEN=office", "HSMKEYS_STORE="+filepath.Join(dir, "store"),
		"HSMKEYS_PIN_SOURCE=env:PIN_FOR_TEST", "PIN_FOR_TEST="+testPIN, "SO_PIN_FOR_TEST="+testSOPIN, "HOME="+dir), env}
	o.run(t, "token", "init", "office", "--so-pin-source", "env:SO_PIN_FOR_TEST")
	o.run(t, "init", "--key-type", "rsa2048")
	o.run(t, "create", "payroll")
	return o
}

func (o *office) command(args ...string) *exec.Cmd {
	cmd := exec.Command("hsmkeys", args...)
	cmd.Dir, cmd.Env = o.dir, o.env
	return cmd
}

func (o *office) run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := o.command(args...).CombinedOutput(); err != nil {
		t.Fatalf("hsmkeys %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// hidden are the temporary files of -o.
func (o *office) hidden() []string {
	found, _ := filepath.Glob(filepath.Join(o.dir, ".hsmkeys-*"))
	return found
}

// nearlyOver is when a test that waits for something has to say so: shortly before the
// limit of go test, as a busy machine may take any time.
func nearlyOver(t *testing.T) <-chan time.Time {
	end, ok := t.Deadline()
	if !ok {
		return nil
	}
	return time.After(time.Until(end) - 10*time.Second)
}

// wait waits for a process to end and gives its exit status.
func wait(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
		return cmd.ProcessState.ExitCode()
	case <-nearlyOver(t):
		cmd.Process.Kill()
		t.Fatal("it does not end")
		return -1
	}
}

// Until waits for what another process does.
func Until(t *testing.T, what string, f func() bool) {
	t.Helper()
	over := nearlyOver(t)
	for !f() {
		select {
		case <-over:
			t.Fatalf("waited in vain: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ^C in the middle of a file: the process ends, leaves what had the name of -o
// before, and no temporary file.
func TestInterrupted(t *testing.T) {
	o := newOffice(t)
	plain := filepath.Join(o.dir, "plain")
	data := make([]byte, 4<<20)
	rand.Read(data)
	if err := os.WriteFile(plain, data, 0o600); err != nil {
		t.Fatal(err)
	}
	o.run(t, "encrypt", "--key", "payroll", "-o", "sealed", "plain")
	sealed, err := os.ReadFile(filepath.Join(o.dir, "sealed"))
	if err != nil {
		t.Fatal(err)
	}
	// Whoever runs the tests under nohup has children ignore a hang-up, unless it is handled.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for _, tt := range []struct {
		name   string
		args   []string
		input  []byte
		signal os.Signal
		before string // what is in the file of -o, if anything
	}{
		{"encrypt", []string{"encrypt", "--key", "payroll"}, data, syscall.SIGINT, ""},
		{"decrypt", []string{"decrypt"}, sealed, syscall.SIGINT, ""},
		{"decrypt over a file that is there", []string{"decrypt"}, sealed, syscall.SIGINT, "the old one"},
		{"decrypt, terminated", []string{"decrypt"}, sealed, syscall.SIGTERM, ""},
		{"decrypt, hung up", []string{"decrypt"}, sealed, syscall.SIGHUP, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := filepath.Join(o.dir, "out")
			if tt.before != "" {
				if err := os.WriteFile(out, []byte(tt.before), 0o600); err != nil {
					t.Fatal(err)
				}
				defer os.Remove(out)
			}
			cmd := o.command(append(tt.args, "-o", out)...)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close() // not before: the process waits for more
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := in.Write(tt.input[:len(tt.input)-1000]); err != nil {
				t.Fatal(err)
			}
			Until(t, "something is written", func() bool {
				for _, name := range o.hidden() { // on a file system without O_TMPFILE
					if info, err := os.Stat(name); err == nil && info.Size() > 0 {
						return true
					}
				}
				sizes := unnamed(cmd.Process.Pid)
				return len(sizes) == 1 && sizes[0] > 0
			})
			if err := cmd.Process.Signal(tt.signal); err != nil {
				t.Fatal(err)
			}
			if got := wait(t, cmd); got != failure.StatusFailed || stderr.String() != "hsmkeys: interrupted\n" {
				t.Errorf("exit status %d, %q", got, stderr.String())
			}
			if left := o.hidden(); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			got, err := os.ReadFile(out)
			if tt.before == "" != os.IsNotExist(err) || string(got) != tt.before {
				t.Errorf("the file holds %d bytes, %v; want %q", len(got), err, tt.before)
			}
		})
	}
}

// What comes out of a pipe before the input has ended is authentic, and it does
// come out: nobody waits for the last byte.
func TestDecryptStreams(t *testing.T) {
	o := newOffice(t)
	data := make([]byte, 1<<20)
	rand.Read(data)
	if err := os.WriteFile(filepath.Join(o.dir, "plain"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	o.run(t, "encrypt", "-k", "payroll", "-o", "sealed", "plain")
	sealed, err := os.ReadFile(filepath.Join(o.dir, "sealed"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := o.command("decrypt")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go in.Write(sealed[:len(sealed)/2])
	first := make(chan error, 1)
	got := make([]byte, 256<<10)
	go func() {
		for n := 0; n < len(got); {
			m, err := out.Read(got[n:])
			if n += m; err != nil {
				first <- fmt.Errorf("after %d bytes: %w", n, err)
				return
			}
		}
		first <- nil
	}()
	select {
	case err := <-first:
		if err != nil {
			t.Fatal(err)
		}
	case <-nearlyOver(t):
		t.Error("nothing comes out before the input has ended")
	}
	if !bytes.Equal(got, data[:len(got)]) {
		t.Error("what came out is not what went in")
	}
	in.Close() // in the middle
	go io.Copy(io.Discard, out)
	if got := wait(t, cmd); got != failure.StatusIntegrity {
		t.Errorf("exit status %d for half a file", got)
	}
}

// Keys that were not come to are not keys that failed.
func TestAnInterruptIsNoVerdict(t *testing.T) {
	cut := fmt.Errorf("key %q: %w", "payroll", context.Canceled)
	results := []hsmkeys.Result{{Done: true}, {Ref: hsmkeys.Ref{Name: "payroll", Version: 1}, Err: cut}, {Err: context.Canceled}}
	got, err := tally.Run(slices.Values(results), 3, "rewrap", nil)
	if got.Done != 1 || len(got.Failed) != 0 || !errors.Is(err, context.Canceled) || !errors.Is(err, failure.ErrReported) {
		t.Errorf("%+v, %v", got, err)
	}
	s := output.NewStream(io.Discard)
	if s.Cut(errors.New("another")) || s.Cut(nil) || s.End() != nil || !s.Cut(cut) || !errors.Is(s.End(), context.Canceled) {
		t.Error("an interrupt is not told from a failure")
	}
}
