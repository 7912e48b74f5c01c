package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/softhsm"
)

// TestResults has every function of PKCS #11 that create, rotate, recover and decrypt call fail once
// with each result that the standard lists for it. The command says so, with the name of
// the result, or gets over it; it leaves nothing on the token, and nothing is lost: what it
// has reported is there, the files open, and an honest module goes on in the same place.
// A sample fails from then on, which the command does not go on trying.
//
// Here a sample is tried, in which each function has its turn; `make faults` tries all.
func TestResults(t *testing.T) {
	series := resultSeries(t)
	sample := sampleOfResults(series)
	if os.Getenv("HSMKEYS_TEST_FAULTS") != "all" {
		series = sample
	}
	for _, s := range append(series, onward(sample)...) {
		t.Run(s.keyType+"/"+s.scenario.name+"/"+s.function, func(t *testing.T) {
			t.Parallel()
			s.try(t)
		})
	}
}

// A series has one scenario fail with each result of a function.
type series struct {
	site     *faultSite
	keyType  string
	scenario faultScenario
	function string
	faults   []softhsm.Fault
}

func resultSeries(t *testing.T) []series {
	t.Helper()
	var all []series
	for _, keyType := range []string{"p256", "rsa2048"} {
		base := newFaultSite(t, keyType)
		for _, s := range faultScenarios(keyType) {
			if !slices.Contains([]string{"create", "rotate", "recover", "decrypt"}, s.name) {
				continue
			}
			for _, f := range summary(base.record(t, s)) {
				if f.function != "load" {
					all = append(all, series{base, keyType, s, f.function, resultFaults(t, keyType+s.name, f)})
				}
			}
		}
	}
	return all
}

// sampleOfResults chooses one fault of each function.
func sampleOfResults(all []series) []series {
	byFunction := map[string][]series{}
	for _, s := range all {
		byFunction[s.function] = append(byFunction[s.function], s)
	}
	var chosen []series
	for _, function := range slices.Sorted(maps.Keys(byFunction)) {
		of := byFunction[function]
		s := of[sum(function)%uint32(len(of))]
		one := s.faults[sum(function)%uint32(len(s.faults))]
		// Those of one scenario are tried on one site.
		i := slices.IndexFunc(chosen, func(c series) bool { return c.keyType == s.keyType && c.scenario.name == s.scenario.name })
		if i < 0 {
			i, chosen = len(chosen), append(chosen, series{s.site, s.keyType, s.scenario, "sample", nil})
		}
		chosen[i].faults = append(chosen[i].faults, one)
	}
	return chosen
}

// onward returns the series in which functions fail from then on. No PIN that was refused is tried again.
func onward(all []series) []series {
	var forever []series
	for _, s := range all {
		s.function = "onward"
		s.faults = append(slices.Clone(s.faults), softhsm.Fault{Function: "C_Login", Call: 1, Action: softhsm.Fail, Arg: pkcs11.CKR_PIN_INCORRECT})
		if s.scenario.name == "rotate" { // for which the signature is needed, whatever the sample has
			s.faults = append(s.faults, softhsm.Fault{Function: "C_Sign", Call: 1, Action: softhsm.Fail, Arg: pkcs11.CKR_DEVICE_MEMORY})
		}
		for i := range s.faults {
			s.faults[i].Onward = true
		}
		forever = append(forever, s)
	}
	return forever
}

