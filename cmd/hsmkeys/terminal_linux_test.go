package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
)

// A terminal is a pseudo-terminal: what a person would see and type.
type pseudoTerminal struct {
	person, tty *os.File

	mu   sync.Mutex
	seen bytes.Buffer
}

func newTerminal(t *testing.T) *pseudoTerminal {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	var unlock, number int32
	ioctl(t, person, syscall.TIOCSPTLCK, unsafe.Pointer(&unlock))
	ioctl(t, person, syscall.TIOCGPTN, unsafe.Pointer(&number))
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	p := &pseudoTerminal{person: person, tty: tty}
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := person.Read(buffer)
			p.mu.Lock()
			p.seen.Write(buffer[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

func ioctl(t *testing.T, f *os.File, request uintptr, arg unsafe.Pointer) {
	t.Helper()
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		t.Fatalf("ioctl %#x: %v", request, errno)
	}
}

func (p *pseudoTerminal) echoes(t *testing.T) bool {
	var state syscall.Termios
	ioctl(t, p.tty, syscall.TCGETS, unsafe.Pointer(&state))
	return state.Lflag&syscall.ECHO != 0
}

func (p *pseudoTerminal) shows() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.String()
}

// attach makes p the controlling terminal of a process, and its stdin, stdout and
// stderr where they are nil.
func (p *pseudoTerminal) attach(cmd *exec.Cmd) {
	cmd.Stdin = p.tty
	if cmd.Stdout == nil {
		cmd.Stdout = p.tty
	}
	if cmd.Stderr == nil {
		cmd.Stderr = p.tty
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
}

// answer waits for a prompt that hides what is typed, and types.
func (p *pseudoTerminal) answer(t *testing.T, prompt, typed string) {
	t.Helper()
	Until(t, prompt, func() bool { return strings.HasSuffix(p.shows(), prompt+": ") && !p.echoes(t) })
	if _, err := p.person.WriteString(typed); err != nil {
		t.Fatal(err)
	}
}

// An exchange is what a program asks at the terminal, and what is typed then.
type exchange struct{ prompt, typed string }

// converse runs a command at the terminal until it ends.
func (p *pseudoTerminal) converse(t *testing.T, cmd *exec.Cmd, exchanges []exchange, status int) {
	t.Helper()
	p.attach(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, x := range exchanges {
		p.answer(t, x.prompt, x.typed)
	}
	if got := wait(t, cmd); got != status {
		t.Errorf("exit status %d, want %d: %q", got, status, p.shows())
	}
}

func TestPINAtAPrompt(t *testing.T) {
	o := newOffice(t)
	for _, tt := range []struct {
		name   string
		args   []string
		typed  []exchange
		status int
		shows  string
	}{
		{"the PIN", []string{"list"}, []exchange{{"PIN of token office", testPIN + "\n"}}, 0, "payroll"},
		{"a wrong PIN is asked for once", []string{"list"}, []exchange{{"PIN of token office", "000000\n"}}, failure.StatusToken, "CKR_PIN_INCORRECT"},
		{"nothing is typed", []string{"list"}, []exchange{{"PIN of token office", "\n"}}, failure.StatusToken, "nothing was typed"},
		{"a byte order mark", []string{"list"}, []exchange{{"PIN of token office", "\ufeff" + testPIN + "\n"}}, failure.StatusToken, "byte order mark"},
		{"^D", []string{"list"}, []exchange{{"PIN of token office", "\x04"}}, failure.StatusToken, "nothing was typed: the input ended (^D)"},
		{"^D in the middle of a PIN", []string{"list"}, []exchange{{"PIN of token office", "1357\x04\x04"}}, failure.StatusToken, "the input ended (^D)"},
		{"^C", []string{"list"}, []exchange{{"PIN of token office", "\x03"}}, failure.StatusFailed, " interrupted"},
		{"^C in the middle of a PIN", []string{"list"}, []exchange{{"PIN of token office", "1357\x03"}}, failure.StatusFailed, " interrupted"},
		{"a new token", []string{"token", "init", "second", "--so-pin-source", "prompt"}, []exchange{
			{"new PIN of the security officer", testSOPIN + "\n"}, {"new PIN of the security officer, again", testSOPIN + "\n"},
			{"new PIN of the user", testPIN + "\n"}, {"new PIN of the user, again", testPIN + "\n"},
		}, 0, "token second initialised"},
		{"a new token, mistyped", []string{"token", "init", "third", "--so-pin-source", "env:SO_PIN_FOR_TEST"}, []exchange{
			{"new PIN of the user", testPIN + "\n"}, {"new PIN of the user, again", testPIN + "1\n"},
		}, failure.StatusToken, "the two are not the same"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newTerminal(t)
			p.converse(t, o.command(append(tt.args, "--pin-source", "prompt")...), tt.typed, tt.status)
			if !p.echoes(t) {
				t.Error("the terminal is left without echo")
			}
			Until(t, tt.shows, func() bool { return strings.Contains(p.shows(), tt.shows) })
			for line := range strings.Lines(p.shows()) {
				if strings.Contains(line, "PIN of") && strings.Contains(line, "hsmkeys: ") {
					t.Errorf("a message stands behind a prompt: %q", line)
				}
			}
			if n := strings.Count(p.shows(), "PIN of"); n != len(tt.typed) {
				t.Errorf("asked %d times, want %d", n, len(tt.typed))
			}
			for _, secret := range []string{testPIN, testSOPIN, "1357"} {
				if strings.Contains(p.shows(), secret) {
					t.Errorf("the terminal shows what was typed: %q", p.shows())
				}
			}
		})
	}
}

// A key, or a binary file, is not for a terminal.
func TestTerminalIsSparedSecrets(t *testing.T) {
	o := newOffice(t)
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		shows  string
	}{
		{"reveal", []string{"reveal", "payroll"}, failure.StatusUsage, "a raw key does not go to a terminal"},
		{"reveal --hex", []string{"reveal", "--hex", "payroll"}, failure.StatusUsage, "a raw key does not go to a terminal"},
		{"reveal to /dev/tty", []string{"reveal", "payroll", "-o", "/dev/tty"}, failure.StatusUsage, "a raw key does not go to a terminal"},
		{"encrypt", []string{"encrypt", "--key", "payroll", "store/state/0000000/001"}, failure.StatusUsage, "use -o FILE"},
		{"encrypt to -", []string{"encrypt", "--key", "payroll", "-o", "-", "store/state/0000000/001"}, failure.StatusUsage, "use -o FILE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newTerminal(t)
			cmd := o.command(tt.args...)
			p.attach(cmd)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if got := wait(t, cmd); got != tt.status {
				t.Errorf("exit status %d, want %d", got, tt.status)
			}
			Until(t, tt.shows, func() bool { return strings.Contains(p.shows(), tt.shows) && strings.HasSuffix(p.shows(), "\n") })
			if lines := strings.Count(p.shows(), "\n"); lines != 1 {
				t.Errorf("it shows %q", p.shows())
			}
		})
	}
	t.Run("reveal --force", func(t *testing.T) {
		want, err := o.command("reveal", "payroll").Output()
		if err != nil || len(want) != 32 {
			t.Fatalf("%d bytes, %v", len(want), err)
		}
		p := newTerminal(t)
		cmd := o.command("reveal", "payroll", "--force")
		p.attach(cmd)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if got := wait(t, cmd); got != 0 {
			t.Errorf("exit status %d", got)
		}
		// The terminal puts a carriage return before each line feed.
		seen := strings.ReplaceAll(string(want), "\n", "\r\n")
		Until(t, "the key", func() bool { return p.shows() == seen })
	})
}
