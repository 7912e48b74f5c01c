package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/softhsm"
)

// everyCall has the tests of crashes crash at every call, and not only where something
// changes on the token.
const everyCall = "HSMKEYS_TEST_EVERY_CALL"

// changing are the functions that change what is on a token. Between two of them all
// moments are alike.
var changing = []string{"C_GenerateKeyPair", "C_SetAttributeValue", "C_CreateObject", "C_DestroyObject"}

// crashes are the calls of a run to crash at: before each that changes something, and after
// the last. They are named by their function, as others may come between.
func crashes(calls []softhsm.Call) (all []softhsm.Fault) {
	count := map[string]int{}
	last := 0
	for i, call := range calls {
		if slices.Contains(changing, call.Function) {
			last = i
		}
	}
	for i, call := range calls {
		count[call.Function]++
		if call.Function == "load" || call.Function == "C_GetFunctionList" {
			continue
		}
		if slices.Contains(changing, call.Function) || i == last+1 || os.Getenv(everyCall) != "" {
			all = append(all, softhsm.Fault{Function: call.Function, Call: count[call.Function], Action: softhsm.Crash})
		}
	}
	return all
}

// Whatever moment init dies, the next one takes over what is there, or cleans up, and says
// so.
func TestInitAfterACrash(t *testing.T) {
	fresh, err := softhsm.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fresh.Close() })
	if _, err := fresh.FaultyModule(); err != nil {
		t.Fatal(err)
	}
	made, err := fresh.InitToken("office")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"p256", "rsa2048"} {
		t.Run(kind, func(t *testing.T) {
			o := startInit(t, fresh, made)
			if err := o.soft.RecordCalls(); err != nil {
				t.Fatal(err)
			}
			if _, err := o.init(t, kind); err != nil {
				t.Fatal(err)
			}
			calls, err := o.soft.Calls()
			if err != nil {
				t.Fatal(err)
			}
			all := crashes(calls)
			if len(all) < 8 {
				t.Fatalf("%d moments to crash at, of %d calls", len(all), len(calls))
			}
			t.Logf("%d moments to crash at, of %d calls", len(all), len(calls))
			if kind == "rsa2048" && os.Getenv(everyCall) == "" {
				all = slices.DeleteFunc(all, func(f softhsm.Fault) bool { return f.Function != "C_SetAttributeValue" }) // the rest is as with EC
			}
			for _, fault := range all {
				o := startInit(t, fresh, made)
				if err := o.soft.SetFaults(fault); err != nil {
					t.Fatal(err)
				}
				_, err := o.init(t, kind)
				if err == nil { // the calls of two processes were counted as one's
					if slices.Contains(changing, fault.Function) {
						t.Errorf("%+v: it did not crash", fault)
					}
					continue
				}
				if err := o.soft.SetFaults(); err != nil {
					t.Fatal(err)
				}
				left := o.leftovers(t, made)
				said, err := o.init(t, kind)
				if err != nil {
					t.Errorf("%+v: the next init: %v\n%s\nleft before it:\n%s", fault, err, said, left)
					continue
				}
				if left != "" && !strings.Contains(said, "interrupted init") && !strings.Contains(said, "an earlier init") {
					t.Errorf("%+v: it does not say what it did:\n%s\nleft before it:\n%s", fault, said, left)
				}
				if out, err := o.command("create", "payroll").CombinedOutput(); err != nil {
					t.Errorf("%+v: create: %v\n%s", fault, err, out)
				}
				objects := o.objects(t, made)
				for what, want := range map[string]int{"Private Key Object": 1, "Public Key Object": 1, "Certificate Object": 1, "unfinished": 0} {
					if got := strings.Count(objects, what); got != want {
						t.Errorf("%+v: %d times %q on the token:\n%s", fault, got, what, objects)
					}
				}
			}
		})
	}
}

// startedInit is a machine with a token that has nothing on it.
type startedInit struct {
	*office
	soft *softhsm.Env
}

func startInit(t *testing.T, fresh *softhsm.Env, made softhsm.Token) *startedInit {
	t.Helper()
	soft, err := fresh.Clone()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { soft.Close() })
	module, err := soft.FaultyModule()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	env := append(append(os.Environ(), soft.Environ()...), "HSMKEYS_MODULE="+module, "HSMKEYS_TOKEN=office",
		"HSMKEYS_STORE="+filepath.Join(dir, "store"), "HSMKEYS_PIN_SOURCE=env:PIN_FOR_TEST", "PIN_FOR_TEST="+made.PIN, "HOME="+dir)
	return &startedInit{&office{dir: dir, env: env}, soft}
}

func (o *startedInit) init(t *testing.T, kind string) (stderr string, err error) {
	t.Helper()
	cmd := o.command("init", "--key-type", kind)
	var said bytes.Buffer
	cmd.Stderr = &said
	err = cmd.Run()
	return said.String(), err
}

// objects lists what is on the token, as another program sees it.
func (o *startedInit) objects(t *testing.T, made softhsm.Token) string {
	t.Helper()
	cmd := exec.Command("pkcs11-tool", "--module", o.soft.Module(), "--token-label", "office", "--login", "--pin", "env:PIN_FOR_TEST", "--list-objects")
	cmd.Env = o.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// leftovers tells what there is before the next init.
func (o *startedInit) leftovers(t *testing.T, made softhsm.Token) string {
	t.Helper()
	var left []string
	for line := range strings.Lines(o.objects(t, made)) {
		if strings.Contains(line, " Object;") || strings.Contains(line, "label:") {
			left = append(left, line)
		}
	}
	if list, err := filepath.Glob(filepath.Join(o.dir, "store", "state", "*", "*")); err == nil && len(list) > 0 {
		left = append(left, strings.Join(list, "\n"))
	}
	return strings.Join(left, "")
}
