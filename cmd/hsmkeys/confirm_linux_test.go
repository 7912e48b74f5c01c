package main

import (
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/keyfile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// TestWhateverChangesWhoHoldsKeysAsks runs each such command at a terminal: it shows role,
// label and fingerprint of each party, and does nothing without a yes.
func TestWhateverChangesWhoHoldsKeysAsks(t *testing.T) {
	o := newOffice(t)
	for _, label := range []string{"vault", "branch", "spare", "alice", "bob"} {
		o.run(t, "token", "init", label, "--so-pin-source", "env:SO_PIN_FOR_TEST")
		o.run(t, "--token", label, "init", "--pair-only", "--key-type", "p256")
		o.run(t, "--token", label, "certificate", "-o", label+".pem")
	}
	o.run(t, "certificate", "-o", "office.pem")
	print := func(label string) string {
		t.Helper()
		c, err := keyfile.ReadCertificate(filepath.Join(o.dir, label+".pem"))
		if err != nil {
			t.Fatal(err)
		}
		return "SHA-256 " + show.Fingerprint(c)
	}
	count := func(dir string) int {
		t.Helper()
		found, err := os.ReadDir(filepath.Join(o.dir, "store", dir))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	pins := func() string { // what is pinned, in which place ever
		t.Helper()
		out, err := exec.Command("find", filepath.Join(o.dir, ".local/state"), "-type", "f", "-exec", "sha256sum", "{}", "+").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	ask := func(answer string, status int, args ...string) string {
		t.Helper()
		return o.ask(t, answer, status, args...)
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
		{"recover", []string{"--token", "vault", "recover", "--from", "office.pem", "--to", "spare.pem", "--reason", "fire in room 3"},
			[]string{"from\n", "role +owner", "label +office", print("office"), "to\n", "role +owner", "label +spare", print("spare"),
				"vouched for by +the state that this token has accepted",
				"keyring +[0-9a-f]{32}, checkpoint [0-9]+, list of members 3", "owner +office, " + print("office"), "authority +vault, " + print("vault"), "by +authority vault", "keys +1 version", "reason +fire in room 3"}, 4},
		{"accept", []string{"--token", "branch", "accept", newest},
			[]string{"recovery +checkpoint [0-9]+:[0-9a-f]{64}", "reason +fire in room 3", "the old owner +last signed checkpoint [0-9]+",
				"by\n", "role +authority", "label +vault", print("vault"), "from\n", "label +office", print("office"), "to\n", "role +owner", "label +spare", print("spare")}, 4},
		{"join --replace-pin", []string{"--token", "vault", "join", "--replace-pin", "--checkpoint", newest},
			[]string{"keyring [0-9a-f]{32}, list of members 4", "checkpoint +[0-9]+:[0-9a-f]{64}", "owner +spare, " + print("spare"),
				"accepted so far +keyring [0-9a-f]{32}, checkpoint [0-9]+:", "Forget what this token has accepted"}, 4},
		{"owner remove", []string{"--token", "spare", "owner", "remove", "branch"},
			[]string{"role +owner", "label +branch", print("branch")}, 5},
		{"authority remove", []string{"--token", "spare", "authority", "remove", "vault"},
			[]string{"there is no backup authority: when this token is lost, the key and all data under it are lost",
				"role +authority", "label +vault", print("vault"), "afterwards +there is no backup authority: when this token is lost", "Remove this authority all the same"}, 6},
		{"quorum create", []string{"--token", "spare", "quorum", "create", "board", "--threshold", "2", "alice.pem", "bob.pem"},
			[]string{"quorum +board", "threshold +any 2 of 2 custodians", "custodian\n", "label +alice", print("alice"), "custodian\n", "label +bob", print("bob")}, 7},
		{"quorum replace", []string{"--token", "spare", "quorum", "replace", "board", "--threshold", "2", "bob.pem", "alice.pem"},
			[]string{"label +bob", print("bob"), "label +alice", print("alice")}, 8},
		{"policy", []string{"--token", "spare", "policy", "--recovery", "quorum-only"},
			[]string{"so far +a backup authority recovers", "from now on +only a quorum recovers"}, 9},
	} {
		t.Run(step.name, func(t *testing.T) {
			for i, arg := range step.args {
				if arg == newest {
					step.args[i] = o.head(t)
				}
			}
			checkpoints, before := count("checkpoints"), pins()
			for _, no := range []string{"\n", "n\n", "\x04", "yy\n", "\x03"} {
				ask(no, failure.StatusFailed, step.args...)
			}
			if count("checkpoints") != checkpoints || pins() != before {
				t.Error("something was done without a yes")
			}
			shown := ask("y\n", 0, step.args...)
			showsInOrder(t, shown, step.shows...)
			if got := count("members"); got != step.list {
				t.Errorf("%d lists of members, want %d", got, step.list)
			}
		})
		switch step.name {
		case "owner add":
			o.run(t, "rewrap")
			o.run(t, "--token", "branch", "join", "--vouched-by", "office.pem", "--yes")
		case "join --replace-pin":
			o.run(t, "--token", "spare", "join", "--vouched-by", "vault.pem", "--yes")
			o.run(t, "--token", "spare", "rewrap") // or else the authority would be the only one who has the key
		}
	}
}

// newest stands for the newest checkpoint, N:DIGEST.
const newest = "NEWEST"

// head returns the newest checkpoint in the store.
func (o *office) head(t *testing.T) string {
	t.Helper()
	store, err := dir.Open(filepath.Join(o.dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	number, head := 0, []byte(nil)
	for {
		der, err := store.Get(t.Context(), blob.SlotPath(number+1))
		if errors.Is(err, blob.ErrNotFound) {
			return ledger.Point{Number: number, Digest: sha256.Sum256(head)}.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		number, head = number+1, der
	}
}

// ask runs a command, answers its one question, and returns what was shown before it.
func (o *office) ask(t *testing.T, answer string, status int, args ...string) string {
	t.Helper()
	p := newTerminal(t)
	cmd := o.command(args...)
	p.attach(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	Until(t, "a question: "+strings.Join(args, " "), func() bool { return strings.HasSuffix(p.shows(), "[y/N] ") })
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

func showsInOrder(t *testing.T, shown string, patterns ...string) {
	t.Helper()
	rest := shown
	for _, want := range patterns {
		at := regexp.MustCompile(want).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("it does not show %q in its place:\n%s", want, shown)
		}
		rest = rest[at[1]:]
	}
}

// TestRecoverShowsTheVoucher founds a keyring as an attacker with write access to the
// storage would: the members are the genuine ones, and the voucher is not.
func TestRecoverShowsTheVoucher(t *testing.T) {
	o := newOffice(t)
	o.run(t, "certificate", "-o", "office.pem")
	for _, label := range []string{"vault", "spare", "evil"} {
		o.run(t, "token", "init", label, "--so-pin-source", "env:SO_PIN_FOR_TEST")
		o.run(t, "--token", label, "init", "--pair-only", "--key-type", "p256")
		o.run(t, "--token", label, "certificate", "-o", label+".pem")
	}
	o.run(t, "authority", "add", "vault.pem", "--yes")
	o.run(t, "rewrap")
	o.run(t, "--token", "evil", "--store", "forged", "init", "--key-type", "p256")
	o.run(t, "--token", "evil", "--store", "forged", "owner", "add", "office.pem", "--yes")
	o.run(t, "--token", "evil", "--store", "forged", "authority", "add", "vault.pem", "--yes")
	evil, err := keyfile.ReadCertificate(filepath.Join(o.dir, "evil.pem"))
	if err != nil {
		t.Fatal(err)
	}
	recovery := []string{"recover", "--from", "office.pem", "--to", "spare.pem", "--reason", "fire"}
	forged := append([]string{"--token", "vault", "--store", "forged"}, append(recovery, "--vouched-by", "evil.pem")...)
	shown := o.ask(t, "n\n", failure.StatusFailed, forged...)
	showsInOrder(t, shown, "from\n", "to\n", "vouched for by\n", "role +owner", "label +evil", "SHA-256 "+show.Fingerprint(evil),
		"list of members 3", "owner +evil, SHA-256", "owner +office, SHA-256", "authority +vault, SHA-256", "by +authority vault")

	// No has left the token as it was: the keyring is neither joined nor pinned.
	genuine := append([]string{"--token", "vault"}, recovery...)
	showsInOrder(t, o.ask(t, "n\n", failure.StatusFailed, genuine...), "vouched for by\n", "label +office")
	for _, store := range []string{"forged", "store"} {
		cmd := o.command("--token", "vault", "--store", store, "list")
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != failure.StatusIntegrity || !strings.Contains(string(out), "has not joined the keyring") {
			t.Errorf("%s: exit status %d, want %d: %s", store, got, failure.StatusIntegrity, out)
		}
	}

	// The voucher of a recovery and of a join may be a former owner.
	o.ask(t, "y\n", 0, genuine...)
	showsInOrder(t, o.ask(t, "n\n", failure.StatusFailed, "--token", "spare", "join", "--vouched-by", "office.pem"),
		"vouched for by\n", "role +FORMER owner, removed with list of members 3", "label +office")
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
	Until(t, "the echo is off", func() bool { return !p.echoes(t) })
	if shows := p.shows(); shows != "" {
		t.Errorf("it shows %q", shows)
	}
	flow(on)
	p.answer(t, "PIN of token office", testPIN+"\n")
	if got := wait(t, cmd); got != 0 {
		t.Errorf("exit status %d: %q", got, p.shows())
	}
}