// What every function that uses the token can return, PKCS #11 v2.40 §5.1.1 and §5.1.2, and what those with a session can,
// §5.1.3.
const (
	anyResult     = "GENERAL_ERROR HOST_MEMORY FUNCTION_FAILED CRYPTOKI_NOT_INITIALIZED ARGUMENTS_BAD "
	tokenResult   = anyResult + "DEVICE_ERROR DEVICE_MEMORY DEVICE_REMOVED "
	slotResult    = tokenResult + "SLOT_ID_INVALID TOKEN_NOT_PRESENT TOKEN_NOT_RECOGNIZED "
	sessionResult = tokenResult + "SESSION_CLOSED SESSION_HANDLE_INVALID "
	keyResult     = sessionResult + "FUNCTION_CANCELED MECHANISM_INVALID MECHANISM_PARAM_INVALID OPERATION_ACTIVE PIN_EXPIRED USER_NOT_LOGGED_IN "
	objectResult  = "ATTRIBUTE_READ_ONLY ATTRIBUTE_TYPE_INVALID ATTRIBUTE_VALUE_INVALID CURVE_NOT_SUPPORTED SESSION_READ_ONLY TEMPLATE_INCOMPLETE TEMPLATE_INCONSISTENT TOKEN_WRITE_PROTECTED "
)

// listedResults are the return values that PKCS #11 v2.40 §5.4 to §5.15 lists for each function
// that the commands call, without CKR_, CKR_OK, and what tells of a callback or a mutex that was
// handed in. Where functions have a list in common, a few have one more than the standard lists.
var listedResults = map[string]string{
	"C_GetFunctionList":   "ARGUMENTS_BAD FUNCTION_FAILED GENERAL_ERROR HOST_MEMORY",                                                                                                                                                                            // §5.4
	"C_Initialize":        "ARGUMENTS_BAD CANT_LOCK CRYPTOKI_ALREADY_INITIALIZED FUNCTION_FAILED GENERAL_ERROR HOST_MEMORY NEED_TO_CREATE_THREADS",                                                                                                              // §5.4
	"C_Finalize":          anyResult,                                                                                                                                                                                                                            // §5.4
	"C_GetInfo":           anyResult,                                                                                                                                                                                                                            // §5.4
	"C_GetSlotList":       anyResult + "BUFFER_TOO_SMALL",                                                                                                                                                                                                       // §5.5
	"C_GetSlotInfo":       anyResult + "DEVICE_ERROR SLOT_ID_INVALID",                                                                                                                                                                                           // §5.5
	"C_GetTokenInfo":      slotResult,                                                                                                                                                                                                                           // §5.5
	"C_GetMechanismList":  slotResult + "BUFFER_TOO_SMALL",                                                                                                                                                                                                      // §5.5
	"C_GetMechanismInfo":  slotResult + "MECHANISM_INVALID",                                                                                                                                                                                                     // §5.5
	"C_OpenSession":       slotResult + "SESSION_COUNT SESSION_PARALLEL_NOT_SUPPORTED SESSION_READ_WRITE_SO_EXISTS TOKEN_WRITE_PROTECTED",                                                                                                                       // §5.6
	"C_CloseSession":      sessionResult,                                                                                                                                                                                                                        // §5.6
	"C_GetSessionInfo":    sessionResult,                                                                                                                                                                                                                        // §5.6
	"C_Login":             sessionResult + "FUNCTION_CANCELED OPERATION_NOT_INITIALIZED PIN_INCORRECT PIN_LOCKED SESSION_READ_ONLY_EXISTS USER_ALREADY_LOGGED_IN USER_ANOTHER_ALREADY_LOGGED_IN USER_PIN_NOT_INITIALIZED USER_TOO_MANY_TYPES USER_TYPE_INVALID", // §5.6
	"C_Logout":            sessionResult + "USER_NOT_LOGGED_IN",                                                                                                                                                                                                 // §5.6
	"C_CreateObject":      sessionResult + objectResult + "DOMAIN_PARAMS_INVALID PIN_EXPIRED USER_NOT_LOGGED_IN",                                                                                                                                                // §5.7
	"C_DestroyObject":     sessionResult + "ACTION_PROHIBITED OBJECT_HANDLE_INVALID PIN_EXPIRED SESSION_READ_ONLY TOKEN_WRITE_PROTECTED",                                                                                                                        // §5.7
	"C_GetAttributeValue": sessionResult + "ATTRIBUTE_SENSITIVE ATTRIBUTE_TYPE_INVALID BUFFER_TOO_SMALL OBJECT_HANDLE_INVALID",                                                                                                                                  // §5.7
	"C_SetAttributeValue": sessionResult + "ACTION_PROHIBITED ATTRIBUTE_READ_ONLY ATTRIBUTE_TYPE_INVALID ATTRIBUTE_VALUE_INVALID OBJECT_HANDLE_INVALID SESSION_READ_ONLY TEMPLATE_INCONSISTENT TOKEN_WRITE_PROTECTED USER_NOT_LOGGED_IN",                        // §5.7
	"C_FindObjectsInit":   sessionResult + "ATTRIBUTE_TYPE_INVALID ATTRIBUTE_VALUE_INVALID OPERATION_ACTIVE PIN_EXPIRED",                                                                                                                                        // §5.7
	"C_FindObjects":       sessionResult + "OPERATION_NOT_INITIALIZED",                                                                                                                                                                                          // §5.7
	"C_FindObjectsFinal":  sessionResult + "OPERATION_NOT_INITIALIZED",                                                                                                                                                                                          // §5.7
	"C_SignInit":          keyResult + "KEY_FUNCTION_NOT_PERMITTED KEY_HANDLE_INVALID KEY_SIZE_RANGE KEY_TYPE_INCONSISTENT",                                                                                                                                     // §5.11
	"C_Sign":              sessionResult + "BUFFER_TOO_SMALL DATA_INVALID DATA_LEN_RANGE FUNCTION_CANCELED FUNCTION_REJECTED OPERATION_NOT_INITIALIZED USER_NOT_LOGGED_IN",                                                                                      // §5.11
	"C_GenerateKey":       keyResult + objectResult,                                                                                                                                                                                                             // §5.14
	"C_WrapKey":           keyResult + "BUFFER_TOO_SMALL KEY_HANDLE_INVALID KEY_NOT_WRAPPABLE KEY_SIZE_RANGE KEY_UNEXTRACTABLE WRAPPING_KEY_HANDLE_INVALID WRAPPING_KEY_SIZE_RANGE WRAPPING_KEY_TYPE_INCONSISTENT",                                              // §5.14
	"C_UnwrapKey":         keyResult + objectResult + "BUFFER_TOO_SMALL DOMAIN_PARAMS_INVALID UNWRAPPING_KEY_HANDLE_INVALID UNWRAPPING_KEY_SIZE_RANGE UNWRAPPING_KEY_TYPE_INCONSISTENT WRAPPED_KEY_INVALID WRAPPED_KEY_LEN_RANGE",                               // §5.14
	"C_DeriveKey":         keyResult + objectResult + "DOMAIN_PARAMS_INVALID KEY_HANDLE_INVALID KEY_SIZE_RANGE KEY_TYPE_INCONSISTENT",                                                                                                                           // §5.14
	"C_GenerateRandom":    sessionResult + "FUNCTION_CANCELED OPERATION_ACTIVE RANDOM_NO_RNG USER_NOT_LOGGED_IN",                                                                                                                                                // §5.15
}

