package main

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// journald: systemd-journald runs until the script ends, in a /run of its own.
func journald(ts *testscript.TestScript, neg bool, args []string) {
	mount(ts, "/run", "mode=755")
	ts.Check(os.MkdirAll("/run/systemd/journal", 0o755))
	ts.Check(os.MkdirAll("/run/log/journal", 0o755))
	cmd := exec.Command("/usr/lib/systemd/systemd-journald")
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	await(ts, func() bool {
		c, err := net.Dial("unixgram", "/run/systemd/journal/socket")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// journal N FIELD: waits until so many entries of the journal have a field.
func journal(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	await(ts, func() bool {
		out, err := exec.Command("journalctl", "-D", "/run/log/journal", "-q", "-o", "cat", "--output-fields="+args[1]).Output()
		return err == nil && len(strings.Fields(string(out))) >= want
	})
}

func await(ts *testscript.TestScript, f func() bool) {
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("not so after a minute")
		}
	}
}
