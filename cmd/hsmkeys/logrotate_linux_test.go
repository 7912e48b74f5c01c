package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/softhsm"
)

// The file for logrotate in docs/audit.md, and the real logrotate: no record is lost between commands,
// and what is old is compressed.
func TestRecordsAreRotatedByLogrotate(t *testing.T) {
	page, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	const path = "/var/lib/hsmkeys/audit.log"
	_, config, ok := strings.Cut(string(page), "\n    "+path+" {\n")
	config, _, closed := strings.Cut(config, "\n    }\n")
	if !ok || !closed {
		t.Fatal("the page has no file for logrotate")
	}
	env, err := softhsm.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { env.Close() })
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Mkdir(at("log"), 0o700); err != nil { // logrotate takes only a directory that is nobody else's
		t.Fatal(err)
	}
	for name, text := range map[string]string{"pin": testPIN, "conf": at("log/audit.log") + " {\n" + config + "\n}\n"} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := &office{dir: dir, env: append(append(os.Environ(), env.Environ()...), "HSMKEYS_MODULE="+env.Module(), "HSMKEYS_TOKEN=office", "HSMKEYS_STORE="+at("store"),
		"HSMKEYS_PIN_SOURCE=file:"+at("pin"), "HSMKEYS_CONFIG=/dev/null", "XDG_STATE_HOME="+at("state"), "HSMKEYS_AUDIT=file:"+at("log/audit.log"))}
	hsmkeys := func(args ...string) {
		t.Helper()
		if out, err := o.command(args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	rotate := func() {
		t.Helper()
		if out, err := exec.Command("/usr/sbin/logrotate", "--force", "--state", at("rotated"), at("conf")).CombinedOutput(); err != nil {
			t.Fatalf("logrotate: %v: %s", err, out)
		}
	}
	hsmkeys("token", "init", "office", "--so-pin-source", "file:"+at("pin"))
	hsmkeys("init", "--key-type", "rsa2048")
	rotate()
	hsmkeys("create", "payroll")
	rotate()
	hsmkeys("create", "other")
	old, err := exec.Command("gzip", "-dc", at("log/audit.log.2.gz")).Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]string{"2": {string(old), `"command":"init"`}, "1": {read(t, at("log/audit.log.1")), `"key":"payroll"`}, "0": {read(t, at("log/audit.log")), `"key":"other"`}} {
		if !strings.Contains(want[0], want[1]) || strings.Count(want[0], "\n")%2 != 0 {
			t.Errorf("%s: %q has no %q", name, want[0], want[1])
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