// resultFaults returns a fault for each result that a function can return. Which call it is that fails differs from
// result to result.
func resultFaults(t *testing.T, scenario string, f called) []softhsm.Fault {
	t.Helper()
	var faults []softhsm.Fault
	for _, name := range strings.Fields(listedResults[f.function]) {
		result, err := softhsm.ParseResult("CKR_" + name)
		if err != nil {
			t.Fatal(err)
		}
		call := 1 + int(sum(scenario+f.function+name)%uint32(f.times))
		faults = append(faults, softhsm.Fault{Function: f.function, Call: call, Action: softhsm.Fail, Arg: result})
	}
	if faults == nil {
		t.Fatalf("the table lacks %s", f.function)
	}
	return faults
}

// A resultTrial is a copy of a site on which one command fails after the other.
type resultTrial struct {
	*faultSite
	scenario        faultScenario
	objects         int      // on the tokens, at the beginning, but those that hold pins
	created, failed []string // names of keys
	rotated         int      // the newest version of key a
}

var errNotCommitted = errors.New("the fault was not committed")

// try tries the faults one after the other, on one copy of the site as long as that is possible.
func (s series) try(t *testing.T) {
	var c *resultTrial
	faults := s.faults
	for i := 0; i < len(faults); i++ {
		fresh := c == nil
		if fresh {
			c = &resultTrial{faultSite: s.site.clone(t), scenario: s.scenario, rotated: 2}
			c.objects = c.countObjects(t)
		}
		used, err := c.fail(t, faults[i])
		switch {
		case errors.Is(err, errNotCommitted) && !fresh: // there was less to do than at first
			i--
			used, err = true, nil
		case errors.Is(err, errNotCommitted) && faults[i].Call > 1: // how many calls there are depends on which are at once
			faults[i].Call--
			i--
			used, err = true, nil
		}
		if err != nil {
			t.Errorf("%s: %v", faultName(faults[i]), err)
		}
		if used {
			c = nil
		}
	}
	if c != nil {
		c.end(t)
	}
}

