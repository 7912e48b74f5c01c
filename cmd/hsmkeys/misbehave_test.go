package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token"
)

// A faultyOffice is an office whose module does as it is told.
type faultyOffice struct {
	*office
	soft   *softhsm.Env
	module string
}

func newFaultyOffice(t *testing.T) *faultyOffice {
	t.Helper()
	o := newOffice(t)
	conf := o.env[slices.IndexFunc(o.env, func(v string) bool { return strings.HasPrefix(v, "SOFTHSM2_CONF=") })]
	soft, err := softhsm.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { soft.Close() })
	module, err := soft.FaultyModule()
	if err != nil {
		t.Fatal(err)
	}
	tokens := filepath.Join(filepath.Dir(strings.TrimPrefix(conf, "SOFTHSM2_CONF=")), "tokens")
	if err := os.CopyFS(soft.TokenDir(), os.DirFS(tokens)); err != nil {
		t.Fatal(err)
	}
	o.env = append(append(o.env, soft.Environ()...), "HSMKEYS_MODULE="+module)
	if err := os.WriteFile(filepath.Join(o.dir, "plain"), []byte("for the office\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.run(t, "encrypt", "--key", "payroll", "-o", "sealed", "plain")
	return &faultyOffice{o, soft, module}
}

// result is what a command did.
type result struct {
	status         int
	stdout, stderr string
	memory         int64 // the most at a time, in bytes
}

func (o *faultyOffice) with(t *testing.T, fault softhsm.Fault, args ...string) result {
	t.Helper()
	if fault.Action == "" {
		fault = softhsm.Fault{Function: "C_GetOperationState", Action: softhsm.Fail} // never called
	}
	if err := o.soft.SetFaults(fault); err != nil {
		t.Fatal(err)
	}
	cmd := o.command(args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	status := wait(t, cmd)
	return result{status, out.String(), said.String(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10}
}

// lateAfter is longer than SoftHSM takes on a busy machine.
const lateAfter = "5s"

// Whatever a module does to the process that called it: exit status 5 and one line that
// names it and the function, in little memory.
func TestAModuleThatMisbehaves(t *testing.T) {
	t.Parallel()
	o := newFaultyOffice(t)
	honest := o.with(t, softhsm.Fault{}, "decrypt", "sealed")
	if honest.status != 0 || honest.stdout != "for the office\n" {
		t.Fatalf("an honest module: %+v", honest)
	}
	for _, test := range []struct {
		name     string
		function string
		action   softhsm.Action
		arg      uint
		says     string
	}{
		{"hangs in C_Initialize", "C_Initialize", softhsm.Hang, 0, "has not returned from C_Initialize within 5s"},
		{"hangs in C_Login", "C_Login", softhsm.Hang, 0, "has not returned from C_Login within 5s"},
		{"calls exit while it is loaded", "load", softhsm.Exit, 0, "ended the program in dlopen"},
		{"calls exit", "C_GetSlotList", softhsm.Exit, 0, "ended the program in C_GetSlotList"},
		{"calls exit with another status", "C_Login", softhsm.Exit, 4, "ended the program in C_Login"},
		{"crashes while it is loaded", "load", softhsm.Crash, 0, "crashed in dlopen (SIGSEGV)"},
		{"crashes", "C_UnwrapKey", softhsm.Crash, 0, "crashed in C_UnwrapKey (SIGSEGV)"},
		{"crashes at the end", "C_Finalize", softhsm.Crash, 0, "crashed in C_Finalize (SIGSEGV)"},
		{"aborts", "C_OpenSession", softhsm.Abort, 0, "crashed in C_OpenSession (SIGABRT)"},
		{"calls quick_exit", "C_GetSlotList", softhsm.QuickExit, 0, "ended the program in C_GetSlotList"},
		{"makes a bad system call", "C_GetSlotList", softhsm.Raise, uint(syscall.SIGSYS), "crashed in C_GetSlotList (SIGSYS)"},
		{"traps", "C_GetSlotList", softhsm.Raise, uint(syscall.SIGTRAP), "crashed in C_GetSlotList (SIGTRAP)"},
		{"raises SIGSEGV", "C_GetSlotList", softhsm.Raise, uint(syscall.SIGSEGV), "crashed in C_GetSlotList (SIGSEGV)"},
		{"shows slots without end", "C_GetSlotList", softhsm.Huge, 0, "C_GetSlotList returned"},
		{"lists mechanisms without end", "C_GetMechanismList", softhsm.Huge, 0, "C_GetMechanismList returned"},
		{"says that an attribute is long", "C_GetAttributeValue", softhsm.Huge, softhsm.AnyAttribute, "C_GetAttributeValue returned"},
		{"finds objects without end", "C_FindObjects", softhsm.Endless, 0, "C_FindObjects returned more than"},
		{"finds more than was asked for", "C_FindObjects", softhsm.Huge, 0, "C_FindObjects returned"},
		{"fails to list mechanisms", "C_GetMechanismList", softhsm.Fail, pkcs11.CKR_DEVICE_ERROR, "CKR_DEVICE_ERROR"},
		{"fails to be initialised", "C_Initialize", softhsm.Fail, pkcs11.CKR_FUNCTION_FAILED, "CKR_FUNCTION_FAILED"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := o.with(t, softhsm.Fault{Function: test.function, Action: test.action, Arg: test.arg}, "--module-timeout", lateAfter, "decrypt", "sealed")
			if r.status != failure.StatusToken || !strings.Contains(r.stderr, test.says) {
				t.Errorf("exit status %d, %q", r.status, r.stderr)
			}
			if !strings.Contains(r.stderr, o.module) && test.action != softhsm.Fail {
				t.Errorf("the module is not named: %q", r.stderr)
			}
			if strings.Contains(r.stderr, "goroutine") {
				t.Errorf("a traceback: %q", r.stderr)
			}
			if r.memory > honest.memory+32<<20 {
				t.Errorf("it took %d bytes of memory, %d with an honest module", r.memory, honest.memory)
			}
		})
	}
	// C_Sign and C_WrapKey have a length to lie about when a key is made.
	for _, function := range []string{"C_Sign", "C_WrapKey", "C_Encrypt"} {
		r := o.with(t, softhsm.Fault{Function: function, Action: softhsm.Huge}, "create", "huge")
		if r.status == 0 && function == "C_Encrypt" {
			continue // it is not called for every key
		}
		if r.status != failure.StatusToken || !strings.Contains(r.stderr, function+" returned") || r.memory > honest.memory+32<<20 {
			t.Errorf("%s is huge: %+v", function, r)
		}
	}
}

// What a module prints is not what the program prints.
func TestAModuleThatPrints(t *testing.T) {
	o := newFaultyOffice(t)
	prints := softhsm.Fault{Function: "*", Action: softhsm.Print}
	r := o.with(t, prints, "decrypt", "sealed")
	if r.status != 0 || r.stdout != "for the office\n" || !strings.Contains(r.stderr, softhsm.Printed) {
		t.Errorf("decrypt: %+v", r)
	}
	r = o.with(t, prints, "--json", "token", "list")
	if r.status != 0 || !json.Valid([]byte(r.stdout)) {
		t.Errorf("token list: %+v", r)
	}
	r = o.with(t, prints, "__complete", "zsh", "--token", "")
	if r.status != 0 || !strings.Contains(r.stdout, "office") || strings.Contains(r.stdout+r.stderr, softhsm.Printed) {
		t.Errorf("completion: %+v", r)
	}
}

// One bad module among those that p11-kit knows keeps nobody from a token in another.
func TestABadModuleAmongOthers(t *testing.T) {
	t.Parallel()
	o := newFaultyOffice(t)
	config := filepath.Join(o.dir, ".config", "pkcs11")
	if err := os.MkdirAll(filepath.Join(config, "modules"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"pkcs11.conf":         "user-config: only\n",
		"modules/good.module": "module: " + o.soft.Module() + "\npriority: 1\n",
		"modules/bad.module":  "module: " + o.module + "\npriority: 2\n",
	} {
		if err := os.WriteFile(filepath.Join(config, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o.env = append(o.env, "HSMKEYS_MODULE=", "XDG_CONFIG_HOME=")
	for _, test := range []struct {
		fault softhsm.Fault
		says  string
	}{
		{softhsm.Fault{Function: "C_Initialize", Action: softhsm.Hang}, "has not returned from C_Initialize"},
		{softhsm.Fault{Function: "C_GetSlotList", Action: softhsm.Crash}, "crashed in C_GetSlotList"},
		{softhsm.Fault{Function: "C_GetTokenInfo", Action: softhsm.Exit}, "ended the program in C_GetTokenInfo"},
		{softhsm.Fault{Function: "C_GetSlotList", Action: softhsm.Huge}, "C_GetSlotList returned"},
		{softhsm.Fault{Function: "load", Action: softhsm.Abort}, "crashed in dlopen"},
	} {
		t.Run(string(test.fault.Action), func(t *testing.T) {
			if r := o.with(t, test.fault, "--module-timeout", lateAfter, "decrypt", "sealed"); r.status != 0 || r.stdout != "for the office\n" {
				t.Errorf("decrypt: %+v", r)
			}
			r := o.with(t, test.fault, "--module-timeout", lateAfter, "token", "list")
			if r.status != 0 || !strings.Contains(r.stdout, "office") || !strings.Contains(r.stderr, test.says) {
				t.Errorf("token list: %+v", r)
			}
			r = o.with(t, test.fault, "--module-timeout", lateAfter, "doctor")
			if r.status != 0 || !strings.Contains(r.stdout, test.says) || !strings.Contains(r.stdout, "ok    signatures") {
				t.Errorf("doctor: %+v", r)
			}
		})
	}
}

// A module that hangs where doctor cannot use another process: what it has found out is told.
func TestDoctorTellsWhatItFoundBeforeAHang(t *testing.T) {
	t.Parallel()
	o := newFaultyOffice(t)
	r := o.with(t, softhsm.Fault{Function: "C_Login", Action: softhsm.Hang}, "--module-timeout", lateAfter, "doctor")
	if r.status != failure.StatusToken || !strings.Contains(r.stdout, "ok    store") || !strings.Contains(r.stdout, "has not returned from C_Login") {
		t.Errorf("%+v", r)
	}
}

// A token that SoftHSM shows and cannot read, in slot 0 as SoftHSM has it: the others are
// used, and pairs are made on them, as if it were not there.
func TestABrokenTokenBesideOthers(t *testing.T) {
	o := newFaultyOffice(t)
	found, err := filepath.Glob(filepath.Join(o.soft.TokenDir(), "*", "token.object"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	o.run(t, "token", "init", "other", "--so-pin-source", "env:SO_PIN_FOR_TEST")
	if err := os.Truncate(found[0], 8); err != nil { // a generation, and no attribute
		t.Fatal(err)
	}
	o.run(t, "--token", "other", "--store", "elsewhere", "init", "--key-type", "rsa2048")
	r := o.with(t, softhsm.Fault{}, "--json", "token", "list")
	var all []token.Info
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil || r.status != 0 {
		t.Fatalf("%v: %+v", err, r)
	}
	if !slices.ContainsFunc(all, func(i token.Info) bool { return i.Slot == 0 && strings.Contains(i.Problem, "CKR_GENERAL_ERROR") }) {
		t.Errorf("the broken token is not told of: %s", r.stdout)
	}
	if r = o.with(t, softhsm.Fault{}, "--token", "other", "doctor"); !strings.Contains(r.stdout, "warn  token        the one in slot 0") {
		t.Errorf("doctor: %+v", r)
	}
	if r = o.with(t, softhsm.Fault{}, "verify"); r.status != failure.StatusToken || !strings.Contains(r.stderr, "CKR_GENERAL_ERROR") {
		t.Errorf("the broken token itself: %+v", r)
	}
}

// The reader of stdout goes away: the program ends as others do, by SIGPIPE, in spite of its
// own descriptor.
func TestReaderGoesAway(t *testing.T) {
	o := newOffice(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd := o.command("list")
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	wait(t, cmd)
	if s := cmd.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != syscall.SIGPIPE {
		t.Errorf("it ended by %v", cmd.ProcessState)
	}
}

// Too few file descriptors is no fault of a module.
func TestTooFewFiles(t *testing.T) {
	o := newOffice(t)
	for _, n := range []string{"10", "16", "24"} {
		cmd := exec.Command("sh", "-c", "ulimit -n "+n+" && exec hsmkeys verify")
		cmd.Dir, cmd.Env = o.dir, o.env
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != failure.StatusFailed || !strings.Contains(string(out), "ulimit -n") || strings.Count(string(out), "\n") != 2 {
			t.Errorf("%s files: %v, %s", n, err, out)
		}
	}
}

// What show says of the residence it has tried: the cache may be anybody's.
func TestShowDoesNotBelieveTheCache(t *testing.T) {
	o := newOffice(t)
	o.run(t, "token", "init", "curves", "--so-pin-source", "env:SO_PIN_FOR_TEST")
	o.env = append(o.env, "HSMKEYS_TOKEN=curves", "HSMKEYS_STORE="+filepath.Join(o.dir, "curved"), "XDG_CACHE_HOME="+filepath.Join(o.dir, "cache"))
	o.run(t, "init", "--key-type", "p256")
	o.run(t, "create", "k")
	remembered, err := filepath.Glob(filepath.Join(o.dir, "cache", "hsmkeys", "[0-9a-f]*"))
	if err != nil || len(remembered) != 1 {
		t.Fatal(remembered, err)
	}
	if err := os.WriteFile(remembered[0], []byte("hsmkeys residence 1: token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := o.command("show", "k").Output()
	if err != nil || !strings.Contains(string(out), "residence") || strings.Contains(string(out), "residence     token") {
		t.Errorf("%v: %s", err, out)
	}
}
