package softhsm_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// logged opens a session with a token, and logs in.
func logged(t *testing.T, p *pkcs11.Ctx, tok softhsm.Token) pkcs11.SessionHandle {
	t.Helper()
	session, err := p.OpenSession(slots(t, p)[tok.Serial], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Login(session, pkcs11.CKU_USER, tok.PIN); err != nil {
		t.Fatal(err)
	}
	return session
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, what string, err error, result uint) {
	t.Helper()
	if !errors.Is(err, pkcs11.Error(result)) {
		t.Errorf("%s: %v, want %s", what, err, softhsm.ResultName(result))
	}
}

func random(p *pkcs11.Ctx, session pkcs11.SessionHandle) error {
	_, err := p.GenerateRandom(session, 1)
	return err
}

func TestLoseAndRestore(t *testing.T) {
	env, tokens := softhsm.Run(t, "office", "vault")
	office, vault := tokens[0], tokens[1]
	p := initialise(t, env.Module())
	here := slots(t, p)
	session, other := logged(t, p, office), logged(t, p, vault)
	aesKey(t, p, session)

	for range 2 { // losing it again changes nothing
		do(t, office.Lose())
	}
	if now := slots(t, p); len(now) != 1 || now[vault.Serial] != here[vault.Serial] {
		t.Errorf("slots with tokens: %v", now)
	}
	all, err := p.GetSlotList(false)
	if err != nil || !slices.Contains(all, here[office.Serial]) {
		t.Errorf("all slots: %v, %v", all, err)
	}
	if info, err := p.GetSlotInfo(here[office.Serial]); err != nil || info.Flags&pkcs11.CKF_TOKEN_PRESENT != 0 {
		t.Errorf("slot: %+v, %v", info, err)
	}
	_, err = p.GetTokenInfo(here[office.Serial])
	want(t, "C_GetTokenInfo", err, pkcs11.CKR_TOKEN_NOT_PRESENT)
	_, err = p.OpenSession(here[office.Serial], pkcs11.CKF_SERIAL_SESSION)
	want(t, "C_OpenSession", err, pkcs11.CKR_TOKEN_NOT_PRESENT)
	want(t, "a session", random(p, session), pkcs11.CKR_DEVICE_REMOVED)
	want(t, "again", random(p, session), pkcs11.CKR_DEVICE_REMOVED)
	aesKey(t, p, other) // logged in still

	for range 2 {
		do(t, office.Restore())
	}
	if now := slots(t, p); len(now) != 2 {
		t.Errorf("slots with tokens: %v", now)
	}
	want(t, "a session from before", random(p, session), pkcs11.CKR_SESSION_HANDLE_INVALID)
	want(t, "its end", p.CloseSession(session), pkcs11.CKR_SESSION_HANDLE_INVALID)
	fresh, err := p.OpenSession(here[office.Serial], pkcs11.CKF_SERIAL_SESSION)
	do(t, err)
	if info, err := p.GetSessionInfo(fresh); err != nil || info.State != pkcs11.CKS_RO_PUBLIC_SESSION {
		t.Errorf("the login has outlived the loss: %+v, %v", info, err)
	}
	do(t, p.Login(fresh, pkcs11.CKU_USER, office.PIN))

	// Between two calls of a process.
	do(t, office.Lose())
	do(t, office.Restore())
	want(t, "a session from before", random(p, fresh), pkcs11.CKR_SESSION_HANDLE_INVALID)
	logged(t, p, office)
	aesKey(t, p, other)

	if err := (softhsm.Token{}).Lose(); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("a token of no environment: %v", err)
	}
	do(t, env.DestroyToken(vault))
	if err := vault.Lose(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a token that is destroyed: %v", err)
	}
}

// What was lost when a process began comes back to it.
func TestTokenIsLostFromTheBeginning(t *testing.T) {
	env, tokens := softhsm.Run(t, "office")
	do(t, tokens[0].Lose())
	p := initialise(t, env.Module())
	if now := slots(t, p); len(now) != 0 {
		t.Errorf("slots with tokens: %v", now)
	}
	do(t, tokens[0].Restore())
	logged(t, p, tokens[0])
}

