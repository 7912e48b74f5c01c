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

// A runbook is a page of docs, whose commands are run as they stand, at a terminal where somebody
// answers the questions.
type runbook struct {
	*testing.T
	doc     string
	env     *softhsm.Env
	environ []string
}

func newRunbook(t *testing.T, page string) *runbook {
	t.Helper()
	doc, err := os.ReadFile("../../docs/" + page)
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
	return &runbook{t, string(doc), env, environ}
}

// run runs a script that asks a number of questions.
func (r *runbook) run(what, script string, questions int) {
	r.Helper()
	p := newTerminal(r.T)
	cmd := exec.Command("sh", "-eu", "-c", script)
	cmd.Env, cmd.Dir = r.environ, "../.."
	p.attach(cmd)
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	for n := range questions {
		Until(r.T, "a question", func() bool { return strings.Count(p.shows(), "[y/N] ") > n })
		if _, err := p.person.WriteString("y\n"); err != nil {
			r.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		r.Fatalf("%s: %v\n%s\n%s", what, err, script, p.shows())
	}
}

// chapter runs the commands of a chapter.
func (r *runbook) chapter(name string, questions int) {
	r.Helper()
	r.run(name, commands(r.T, r.doc, name), questions)
}

// lose destroys a token.
func (r *runbook) lose(label string) {
	r.Helper()
	if err := destroyToken(r.env, label); err != nil {
		r.Fatal(err)
	}
}

// TestTheRunbook runs docs/recovery.md. Between the chapters the tokens are lost.
func TestTheRunbook(t *testing.T) {
	r := newRunbook(t, "recovery.md")
	r.run("setting up", `
		for token in office vault spare second; do hsmkeys token init "$token" --so-pin-source "$HSMKEYS_PIN_SOURCE"; done
		hsmkeys --token office init
		hsmkeys --token office create payroll
		echo 'The salaries of March.' >"$MEDIUM/plain.txt"
		hsmkeys --token office encrypt --key payroll -o "$MEDIUM/letter.age" "$MEDIUM/plain.txt"
		hsmkeys --token second init --pair-only
		hsmkeys --token second certificate >"$MEDIUM/second.pem"`, 0)
	r.chapter("Before it happens", 2)
	r.chapter("With OpenSSL alone", 0)
	r.run("looking at that", `test "$(hsmkeys --token office reveal payroll | od -An -v -tx1 | tr -d ' \n')" = "$(cat "$MEDIUM/payroll.hex")"`, 0)
	r.lose("office")
	r.chapter("The token is lost", 2)
	r.run("looking at it", `cmp "$MEDIUM/plain.txt" "$MEDIUM/letter.txt"; grep -q 'proven</span>' "$MEDIUM/drill.html"`, 0)
	r.lose("vault")
	r.chapter("The authority is lost", 2)
}

// TestTheCeremony runs docs/quorum.md, in which two tokens are lost.
func TestTheCeremony(t *testing.T) {
	r := newRunbook(t, "quorum.md")
	r.run("setting up", `
		for token in office alice bob carol spare next; do hsmkeys token init "$token" --so-pin-source "$HSMKEYS_PIN_SOURCE"; done
		hsmkeys --token office init --key-type p256
		hsmkeys --token office create payroll
		echo 'The salaries of March.' >"$MEDIUM/plain.txt"
		hsmkeys --token office encrypt --key payroll -o "$MEDIUM/letter.age" "$MEDIUM/plain.txt"
		for token in spare next; do
			hsmkeys --token $token init --pair-only --key-type p256
			hsmkeys --token $token certificate >"$MEDIUM/$token.pem"
		done`, 0)
	r.chapter("The ceremony", 2)
	r.lose("office")
	r.chapter("A recovery with custodians in one place", 6)
	r.lose("spare")
	r.chapter("A recovery with custodians far apart", 6)
	r.run("looking at it", `
		hsmkeys --token next join --vouched-by "$MEDIUM/spare-owner.pem" --yes
		hsmkeys --token next rewrap
		hsmkeys --token next decrypt "$MEDIUM/letter.age" | cmp - "$MEDIUM/plain.txt"
		hsmkeys --token next log | grep 'approved by alice, bob'`, 0)
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
