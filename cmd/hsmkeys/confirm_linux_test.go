package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestWhateverChangesWhoHoldsKeysAsks runs each such command at a terminal: it shows role,
// label and fingerprint of each party, and does nothing without a yes.
func TestWhateverChangesWhoHoldsKeysAsks(t *testing.T) {
	o := newOffice(t)
	for _, label := range []string{"vault", "branch", "spare"} {
		o.run(t, "token", "init", label, "--so-pin-source", "env:SO_PIN_FOR_TEST")
		o.run(t, "--token", label, "init", "--pair-only", "--key-type", "p256")
		o.run(t, "--token", label, "certificate", "-o", label+".pem")
	}
	o.run(t, "certificate", "-o", "office.pem")
	print := func(label string) string {
		t.Helper()
		c, err := readCertificate(filepath.Join(o.dir, label+".pem"))
		if err != nil {
			t.Fatal(err)
		}
		return "SHA-256 " + fingerprint(c)
	}
	lists := func() int {
		t.Helper()
		found, err := os.ReadDir(filepath.Join(o.dir, "store/keyring"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	// ask runs a command, answers its one question, and gives what was shown before it.
	ask := func(answer string, status int, args ...string) string {
		t.Helper()
		p := newTerminal(t)
		cmd := o.command(args...)
		p.attach(cmd)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		until(t, "a question: "+strings.Join(args, " "), func() bool { return strings.HasSuffix(p.shows(), "[y/N] ") })
		shown := strings.ReplaceAll(p.shows(), "\r\n", "\n")
		if _, err := p.person.WriteString(answer); err != nil {
			t.Fatal(err)
		}
		if got := wait(t, cmd); got != status {
			t.Errorf("%q: exit status %d, want %d: %q", args, got, status, p.shows())
		}
		if strings.Contains(p.shows(), "[y/N] hsmkeys: ") || strings.Contains(p.shows(), "[y/N] ^Chsmkeys: ") || strings.Contains(p.shows(), "\r\n\r\n") {
			t.Errorf("%q: the line of the question ends otherwise than once: %q", args, p.shows())
		}
		return shown
	}
	for _, step := range []struct {
		name  string
		args  []string
		shows []string // in this order
		list  int      // how many lists of members there are then
	}{
		{"authority add", []string{"authority", "add", "vault.pem"},
			[]string{"role +authority", "label +vault", print("vault")}, 2},
		{"owner add", []string{"owner", "add", "branch.pem"},
			[]string{"role +owner", "label +branch", print("branch")}, 3},
		{"join", []string{"--token", "vault", "join", "--vouched-by", "office.pem"},
			[]string{"vouched for by", "role +owner", "label +office", print("office"), "keyring [0-9a-f]{32}, list of members 3",
				"owner +office, " + print("office"), "authority +vault, " + print("vault"), "owner +branch, " + print("branch")}, 3},
		{"owner remove", []string{"owner", "remove", "branch"},
			[]string{"role +owner", "label +branch", print("branch")}, 4},
		{"recover", []string{"--token", "vault", "recover", "--from", "office.pem", "--to", "spare.pem", "--reason", "fire in room 3"},
			[]string{"from\n", "role +owner", "label +office", print("office"), "to\n", "role +owner", "label +spare", print("spare"),
				"keyring +[0-9a-f]{32}, list of members 4", "by +authority vault", "keys +1 version", "reason +fire in room 3"}, 5},
		{"authority remove", []string{"--token", "spare", "authority", "remove", "vault"},
			[]string{"role +authority", "label +vault", print("vault")}, 6},
	} {
		t.Run(step.name, func(t *testing.T) {
			before := lists()
			for _, no := range []string{"\n", "n\n", "\x04", "yy\n", "\x03"} {
				ask(no, statusFailed, step.args...)
			}
			if lists() != before {
				t.Error("something was done without a yes")
			}
			shown := ask("y\n", 0, step.args...)
			rest := shown
			for _, want := range step.shows {
				at := regexp.MustCompile(want).FindStringIndex(rest)
				if at == nil {
					t.Fatalf("it does not show %q in its place:\n%s", want, shown)
				}
				rest = rest[at[1]:]
			}
			if lists() != step.list {
				t.Errorf("%d lists of members, want %d", lists(), step.list)
			}
		})
		switch step.name {
		case "owner add":
			o.run(t, "rewrap")
		case "recover":
			o.run(t, "--token", "spare", "join", "--vouched-by", "vault.pem", "--yes")
		}
	}
}

// TestThePromptComesAfterTheEcho stops the terminal's output, so that a program that
// writes its prompt first gets no further.
func TestThePromptComesAfterTheEcho(t *testing.T) {
	o := newOffice(t)
	p := newTerminal(t)
	flow := func(action uintptr) {
		t.Helper()
		const tcxonc = 0x540a // ioctl_tty(2)
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, p.tty.Fd(), tcxonc, action); errno != 0 {
			t.Fatal(errno)
		}
	}
	const off, on = 0, 1 // TCOOFF, TCOON
	flow(off)
	cmd := o.command("list", "--pin-source", "prompt")
	p.attach(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the echo is off", func() bool { return !p.echoes(t) })
	if shows := p.shows(); shows != "" {
		t.Errorf("it shows %q", shows)
	}
	flow(on)
	p.answer(t, "PIN of token office", testPIN+"\n")
	if got := wait(t, cmd); got != 0 {
		t.Errorf("exit status %d: %q", got, p.shows())
	}
}
