package main

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/softhsm"
)

// TestFaults has every function of PKCS #11 that a command calls lie, fail, hang and
// crash, and holds what the command says against what an honest module finds afterwards:
//
//   - what was reported as done is there, whole and right;
//   - anything else is an error, with an exit status and a line that name it; nothing is
//     lost by it, and the same command goes on with an honest module.
//
// The functions are those that a run with an honest module has called. Here a sample is
// tried, in which each of them has its turn; `make faults` tries all.
func TestFaults(t *testing.T) {
	trials := faultTrials(t)
	if os.Getenv("HSMKEYS_TEST_FAULTS") != "all" {
		trials = sampleOf(trials)
	}
	for _, trial := range trials {
		t.Run(trial.String(), func(t *testing.T) {
			t.Parallel()
			trial.site.try(t, trial.scenario, trial.fault)
		})
	}
}

// A faultTrial is a scenario with one fault.
type faultTrial struct {
	site     *faultSite
	keyType  string
	scenario faultScenario
	fault    softhsm.Fault
}

func (f faultTrial) String() string {
	return f.keyType + "/" + f.scenario.name + "/" + faultName(f.fault)
}

// faultTrials runs every scenario with an honest module, and returns the faults for what
// it has called. What is called alike for both types of pairs is tried with one, and what
// every command begins with, with one command.
func faultTrials(t *testing.T) []faultTrial {
	var trials []faultTrial
	seen, hung := map[string]bool{}, map[string]int{}
	for _, keyType := range []string{"p256", "rsa2048"} {
		base := newFaultSite(t, keyType)
		for _, s := range faultScenarios(keyType) {
			site := base.clone(t)
			site.prepare(t, s)
			for _, f := range summary(site.record(t, s)) {
				this := fmt.Sprint(s.name, f)
				if slices.Contains(opening, f.function) {
					this = fmt.Sprint(f)
				}
				if seen[this] {
					continue
				}
				seen[this] = true
				for _, fault := range faultCases(keyType+s.name, f) {
					if fault.Action == softhsm.Hang {
						if hung[f.function]++; hung[f.function] > 3 {
							continue // each takes seconds
						}
					}
					trials = append(trials, faultTrial{site, keyType, s, fault})
				}
			}
		}
	}
	return trials
}

// sampleOf chooses two trials of every function: a lie where it can lie, and another fault;
// and a loaded key that anybody can use without the PIN.
func sampleOf(trials []faultTrial) []faultTrial {
	kinds := map[string][]faultTrial{}
	for _, trial := range trials {
		f := trial.fault
		if trial.scenario.name == "load" && f.Action == softhsm.Flip && f.Arg == pkcs11.CKA_PRIVATE && f.Function != "C_GetAttributeValue" {
			kinds[fmt.Sprint(f)] = []faultTrial{trial}
		}
		kind := f.Function
		if slices.Contains(lies[f.Function], f.Action) || slices.Contains(lieTemplate, f.Action) {
			kind += " lies"
		}
		kinds[kind] = append(kinds[kind], trial)
	}
	var chosen []faultTrial
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		of := kinds[kind]
		chosen = append(chosen, of[sum(kind)%uint32(len(of))])
	}
	return chosen
}

func faultName(f softhsm.Fault) string {
	name := f.Function + "/" + string(f.Action)
	switch f.Action {
	case softhsm.Fail, softhsm.FailAfter:
		name += "=" + strings.TrimPrefix(ckrName(f.Arg), "CKR_")
	default:
		if f.Arg != 0 || f.Function == "C_GetAttributeValue" {
			name += fmt.Sprintf("=%#x", f.Arg)
		}
	}
	if f.Call == 0 {
		return name + "/every"
	}
	return fmt.Sprintf("%s/%d", name, f.Call)
}

// ckrName is the name of a result, such as CKR_DEVICE_ERROR.
func ckrName(result uint) string {
	text := pkcs11.Error(result).Error() // "pkcs11: 0x30: CKR_DEVICE_ERROR"
	return text[strings.LastIndex(text, " ")+1:]
}