func TestFailAt(t *testing.T) {
	env, tokens := softhsm.Run(t, "office", "vault")
	office, vault := tokens[0], tokens[1]
	p := initialise(t, env.Module())
	session, other := logged(t, p, office), logged(t, p, vault)
	do(t, office.FailAt("C_GenerateRandom", 2, pkcs11.CKR_DEVICE_ERROR))
	do(t, office.FailAt("*", 4, pkcs11.CKR_DEVICE_MEMORY))
	for i, result := range []uint{pkcs11.CKR_OK, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_OK, pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_OK} {
		do(t, random(p, other))
		if err := random(p, session); result == pkcs11.CKR_OK && err != nil || result != pkcs11.CKR_OK && !errors.Is(err, pkcs11.Error(result)) {
			t.Errorf("call %d: %v, want %s", i+1, err, softhsm.ResultName(result))
		}
	}
	do(t, office.Break(softhsm.Fault{Function: "C_GenerateRandom", Call: 2, Onward: true, Action: softhsm.Fail, Arg: pkcs11.CKR_DEVICE_ERROR}))
	do(t, vault.FailAt("C_GenerateRandom", 1, pkcs11.CKR_DEVICE_MEMORY))
	do(t, random(p, session))
	want(t, "from the second on", random(p, session), pkcs11.CKR_DEVICE_ERROR)
	want(t, "from the second on", random(p, session), pkcs11.CKR_DEVICE_ERROR)
	do(t, office.Restore())
	do(t, random(p, session)) // which was not lost
	want(t, "the other token's", random(p, other), pkcs11.CKR_DEVICE_MEMORY)

	// Functions without a token.
	do(t, office.FailAt("C_GetInfo", 1, pkcs11.CKR_GENERAL_ERROR))
	_, err := p.GetInfo()
	want(t, "C_GetInfo", err, pkcs11.CKR_GENERAL_ERROR)
}

// The calls of all processes count together.
func TestFailAtInManyProcesses(t *testing.T) {
	env, tokens := softhsm.Run(t, "office")
	do(t, tokens[0].FailAt("C_OpenSession", 3, pkcs11.CKR_SESSION_COUNT))
	for i := range 4 {
		cmd := exec.Command("pkcs11-tool", "--module", env.Module(), "--token-label", "office", "--list-objects")
		cmd.Env = append(os.Environ(), env.Environ()...)
		out, err := cmd.CombinedOutput()
		if failed := strings.Contains(string(out), "CKR_SESSION_COUNT"); failed != (i == 2) || failed != (err != nil) {
			t.Errorf("process %d: %v: %s", i+1, err, out)
		}
	}
}

