package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
)

// A rehearsal that is interrupted removes what it has made, and states nothing; one that is killed leaves a
// directory that keeps nobody from rehearsing again.
func TestInterruptedRehearsals(t *testing.T) {
	o := newOffice(t)
	o.run(t, "token", "init", "vault", "--so-pin-source", "env:SO_PIN_FOR_TEST")
	o.run(t, "--token", "vault", "init", "--pair-only", "--key-type", "p256")
	o.run(t, "--token", "vault", "certificate", "-o", "vault.pem")
	o.run(t, "certificate", "-o", "office.pem")
	o.run(t, "authority", "add", "vault.pem", "--yes")
	o.run(t, "rewrap")
	o.run(t, "create", "canary")
	o.run(t, "--token", "vault", "join", "--vouched-by", "office.pem", "--yes")
	left := func() []string {
		var all []string
		for _, pattern := range []string{"hsmkeys-rehearsal-*", "softhsm-*"} {
			found, err := filepath.Glob(filepath.Join(o.dir, "tmp", pattern))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, found...)
		}
		return all
	}
	if err := os.Mkdir(filepath.Join(o.dir, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	o.env = append(o.env, "TMPDIR="+filepath.Join(o.dir, "tmp"))
	for signal, leaves := range map[syscall.Signal]bool{syscall.SIGINT: false, syscall.SIGTERM: false, syscall.SIGKILL: true} {
		cmd, before := o.command("--token", "vault", "drill", "--rehearse"), len(left())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		Until(t, "the rehearsal has begun", func() bool { return len(left()) > before })
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if got := wait(t, cmd); got != failure.StatusFailed && !leaves {
			t.Errorf("%v: exit status %d", signal, got)
		}
		if !leaves && len(left()) != before {
			t.Errorf("%v: it leaves %v", signal, left())
		}
	}
	if found, _ := filepath.Glob(filepath.Join(o.dir, "store/rehearsals/*/*")); len(found) > 0 {
		t.Errorf("it was rehearsed: %v", found)
	}
	o.run(t, "--token", "vault", "drill", "--rehearse")
}
