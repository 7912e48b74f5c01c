package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/softhsm"
)

// A faultSite is a keyring that faults are tried on: its tokens, its store, and files
// that were encrypted under its keys.
type faultSite struct {
	env     *softhsm.Env
	dir     string
	timeout string   // for calls of modules; "" for the usual one
	vars    []string // of the environment, beside the usual ones
}

// A faultScenario is one command, and what must be when it has been done.
type faultScenario struct {
	name   string
	before [][]string // honest commands that lead up to it
	args   []string
	token  string // "" for office
	// done checks what the command reported, with an honest module.
	done func(*faultSite, faultRun) error
	// holders are the tokens that open all files, whatever has happened.
	holders []string
}

// A faultRun is a command that has run.
type faultRun struct {
	args           []string
	stdout, stderr string
	status         int // -1 when it was killed
	timeout        bool
}

func (r faultRun) String() string {
	return fmt.Sprintf("hsmkeys %s: exit status %d\n%.500sstdout %.100q", strings.Join(r.args, " "), r.status, r.stderr, r.stdout)
}

const faultPlaintext = "The salaries of March.\n"

// newFaultSite founds a keyring on the token office, with the backup authority vault and
// the keys a, in two versions, and b. Three tokens stand by: spare and guest have a pair,
// blank has none.
func newFaultSite(t *testing.T, keyType string, vars ...string) *faultSite {
	t.Helper()
	s := newEmptySite(t, vars...)
	for _, token := range []string{"office", "vault", "spare", "guest", "blank"} {
		s.must(t, "", "token", "init", token, "--so-pin-source", "file:pin")
	}
	s.must(t, "office", "init", "--key-type", keyType)
	for _, token := range []string{"vault", "spare", "guest"} {
		s.must(t, token, "init", "--pair-only", "--key-type", keyType)
	}
	for _, token := range []string{"office", "vault", "spare", "guest"} {
		s.write(t, token+".pem", s.must(t, token, "certificate").stdout)
	}
	s.must(t, "office", "authority", "add", "--yes", "vault.pem")
	s.must(t, "vault", "join", "--yes", "--vouched-by", "office.pem")
	s.must(t, "office", "create", "a")
	s.must(t, "office", "create", "b")
	s.must(t, "office", "encrypt", "--key", "a", "-o", "a1.age", "in")
	s.must(t, "office", "rotate", "a")
	s.must(t, "office", "encrypt", "--key", "a", "-o", "a2.age", "in")
	s.must(t, "office", "encrypt", "--key", "b", "-o", "b.age", "in")
	s.write(t, "a.key", s.must(t, "office", "reveal", "a").stdout)
	return s
}

// newEmptySite has no tokens and no store yet.
func newEmptySite(t *testing.T, vars ...string) *faultSite {
	t.Helper()
	env, err := softhsm.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { env.Close() })
	if _, err := env.FaultyModule(); err != nil {
		t.Fatal(err)
	}
	s := &faultSite{env: env, dir: t.TempDir(), vars: vars}
	s.write(t, "pin", testPIN+"\n")
	s.write(t, "in", faultPlaintext)
	return s
}

