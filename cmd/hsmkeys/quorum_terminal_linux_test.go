package main

import (
	"strings"
	"testing"
)

// Custodians come to one machine, one after the other: token, PIN, next. One mistypes the PIN, which is
// tried once, and tries again.
func TestCustodiansAtATerminal(t *testing.T) {
	o := newOffice(t)
	for _, label := range []string{"alice", "bob", "carol", "spare"} {
		o.run(t, "token", "init", label, "--so-pin-source", "env:SO_PIN_FOR_TEST")
		o.run(t, "--token", label, "init", "--pair-only", "--key-type", "p256")
		o.run(t, "--token", label, "certificate", "-o", label+".pem")
	}
	o.run(t, "certificate", "-o", "office.pem")
	o.run(t, "quorum", "create", "board", "--threshold", "2", "alice.pem", "bob.pem", "carol.pem", "--yes")
	o.run(t, "rewrap")

	p := newTerminal(t)
	cmd := o.command("recover", "--quorum", "board", "--from", "office.pem", "--to", "spare.pem", "--reason", "flood", "--pin-source", "prompt")
	p.attach(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const next = "the only token that is there: "
	for _, x := range []exchange{
		{"Ask the custodians to put the new owner in the place of the old one? [y/N] ", "y\n"},
		{"2 custodians of board still needed: insert the token of the next custodian; its label, or nothing for " + next, "carol\n"},
		{"PIN of token carol: ", testPIN + "\n"},
		{"Approve that the new owner gets every key, in the place of the old one? [y/N] ", "y\n"},
		{"1 custodian of board still needed: insert the token of the next custodian; its label, or nothing for " + next, "alice\n"},
		{"PIN of token alice: ", "000000\n"},
		{next, "nobody\n"},
		{next, "alice\n"},
		{"PIN of token alice: ", testPIN + "\n"},
		{"Approve that the new owner gets every key, in the place of the old one? [y/N] ", "n\n"},
		{next, "bob\n"},
		{"PIN of token bob: ", testPIN + "\n"},
		{"Approve that the new owner gets every key, in the place of the old one? [y/N] ", "y\n"},
	} {
		Until(t, x.prompt, func() bool {
			return strings.HasSuffix(p.shows(), x.prompt) && (!strings.HasPrefix(x.prompt, "PIN") || !p.echoes(t))
		})
		if _, err := p.person.WriteString(x.typed); err != nil {
			t.Fatal(err)
		}
	}
	if got := wait(t, cmd); got != 0 {
		t.Fatalf("exit status %d: %s", got, p.shows())
	}
	Until(t, "the end", func() bool { return strings.Contains(p.shows(), "recovered 1, done before 0, failed 0") })
	for _, shown := range []string{"CKR_PIN_INCORRECT", "the answer was not yes", "approved by carol", "approved by bob", "replaces it with hsmkeys quorum replace board"} {
		if !strings.Contains(p.shows(), shown) {
			t.Errorf("the terminal does not show %q: %s", shown, p.shows())
		}
	}
	if strings.Contains(p.shows(), testPIN) {
		t.Error("the terminal shows a PIN")
	}
}