// fail runs the command with one fault. It reports whether the site is used up, because the scenario is
// done on it that can be done once.
func (c *resultTrial) fail(t *testing.T, f softhsm.Fault) (used bool, err error) {
	if err := errors.Join(c.env.RecordCalls(), c.env.SetFaults(f)); err != nil {
		t.Fatal(err)
	}
	module, err := c.env.FaultyModule()
	if err != nil {
		t.Fatal(err)
	}
	args := slices.Clone(c.scenario.args)
	if c.scenario.name == "create" {
		args[1] = fmt.Sprintf("c%d", len(c.created)+len(c.failed))
	}
	r := c.run(module, c.scenario.token, args...)
	calls, err := c.env.Calls()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.env.SetFaults(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%v", err, r)
		}
	}()
	if r.status == 0 {
		c.created = append(c.created, args[1])
	} else {
		c.failed = append(c.failed, args[1])
	}
	name := softhsm.ResultName(f.Arg)
	switch {
	case !slices.ContainsFunc(calls, func(call softhsm.Call) bool { return call.Fault == softhsm.Fail }):
		return false, errNotCommitted
	case r.timeout:
		return false, errors.New("it does not end")
	case failedCalls(calls) > mostFailures:
		return false, fmt.Errorf("it goes on for %d failures", failedCalls(calls))
	case refusedAgain(calls):
		return false, errors.New("it logs in again after the PIN was refused")
	case strings.Contains(r.stdout+r.stderr, testPIN):
		return false, errors.New("it shows the PIN")
	case r.status != 0 && !strings.Contains(r.stderr, name) && !tellsItself(f, r):
		return false, fmt.Errorf("the error does not name %s", name)
	case r.status != 0 && errorLines(r) != 1 && !f.Onward: // then each key fails
		return false, errors.New("it is not one error")
	}
	if n := c.countObjects(t); f.Onward { // what cannot be destroyed stays
		c.objects = n
	} else if n != c.objects {
		return false, fmt.Errorf("there are %d objects on the tokens, and were %d", n, c.objects)
	}
	if r.status != 0 {
		if c.scenario.name == "decrypt" && r.stdout != "" && r.stdout != faultPlaintext { // all, if the end of the session fails
			return false, errors.New("it has decrypted something else")
		}
		return false, checkFaultError(f, r, module)
	}
	switch c.scenario.name {
	case "rotate":
		before := c.rotated
		if c.rotated = c.newest("a"); c.rotated <= before {
			return false, fmt.Errorf("the newest version is still %d", c.rotated)
		}
		return false, c.does("office", "reveal", fmt.Sprintf("a@%d", c.rotated))
	case "decrypt":
		return false, c.scenario.done(c.faultSite, r)
	case "recover":
		return true, c.scenario.done(c.faultSite, r)
	}
	return false, nil
}

