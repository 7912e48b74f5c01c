package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
)

// merge shows both copies and what of the other one it does not take, and does nothing
// without a yes.
func TestMergeShowsBothCopies(t *testing.T) {
	o := newOffice(t)
	o.run(t, "token", "init", "branch", "--so-pin-source", "env:SO_PIN_FOR_TEST")
	o.run(t, "--token", "branch", "init", "--pair-only", "--key-type", "p256")
	o.run(t, "--token", "branch", "certificate", "-o", "branch.pem")
	o.run(t, "token", "init", "vault", "--so-pin-source", "env:SO_PIN_FOR_TEST")
	o.run(t, "--token", "vault", "init", "--pair-only", "--key-type", "p256")
	o.run(t, "--token", "vault", "certificate", "-o", "vault.pem")
	o.run(t, "certificate", "-o", "office.pem")
	o.run(t, "owner", "add", "branch.pem", "--yes")
	o.run(t, "rewrap")
	o.run(t, "--token", "branch", "join", "--vouched-by", "office.pem", "--yes")
	common := o.head(t)
	if out, err := exec.Command("cp", "-a", filepath.Join(o.dir, "store"), filepath.Join(o.dir, "copy")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	o.run(t, "--token", "branch", "--store", "copy", "authority", "add", "vault.pem", "--yes")
	o.run(t, "--token", "branch", "--store", "copy", "create", "theirs")
	o.run(t, "create", "ours")
	ours := o.head(t)
	for _, no := range []string{"\n", "n\n", "\x04", "\x03"} {
		o.ask(t, no, failure.StatusFailed, "merge", "copy")
	}
	if _, err := os.Stat(filepath.Join(o.dir, "store/keys/theirs")); err == nil || o.head(t) != ours {
		t.Error("something was done without a yes")
	}
	shown := o.ask(t, "y\n", 0, "merge", "copy")
	showsInOrder(t, shown, "this copy +checkpoint "+ours+" of 20.* by office", "the other copy +checkpoint [0-9]+:[0-9a-f]{64} of 20.* by branch", "common +checkpoint "+common,
		"not taken +list of members 3 of 20.* by branch: authority vault joined", `Take in the keys of the other copy\?`)
	if _, err := os.Stat(filepath.Join(o.dir, "store/keys/theirs")); err != nil {
		t.Error(err)
	}
}
