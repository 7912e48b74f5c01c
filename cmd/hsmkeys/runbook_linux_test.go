package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/softhsm"
)

// TestTheRunbook runs the commands of docs/recovery.md as they stand, at a terminal,
// where somebody answers the questions. Between the chapters the tokens are lost.
func TestTheRunbook(t *testing.T) {
	doc, err := os.ReadFile("../../docs/recovery.md")
	if err != nil {
		t.Fatal(err)
	}
	env, err := softhsm.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { env.Close() })
	dir := t.TempDir()
	medium := filepath.Join(dir, "medium")
	bin := filepath.Join(dir, "bin")
	for _, d := range []string{medium, bin} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// The test binary is hsmkeys when it is called so, see TestMain.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "hsmkeys")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pin"), []byte(testPIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := append(os.Environ(), env.Environ()...)
	environ = append(environ, "HSMKEYS_MODULE="+env.Module(), "HSMKEYS_STORE="+filepath.Join(dir, "store"), "HSMKEYS_PIN_SOURCE=file:"+filepath.Join(dir, "pin"),
		"MEDIUM="+medium, "PATH="+bin+":"+os.Getenv("PATH"), "XDG_STATE_HOME="+filepath.Join(dir, "state"), "HSMKEYS_CONFIG=/dev/null")

	run := func(what, script string, questions int) {
		t.Helper()
		p := newTerminal(t)
		cmd := exec.Command("sh", "-eu", "-c", script)
		cmd.Env, cmd.Dir = environ, "../.."
		p.attach(cmd)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for n := range questions {
			Until(t, "a question", func() bool { return strings.Count(p.shows(), "[y/N] ") > n })
			if _, err := p.person.WriteString("y\n"); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%s: %v\n%s\n%s", what, err, script, p.shows())
		}
	}
	lose := func(label string) {
		t.Helper()
		if err := destroyToken(env.TokenDir(), label); err != nil {
			t.Fatal(err)
		}
	}
	run("setting up", `
		for token in office vault spare second; do hsmkeys token init "$token" --so-pin-source "$HSMKEYS_PIN_SOURCE"; done
		hsmkeys --token office init
		hsmkeys --token office create payroll
		echo 'The salaries of March.' >"$MEDIUM/plain.txt"
		hsmkeys --token office encrypt --key payroll -o "$MEDIUM/letter.age" "$MEDIUM/plain.txt"
		hsmkeys --token second init --pair-only
		hsmkeys --token second certificate >"$MEDIUM/second.pem"`, 0)
	run("before", commands(t, string(doc), "Before it happens"), 2)
	run("with OpenSSL alone", commands(t, string(doc), "With OpenSSL alone"), 0)
	run("looking at that", `test "$(hsmkeys --token office reveal payroll | od -An -v -tx1 | tr -d ' \n')" = "$(cat "$MEDIUM/payroll.hex")"`, 0)
	lose("office")
	run("the loss", commands(t, string(doc), "The token is lost"), 2)
	run("looking at it", `cmp "$MEDIUM/plain.txt" "$MEDIUM/letter.txt"; grep -q 'proven</span>' "$MEDIUM/drill.html"`, 0)
	lose("vault")
	run("the authority's loss", commands(t, string(doc), "The authority is lost"), 2)
}

// commands are the shell commands of a chapter.
func commands(t *testing.T, doc, chapter string) string {
	t.Helper()
	_, rest, ok := strings.Cut(doc, "\n## "+chapter+"\n")
	if !ok {
		t.Fatalf("there is no chapter %q", chapter)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	var script []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(rest, -1) {
		script = append(script, block[1])
	}
	if len(script) == 0 {
		t.Fatalf("chapter %q has no commands", chapter)
	}
	return strings.Join(script, "\n")
}