// mostFailures is how many failures of the module a command lives through: a token that is lost is tried for 20
// seconds, ever more slowly.
const mostFailures = 100

func failedCalls(calls []softhsm.Call) int {
	n := 0
	for _, call := range calls {
		if call.Fault == softhsm.Fail {
			n++
		}
	}
	return n
}

// refusedAgain reports whether there was a login after one by which a try was lost.
func refusedAgain(calls []softhsm.Call) bool {
	refused := false
	for _, call := range calls {
		if call.Function != "C_Login" {
			continue
		}
		if refused {
			return true
		}
		refused = call.Result == pkcs11.CKR_PIN_INCORRECT || call.Result == pkcs11.CKR_PIN_LOCKED
	}
	return false
}

// newest returns the newest version of a key, or 0.
func (c *resultTrial) newest(name string) int {
	for line := range strings.Lines(c.honest("office", "list", "--jsonl").stdout) {
		var key struct {
			Name    string
			Version int
		}
		if json.Unmarshal([]byte(line), &key) == nil && key.Name == name {
			return key.Version
		}
	}
	return 0
}

// errorLines counts the errors that a command prints.
func errorLines(r faultRun) int {
	return strings.Count(r.stderr, "hsmkeys: ") - strings.Count(r.stderr, "hsmkeys: warning: ") - strings.Count(r.stderr, "hsmkeys: note: ")
}

// tellsItself reports whether an error need not name the result.
func tellsItself(f softhsm.Fault, r faultRun) bool {
	switch softhsm.ResultName(f.Arg) {
	case "CKR_CRYPTOKI_ALREADY_INITIALIZED": // which is no failure; then the module refuses to work
		return strings.Contains(r.stderr, "CKR_CRYPTOKI_NOT_INITIALIZED")
	case "CKR_DEVICE_REMOVED", "CKR_TOKEN_NOT_PRESENT", "CKR_TOKEN_NOT_RECOGNIZED": // an empty slot, when the token is looked for
		return f.Function == "C_GetTokenInfo" && strings.Contains(r.stderr, "no such token")
	}
	return f.Function == "C_GetFunctionList" // package pkcs11 does not tell
}

// end checks what there is in the end, with an honest module.
func (c *resultTrial) end(t *testing.T) {
	t.Helper()
	switch c.scenario.name {
	case "create":
		list := c.must(t, "office", "list", "--jsonl").stdout
		for _, name := range c.created {
			if !strings.Contains(list, `"name":"`+name+`"`) {
				t.Errorf("%s is reported as created, and is not there", name)
			}
		}
		for _, name := range c.failed {
			if !strings.Contains(list, `"name":"`+name+`"`) {
				c.must(t, "office", "create", name)
				break // one is as good as all
			}
		}
	case "recover":
		if err := c.scenario.done(c.faultSite, c.must(t, c.scenario.token, c.scenario.args...)); err != nil {
			t.Error(err)
		}
		return
	}
	c.must(t, "office", "verify")
	for _, token := range []string{"office", "vault"} { // every key opens
		c.must(t, token, "drill", "--prove")
		if err := c.opens(token, "a1.age", "a2.age", "b.age"); err != nil {
			t.Errorf("what opened before does not: %v", err)
		}
	}
}

// countObjects counts the objects on all tokens except data objects, which hold pins. SoftHSM keeps each in a file,
// but for session objects, which are in none.
func (c *resultTrial) countObjects(t *testing.T) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(c.env.TokenDir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".object") || d.Name() == "token.object" {
			return err
		}
		// A generation, and the attributes: type, kind of the value, value. The first is CKA_CLASS.
		object, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if len(object) < 32 || binary.BigEndian.Uint64(object[8:]) != pkcs11.CKA_CLASS {
			return fmt.Errorf("%s is no object as SoftHSM keeps it", path)
		}
		if binary.BigEndian.Uint64(object[24:]) != pkcs11.CKO_DATA {
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		t.Fatal("there is not even a pair")
	}
	return n
}