func TestBreakAtOnce(t *testing.T) {
	env, tokens := softhsm.Run(t, "office", "vault")
	var all sync.WaitGroup
	for _, tok := range tokens {
		for range 10 {
			all.Go(func() {
				if err := errors.Join(tok.FailAt("C_GenerateRandom", 3, pkcs11.CKR_DEVICE_ERROR), tok.Lose()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	p := initialise(t, env.Module())
	if now := slots(t, p); len(now) != 0 {
		t.Errorf("not lost: %v", now)
	}
	do(t, tokens[0].Restore())
	do(t, random(p, logged(t, p, tokens[0])))
}

func TestFaultsThatCannotBe(t *testing.T) {
	_, tokens := softhsm.Run(t, "office")
	for _, f := range []softhsm.Fault{
		{Function: "C_Singe", Action: softhsm.Hang}, {Function: "", Action: softhsm.Hang}, {Function: "load", Action: softhsm.Hang},
		{Function: "C_Sign", Action: "melt"}, {Function: "C_Sign", Action: ""}, {Function: "C_Login", Action: softhsm.Flip},
		{Function: "C_Sign", Action: softhsm.Foreign}, {Function: "C_Sign", Call: -1, Action: softhsm.Hang},
	} {
		if err := tokens[0].Break(f); !errors.Is(err, softhsm.ErrFault) {
			t.Errorf("%+v: %v", f, err)
		}
	}
	for range 64 {
		do(t, tokens[0].FailAt("C_Sign", 1, pkcs11.CKR_DEVICE_ERROR))
	}
	if err := tokens[0].FailAt("C_Sign", 1, pkcs11.CKR_DEVICE_ERROR); !errors.Is(err, softhsm.ErrFault) {
		t.Errorf("more than the module reads: %v", err)
	}
	if n := len(softhsm.Functions()); n != 68 {
		t.Errorf("%d functions", n)
	}
}

func TestResults(t *testing.T) {
	for text, want := range map[string]uint{"CKR_DEVICE_REMOVED": pkcs11.CKR_DEVICE_REMOVED, "CKR_OK": 0, "0x80000001": 0x80000001, "5": pkcs11.CKR_GENERAL_ERROR} {
		if got, err := softhsm.ParseResult(text); err != nil || got != want {
			t.Errorf("%s: %#x, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "CKR_", "CKR_DEVICE", "ckr_ok", "-1", "0x100000000"} {
		if got, err := softhsm.ParseResult(text); !errors.Is(err, softhsm.ErrFault) {
			t.Errorf("%q: %#x, %v", text, got, err)
		}
	}
	if got := softhsm.ResultName(0x80000001); got != "0x80000001" {
		t.Error(got)
	}
	if all := softhsm.Results(); len(all) < 80 || slices.Contains(all, "CKR_OK") || !slices.Contains(all, "CKR_FUNCTION_REJECTED") {
		t.Errorf("%d results: %v", len(all), all)
	}
}

func TestCurrent(t *testing.T) {
	env, tokens := softhsm.Run(t, "office", "vault")
	do(t, tokens[1].Lose())
	current, err := softhsm.Current()
	if err != nil {
		t.Fatal(err)
	}
	found, err := current.Tokens()
	if err != nil || len(found) != 2 || current.Module() == env.Module() {
		t.Fatalf("%+v, %v", found, err)
	}
	for _, tok := range tokens {
		if !slices.ContainsFunc(found, func(f softhsm.Token) bool { return f.Label == tok.Label && f.Serial == tok.Serial && f.PIN == "" }) {
			t.Errorf("no token %s in %+v", tok.Label, found)
		}
	}
	do(t, current.Close())
	if _, err := os.Stat(env.Dir()); err != nil {
		t.Error(err)
	}
	// Whoever can write the file decides what gets loaded.
	named := filepath.Join(env.Dir(), "module")
	do(t, os.Chmod(named, 0o622))
	if _, err := softhsm.Current(); !errors.Is(err, ownfile.ErrForeign) {
		t.Errorf("a file that others can write: %v", err)
	}
	list := exec.Command("pkcs11-tool", "--module", env.Module(), "--list-token-slots")
	list.Env = append(os.Environ(), env.Environ()...)
	if out, err := list.CombinedOutput(); err == nil || !strings.Contains(string(out), "another user could have written it") {
		t.Errorf("%v: %s", err, out)
	}
	do(t, os.Chmod(named, 0o600))
	for _, conf := range []string{"", "/nonexistent/softhsm2.conf", "softhsm2.conf", env.ConfPath() + ".other"} {
		t.Setenv("SOFTHSM2_CONF", conf)
		if _, err := softhsm.Current(); !errors.Is(err, softhsm.ErrNoEnvironment) {
			t.Errorf("%q: %v", conf, err)
		}
	}
}

// A session that is opened while its token goes away goes with it.
func TestSessionsThatAreOpenedDuringALoss(t *testing.T) {
	env, tokens := softhsm.Run(t, "office")
	p := initialise(t, env.Module())
	slot := slots(t, p)[tokens[0].Serial]
	for range 100 {
		var mu sync.Mutex
		var sessions []pkcs11.SessionHandle
		var all sync.WaitGroup
		stop := make(chan struct{})
		for range 4 {
			all.Go(func() {
				for {
					s, err := p.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
					if err == nil {
						mu.Lock()
						sessions = append(sessions, s)
						mu.Unlock()
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		do(t, tokens[0].Lose())
		close(stop)
		all.Wait()
		for _, s := range sessions {
			if err := random(p, s); !errors.Is(err, pkcs11.Error(pkcs11.CKR_DEVICE_REMOVED)) {
				t.Fatalf("a session of a token that is lost: %v", err)
			}
			_ = p.CloseSession(s)
		}
		do(t, tokens[0].Restore())
	}
}

// A call gets the result of its own fault, while others change the faults.
func TestFaultsThatChangeDuringCalls(t *testing.T) {
	env, tokens := softhsm.Run(t, "office")
	p := initialise(t, env.Module())
	slot := slots(t, p)[tokens[0].Serial]
	mine := softhsm.Fault{Function: "C_GenerateRandom", Action: softhsm.Fail, Arg: pkcs11.CKR_DEVICE_ERROR}
	other := softhsm.Fault{Function: "C_Sign", Action: softhsm.Skip, Arg: pkcs11.CKR_DEVICE_MEMORY}
	do(t, env.SetFaults(mine))
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		s, err := p.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
		do(t, err)
		all.Go(func() {
			for {
				if err := random(p, s); !errors.Is(err, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR)) {
					t.Errorf("%v, want CKR_DEVICE_ERROR", err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range 300 {
		do(t, env.SetFaults(other, mine))
		do(t, env.SetFaults(mine))
	}
	close(stop)
	all.Wait()
}

// What SoftHSM refuses is not looked at before.
func TestTemplateThatIsNot(t *testing.T) {
	env, _ := softhsm.Run(t, "office")
	program := filepath.Join(t.TempDir(), "null")
	build := exec.Command("cc", "-o", program, "-xc", "-", "-ldl")
	build.Stdin = strings.NewReader(`
		#include <dlfcn.h>
		#include <stdio.h>
		typedef unsigned long rv;
		int main(int argc, char **argv)
		{
			void **list, **f;
			rv slots[8], n = 8, session;
			((rv (*)(void *))dlsym(dlopen(argv[argc - 1], RTLD_NOW), "C_GetFunctionList"))(&list);
			f = list + 1; /* after the version */
			((rv (*)(void *))f[0])(0);
			((rv (*)(unsigned char, rv *, rv *))f[4])(1, slots, &n);
			((rv (*)(rv, rv, void *, void *, rv *))f[12])(slots[0], 4, 0, 0, &session);
			printf("%#lx", ((rv (*)(rv, void *, rv))f[26])(session, 0, 1));
		}`)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run := exec.Command(program, env.Module())
	run.Env = append(os.Environ(), env.Environ()...)
	if out, err := run.CombinedOutput(); err != nil || string(out) != "0x7" {
		t.Errorf("%v: %s, want CKR_ARGUMENTS_BAD", err, out)
	}
}

// Whoever can write to the environment decides what a process does that loads the module.
func TestFilesOfOthers(t *testing.T) {
	env, _ := softhsm.Run(t, "office")
	in := func(name string) string { return filepath.Join(env.Dir(), name) }
	list := func() (string, error) {
		cmd := exec.Command("pkcs11-tool", "--module", env.Module(), "--list-token-slots")
		cmd.Env = append(os.Environ(), env.Environ()...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	crash := softhsm.Fault{Function: "load", Action: softhsm.Crash}
	do(t, env.SetFaults(crash))
	if out, err := list(); err == nil {
		t.Fatalf("the fault is not committed: %s", out)
	}
	for _, tt := range []struct {
		name        string
		mode, usual os.FileMode
	}{{"faults", 0o622, 0o600}, {"module", 0o622, 0o600}, {"", 0o722, 0o700}, {"", 0o1777, 0o700}} {
		do(t, os.Chmod(in(tt.name), tt.mode))
		out, err := list()
		if (err != nil) == (tt.name == "faults") || strings.Contains(out, "another user could have written") == (tt.name == "faults") {
			t.Errorf("%q has mode %o: %v: %s", tt.name, tt.mode, err, out)
		}
		do(t, os.Chmod(in(tt.name), tt.usual))
	}
	do(t, env.SetFaults())

	victim := filepath.Join(t.TempDir(), "victim")
	do(t, os.WriteFile(victim, nil, 0o600))
	do(t, os.Symlink(victim, in("count-link")))
	do(t, os.Symlink(victim, in("calls")))
	do(t, os.Mkdir(in("count-"), 0o700))
	up, err := filepath.Rel(env.Dir(), victim)
	do(t, err)
	for _, counter := range []string{"count-link", up, "count-/../" + up} {
		do(t, os.WriteFile(in("faults"), []byte("C_GetInfo 1 1 fail 0x5 - "+counter+"\n"), 0o600))
		_, _ = list()
		if data, err := os.ReadFile(victim); err != nil || len(data) > 0 {
			t.Errorf("counter %s: the victim has %q, %v", counter, data, err)
		}
	}
}
