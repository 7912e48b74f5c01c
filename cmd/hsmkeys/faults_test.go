package main

import (
	"fmt"
	"hash/fnv"
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
	all := os.Getenv("HSMKEYS_TEST_FAULTS") == "all"
	seen := map[string]bool{} // the functions that a sample has had
	for _, keyType := range []string{"rsa2048", "p256"} {
		base := newFaultSite(t, keyType)
		for _, s := range faultScenarios(keyType) {
			site := base.clone(t)
			site.prepare(t, s)
			calls := site.record(t, s)
			cases := faultCases(calls)
			if !all {
				cases = sampleOf(cases, seen)
			}
			for _, f := range cases {
				t.Run(keyType+"/"+s.name+"/"+faultName(f), func(t *testing.T) {
					t.Parallel()
					site.try(t, s, f)
				})
			}
		}
	}
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

	// failures are results that the standard allows to every function.
	failures = []uint{pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_DEVICE_REMOVED}
)

// faultCases are the faults for the functions that were called: each on the first call
// and the last, and on every one.
func faultCases(calls []softhsm.Call) []softhsm.Fault {
	var functions []string
	count := map[string]int{}
	attributes := map[string][]uint{}
	for _, c := range calls {
		if count[c.Function] == 0 {
			functions = append(functions, c.Function)
		}
		count[c.Function]++
		for _, a := range c.Attributes {
			if !slices.Contains(attributes[c.Function], a) {
				attributes[c.Function] = append(attributes[c.Function], a)
			}
		}
	}
	var cases []softhsm.Fault
	add := func(function string, action softhsm.Action, arg uint, calls ...int) {
		slices.Sort(calls)
		for _, call := range slices.Compact(calls) {
			cases = append(cases, softhsm.Fault{Function: function, Call: call, Action: action, Arg: arg})
		}
	}
	for _, f := range functions {
		n := count[f]
		for i, ckr := range failures {
			add(f, softhsm.Fail, ckr, 1)
			if i == int(sum(f))%len(failures) {
				add(f, softhsm.Fail, ckr, 0, n, (n+1)/2)
				add(f, softhsm.FailAfter, ckr, 0, 1, n)
			}
		}
		add(f, softhsm.Skip, 0, 0, 1, n)
		for _, action := range []softhsm.Action{softhsm.Crash, softhsm.Exit} {
			add(f, action, 0, 1, n)
		}
		add(f, softhsm.Abort, 0, 1)
		add(f, softhsm.Hang, 0, 1, n)
		add(f, softhsm.Print, 0, 0)
		if f == "C_GetAttributeValue" {
			for _, attribute := range attributes[f] {
				for _, lie := range lies[f] {
					add(f, lie, attribute, 0, 1)
				}
			}
			continue
		}
		for _, attribute := range attributes[f] { // of a template
			for _, lie := range lieTemplate {
				add(f, lie, attribute, 0)
			}
		}
		for _, lie := range lies[f] {
			if slices.Contains(lieTemplate, lie) && len(attributes[f]) > 0 {
				continue
			}
			add(f, lie, 0, 0, 1, 2)
		}
	}
	return cases
}

// sum chooses where there are too many to try all.
func sum(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

// sampleOf chooses two cases for every function that has had none: a lie where it can
// lie, and another fault.
func sampleOf(cases []softhsm.Fault, seen map[string]bool) []softhsm.Fault {
	byFunction := map[string][][]softhsm.Fault{}
	var order []string
	for _, f := range cases {
		if seen[f.Function] {
			continue
		}
		if byFunction[f.Function] == nil {
			byFunction[f.Function] = make([][]softhsm.Fault, 2)
			order = append(order, f.Function)
		}
		kind := 0
		if slices.Contains(lies[f.Function], f.Action) || slices.Contains(lieTemplate, f.Action) {
			kind = 1
		}
		byFunction[f.Function][kind] = append(byFunction[f.Function][kind], f)
	}
	var chosen []softhsm.Fault
	for _, function := range order {
		seen[function] = true
		for _, of := range byFunction[function] {
			if len(of) > 0 {
				chosen = append(chosen, of[int(sum(function))%len(of)])
			}
		}
	}
	return chosen
}