func (s *faultSite) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *faultSite) read(name string) string {
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// clone copies the site, so that a case has tokens and a store to itself.
func (s *faultSite) clone(t *testing.T) *faultSite {
	t.Helper()
	env, err := s.env.Clone()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { env.Close() })
	c := &faultSite{env: env, dir: filepath.Join(env.Dir(), "site"), vars: s.vars}
	if err := os.CopyFS(c.dir, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	// The copies can be read by others.
	if err := errors.Join(os.Chmod(c.dir, 0o700), os.Chmod(filepath.Join(c.dir, "pin"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return c
}

// run runs a command with a module. It is given a minute, which no command needs: a test
// must not fail because the machine is busy.
func (s *faultSite) run(module, token string, args ...string) faultRun {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r := outcome(s.command(ctx, module, token, "hsmkeys", args...))
	r.timeout = ctx.Err() != nil
	return r
}

// command returns a program that is to run with a module and the settings of a command.
func (s *faultSite) command(ctx context.Context, module, token, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.WaitDelay = s.dir, time.Second
	cmd.Env = append(append(os.Environ(), s.env.Environ()...), "HSMKEYS_MODULE="+module, "HSMKEYS_TOKEN="+token,
		"HSMKEYS_STORE="+filepath.Join(s.dir, "store"), "HSMKEYS_PIN_SOURCE=file:"+filepath.Join(s.dir, "pin"), "HOME="+s.dir, "HSMKEYS_MODULE_TIMEOUT="+s.timeout)
	cmd.Env = append(cmd.Env, s.vars...)
	return cmd
}

// outcome runs a command to its end.
func outcome(cmd *exec.Cmd) faultRun {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r := faultRun{args: cmd.Args[1:], stdout: stdout.String(), stderr: stderr.String()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		r.status = exit.ExitCode()
	} else if err != nil {
		r.status, r.stderr = -1, r.stderr+err.Error()
	}
	return r
}

func (s *faultSite) honest(token string, args ...string) faultRun {
	return s.run(s.env.Module(), token, args...)
}

func (s *faultSite) must(t *testing.T, token string, args ...string) faultRun {
	t.Helper()
	r := s.honest(token, args...)
	if r.status != 0 {
		t.Fatal(r)
	}
	return r
}

// opens checks that a token decrypts the files.
func (s *faultSite) opens(token string, files ...string) error {
	for _, file := range files {
		if r := s.honest(token, "decrypt", file); r.status != 0 || r.stdout != faultPlaintext {
			return fmt.Errorf("token %s: %v", token, r)
		}
	}
	return nil
}

// proves checks that another token than the one that has run a command decrypts files. Only
// that token can find out whether what was wrapped to it opens: where it does not, the
// command has said that this was not proven, and the rehearsal finds it.
func (s *faultSite) proves(r faultRun, token string, files ...string) error {
	err := s.opens(token, files...)
	if err == nil || !strings.Contains(r.stdout+r.stderr, "not proven") {
		return err
	}
	if s.honest(token, "drill", "--prove").status == 0 {
		return fmt.Errorf("drill --prove does not find it: %w", err)
	}
	return nil
}

// does checks that a command succeeds.
func (s *faultSite) does(token string, args ...string) error {
	if r := s.honest(token, args...); r.status != 0 {
		return fmt.Errorf("token %s: %v", token, r)
	}
	return nil
}

func (s *faultSite) prepare(t *testing.T, scenario faultScenario) {
	t.Helper()
	for _, args := range scenario.before {
		if args[0] != "" {
			s.must(t, args[0], args[1:]...)
		} else if r := outcome(s.command(context.Background(), s.env.Module(), "", args[1], args[2:]...)); r.status != 0 {
			t.Fatal(r)
		}
	}
	// Commands are to find out again what the token can do.
	if err := os.RemoveAll(filepath.Join(s.dir, ".cache")); err != nil {
		t.Fatal(err)
	}
}

// record runs the scenario on a copy, with the faulty module that is honest, and returns
// what it called.
func (s *faultSite) record(t *testing.T, scenario faultScenario) []softhsm.Call {
	t.Helper()
	c := s.clone(t)
	if err := c.env.RecordCalls(); err != nil {
		t.Fatal(err)
	}
	module, err := c.env.FaultyModule()
	if err != nil {
		t.Fatal(err)
	}
	r := c.run(module, scenario.token, scenario.args...)
	if r.status != 0 {
		t.Fatalf("%s, with an honest module: %v", scenario.name, r)
	}
	calls, err := c.env.Calls()
	if err != nil {
		t.Fatal(err)
	}
	if err := scenario.done(c, r); err != nil {
		t.Fatalf("%s, with an honest module: %v", scenario.name, err)
	}
	return calls
}

// try runs the scenario on a copy with one fault, and checks what it has left.
func (s *faultSite) try(t *testing.T, scenario faultScenario, f softhsm.Fault) {
	c := s.clone(t)
	if err := errors.Join(c.env.RecordCalls(), c.env.SetFaults(f)); err != nil {
		t.Fatal(err)
	}
	module, err := c.env.FaultyModule()
	if err != nil {
		t.Fatal(err)
	}
	if f.Action == softhsm.Hang {
		c.timeout = "1s"
	}
	r := c.run(module, scenario.token, scenario.args...)
	c.timeout = ""
	calls, err := c.env.Calls()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(calls, func(call softhsm.Call) bool { return call.Fault == f.Action }) {
		if f.Call <= 1 && !slices.Contains(lies[f.Function], f.Action) && !slices.Contains(lieTemplate, f.Action) {
			t.Errorf("the fault was not committed: %v", r)
		}
		return // it has fewer calls that could be spoilt: another trial has had the last
	}
	if err := c.check(scenario, f, r, module); err != nil {
		t.Errorf("%v\n%v", err, r)
	}
}

// check checks what a command has reported, and then what is there.
func (s *faultSite) check(scenario faultScenario, f softhsm.Fault, r faultRun, module string) error {
	if r.timeout {
		return errors.New("it does not end")
	}
	if strings.Contains(r.stdout+r.stderr, testPIN) {
		return errors.New("it shows the PIN")
	}
	if strings.Contains(r.stdout, softhsm.Printed) {
		return errors.New("what the module prints gets into stdout")
	}
	for _, token := range scenario.holders {
		if err := s.opens(token, "a1.age", "a2.age", "b.age"); err != nil {
			return fmt.Errorf("what opened before does not: %w", err)
		}
	}
	if r.status == 0 {
		if err := scenario.done(s, r); err != nil {
			return fmt.Errorf("it is reported as done, and is not: %w", err)
		}
		return nil
	}
	again := s.honest(scenario.token, scenario.args...)
	if err := scenario.done(s, again); err != nil {
		return fmt.Errorf("it does not go on: %w\nafter %v\nafter", err, again)
	}
	return checkFaultError(f, r, module)
}

// checkFaultError checks how a failure is reported.
func checkFaultError(f softhsm.Fault, r faultRun, module string) error {
	if r.status != failure.StatusFailed && r.status != failure.StatusIntegrity && r.status != failure.StatusToken {
		return errors.New("the exit status is another than 1, 3 or 5")
	}
	if !strings.HasPrefix(r.stderr, "hsmkeys: ") {
		return errors.New("there is no error message")
	}
	for line := range strings.Lines(r.stderr) {
		if !strings.HasPrefix(line, "hsmkeys: ") && !strings.HasPrefix(line, "hint: ") {
			return fmt.Errorf("a line is no message: %q", line)
		}
	}
	switch f.Action {
	case softhsm.Fail, softhsm.FailAfter:
		if !strings.Contains(r.stderr, "CKR_") && !strings.Contains(r.stderr, module) {
			return errors.New("the error names neither the result nor the module")
		}
	case softhsm.Hang, softhsm.Crash, softhsm.Abort, softhsm.Exit:
		if r.status != failure.StatusToken || !strings.Contains(r.stderr, module) {
			return fmt.Errorf("not exit status %d with the module's name", failure.StatusToken)
		}
	}
	return nil
}