// What may go wrong with what a function returns, by the kind of result.
var (
	lieBytes      = []softhsm.Action{softhsm.Flip, softhsm.Zeros, softhsm.Ones, softhsm.Shorten, softhsm.Lengthen, softhsm.Empty, softhsm.Huge, softhsm.Repeat}
	lieFixed      = []softhsm.Action{softhsm.Flip, softhsm.Zeros, softhsm.Ones, softhsm.Repeat}
	lieList       = []softhsm.Action{softhsm.Flip, softhsm.Zeros, softhsm.Ones, softhsm.Shorten, softhsm.Lengthen, softhsm.Empty, softhsm.Huge}
	lieFound      = []softhsm.Action{softhsm.Invalid, softhsm.Double, softhsm.Shorten, softhsm.Empty, softhsm.Endless, softhsm.Huge}
	lieHandle     = []softhsm.Action{softhsm.Invalid, softhsm.Repeat}
	lieKey        = []softhsm.Action{softhsm.Foreign, softhsm.ShortKey, softhsm.Invalid, softhsm.Repeat}
	lieTemplate   = []softhsm.Action{softhsm.Flip, softhsm.Drop}
	lieAttributes = []softhsm.Action{softhsm.Flip, softhsm.Zeros, softhsm.Ones, softhsm.Shorten, softhsm.Empty, softhsm.Missing, softhsm.Huge}

	lies = map[string][]softhsm.Action{
		"C_GetInfo": lieFixed, "C_GetSlotInfo": lieFixed, "C_GetTokenInfo": lieFixed, "C_GetMechanismInfo": lieFixed,
		"C_GetSessionInfo": lieFixed, "C_GenerateRandom": lieFixed,
		"C_GetSlotList": lieList, "C_GetMechanismList": lieList, "C_FindObjects": lieFound,
		"C_Encrypt": lieBytes, "C_Decrypt": lieBytes, "C_Sign": lieBytes, "C_WrapKey": lieBytes, "C_Digest": lieBytes, "C_DigestFinal": lieBytes,
		"C_OpenSession": lieHandle, "C_CreateObject": lieHandle, "C_CopyObject": lieHandle, "C_GenerateKeyPair": lieHandle,
		"C_GenerateKey": lieKey, "C_UnwrapKey": lieKey, "C_DeriveKey": lieKey,
		"C_GetAttributeValue": lieAttributes,
	}

	// opening are the functions that open a token.
	opening = []string{"load", "C_GetFunctionList", "C_Initialize", "C_GetInfo", "C_GetSlotList", "C_GetSlotInfo", "C_GetTokenInfo",
		"C_GetMechanismList", "C_GetMechanismInfo", "C_OpenSession", "C_CloseSession", "C_GetSessionInfo", "C_Login", "C_Logout", "C_Finalize"}

	// failures are results that the standard allows to every function.
	failures = []uint{pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_DEVICE_REMOVED}
)

// A called is what there is to spoil in a function: how often it was called, and the
// attributes in its templates.
type called struct {
	function   string
	times      int
	attributes []uint
}

// summary returns the functions in the order of their first calls.
func summary(calls []softhsm.Call) []called {
	var functions []called
	for _, c := range calls {
		i := slices.IndexFunc(functions, func(f called) bool { return f.function == c.Function })
		if i < 0 {
			i = len(functions)
			functions = append(functions, called{function: c.Function})
		}
		f := &functions[i]
		f.times++
		for _, a := range c.Attributes {
			if !slices.Contains(f.attributes, a) {
				f.attributes = append(f.attributes, a)
			}
		}
	}
	return functions
}

// faultCases are the faults for a function that the scenario calls. Every action has its
// turn; the result that is returned, and whether it is the first call, the last or every
// one, alternate between scenarios where trying all would take hours.
func faultCases(scenario string, f called) []softhsm.Fault {
	var cases []softhsm.Fault
	turn := sum(scenario + f.function)
	add := func(action softhsm.Action, arg uint, calls ...int) {
		slices.Sort(calls)
		for _, call := range slices.Compact(calls) {
			cases = append(cases, softhsm.Fault{Function: f.function, Call: call, Action: action, Arg: arg})
		}
	}
	one := func(action softhsm.Action, arg uint, calls ...int) {
		add(action, arg, calls[sum(fmt.Sprint(turn, action, arg))%uint32(len(calls))])
	}

	add(softhsm.Fail, failures[turn%5], 1, (f.times+1)/2, f.times)
	one(softhsm.Fail, failures[(turn+1)%5], 0, 1)
	add(softhsm.FailAfter, failures[(turn+2)%5], 1, f.times)
	add(softhsm.Skip, 0, 0, 1)
	add([]softhsm.Action{softhsm.Crash, softhsm.Exit, softhsm.Abort}[turn%3], 0, 1, f.times)
	one(softhsm.Hang, 0, 1, f.times)
	one(softhsm.Print, 0, 0)
	switch {
	case f.function == "C_GetAttributeValue":
		for i, attribute := range f.attributes {
			for j, lie := range lies[f.function] {
				if (i+j+int(turn))%3 == 0 {
					one(lie, attribute, 0, 1)
				}
			}
		}
		return cases
	case len(f.attributes) > 0:
		for _, attribute := range f.attributes {
			for _, lie := range lieTemplate {
				add(lie, attribute, 0)
			}
		}
	}
	for i, lie := range lies[f.function] {
		one(lie, 0, 0, 1, 2)
		if i == 0 { // what matters may be in any call
			for call := range min(f.times, 12) {
				add(lie, 0, call+1)
			}
		}
	}
	slices.SortStableFunc(cases, func(a, b softhsm.Fault) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return slices.Compact(cases)
}

// sum chooses where there are too many to try all.
func sum(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}
