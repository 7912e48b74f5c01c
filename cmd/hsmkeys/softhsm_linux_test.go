package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Signals reach the command, whose end is that of the program, and nothing is left.
func TestSoftHSMRunPassesSignalsOn(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		signal       syscall.Signal
		status       int
	}{
		{"interrupted, and handled", `trap 'exit 9' INT`, syscall.SIGINT, 9},
		{"terminated, and handled", `trap 'exit 9' TERM`, syscall.SIGTERM, 9},
		{"hung up, and handled", `trap 'exit 9' HUP`, syscall.SIGHUP, 9},
		{"quit, and handled", `trap 'exit 9' QUIT`, syscall.SIGQUIT, 9},
		{"terminated", ``, syscall.SIGTERM, 128 + int(syscall.SIGTERM)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.Command("hsmkeys", "softhsm", "run", "--", "sh", "-c", tt.script+"\necho ready; while :; do sleep 0.05; done")
			cmd.Env = append(os.Environ(), "TMPDIR="+dir)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal, as in CI
			begin(t, cmd)
			if err := cmd.Process.Signal(tt.signal); err != nil {
				t.Fatal(err)
			}
			if got := wait(t, cmd); got != tt.status {
				t.Errorf("exit status %d, want %d", got, tt.status)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// What the caller ignores, as nohup(1) does, stays ignored.
func TestSoftHSMRunUnderNohup(t *testing.T) {
	for _, tt := range []struct {
		name   string
		signal syscall.Signal
	}{{"HUP", syscall.SIGHUP}, {"INT", syscall.SIGINT}} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", "trap '' "+tt.name+`; exec hsmkeys softhsm run -- sh -c 'echo ready; kill -s $0 $$ $PPID; read line'`+" "+tt.name)
			cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			begin(t, cmd)
			if err := cmd.Process.Signal(tt.signal); err != nil {
				t.Fatal(err)
			}
			if _, err := in.Write([]byte("go on\n")); err != nil {
				t.Fatal(err)
			}
			if got := wait(t, cmd); got != 0 {
				t.Errorf("exit status %d", got)
			}
		})
	}
}

// A process that the command leaves behind does not keep the directory, nor change the status.
func TestSoftHSMRunLeavesNothingToGrandchildren(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("hsmkeys", "softhsm", "run", "--", "sh", "-c",
		`cd "${HSMKEYS_STORE%/*}"; (i=0; while test $((i+=1)) -lt 20000; do : >f$i || exit; done) 2>/dev/null & until test -f f9; do :; done; echo ready`)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	begin(t, cmd)
	if got := wait(t, cmd); got != 0 {
		t.Errorf("exit status %d", got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// begin starts a command, and waits until it is ready.
func begin(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
}

// ^C at a terminal reaches the command once, from the terminal.
func TestSoftHSMRunAtATerminal(t *testing.T) {
	dir := t.TempDir()
	p := newTerminal(t)
	cmd := exec.Command("hsmkeys", "softhsm", "run", "--", "sh", "-c", `n=0; trap 'n=$((n+1))' INT; trap 'echo interrupted $n; exit 0' USR1; echo ready; while :; do sleep 0.05; done`)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	p.attach(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	Until(t, "it is ready", func() bool { return strings.Contains(p.shows(), "ready") })
	if _, err := p.person.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	Until(t, "^C is shown", func() bool { return strings.Contains(p.shows(), "^C") })
	// It comes after whatever would have been passed on.
	if err := cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, cmd); got != 0 || !strings.Contains(p.shows(), "interrupted 1\r\n") {
		t.Errorf("exit status %d: %s", got, p.shows())
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
