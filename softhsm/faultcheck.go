package softhsm

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"
)

// ErrFault means that a fault cannot be: there is no such function, action or result, or the action has
// nothing to do in the function.
var ErrFault = errors.New("no such fault")

// anywhere are the actions that every function can take.
var anywhere = []Action{Fail, FailAfter, Skip, Hang, Crash, Abort, Exit, QuickExit, Raise, Print, Hog}

// onResults are the actions that have something to do, by what the module does with a function's arguments
// and results in functions.h.
var onResults = map[string][]Action{
	"fixed":      {Flip, Zeros, Ones, Repeat},
	"bytes":      {Flip, Zeros, Ones, Repeat, Shorten, Lengthen, Empty, Huge},
	"numbers":    {Flip, Zeros, Ones, Repeat, Shorten, Lengthen, Empty, Huge},
	"found":      {Invalid, Shorten, Double, Empty, Endless, Huge},
	"handle":     {Invalid, Repeat},
	"secret":     {Invalid, Repeat, Foreign, ShortKey},
	"template":   {Flip, Drop},
	"attributes": {Flip, Zeros, Ones, Shorten, Empty, Missing, Huge},
}

// functions has the actions of each function by its name.
var functions = sync.OnceValue(func() map[string][]Action {
	all := map[string][]Action{"C_GetFunctionList": anywhere}
	done := regexp.MustCompile(`\b(\w+)\(&c,`)
	for _, line := range regexp.MustCompile(`(?m)^X\((\w+), .*$`).FindAllStringSubmatch(string(faultyFunctions), -1) {
		actions := slices.Clone(anywhere)
		for _, step := range done.FindAllStringSubmatch(line[0], -1) {
			actions = append(actions, onResults[step[1]]...)
		}
		slices.Sort(actions)
		all["C_"+line[1]] = slices.Compact(actions)
	}
	return all
})

// Functions returns the names of the functions of PKCS #11 v2.40, sorted.
func Functions() []string {
	var names []string
	for name := range functions() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Actions returns what can go wrong in a function, or in any if it is "*", sorted, apart from what needs an Arg that
// says what to return or to raise.
func Actions(function string) []Action {
	return slices.DeleteFunc(slices.Clone(actionsIn(function)), func(a Action) bool { return a == Fail || a == FailAfter || a == Raise })
}

func actionsIn(function string) []Action {
	if function != "*" {
		return functions()[function]
	}
	actions := slices.Clone(anywhere)
	for _, more := range onResults {
		actions = append(actions, more...)
	}
	slices.Sort(actions)
	return slices.Compact(actions)
}

// check returns an error if the module cannot commit the fault.
func (f Fault) check() error {
	switch {
	case f.Function != "*" && functions()[f.Function] == nil:
		return fmt.Errorf("%w: %q is no function of PKCS #11 v2.40", ErrFault, f.Function)
	case !slices.Contains(actionsIn("*"), f.Action):
		return fmt.Errorf("%w: %q is nothing that a module can do", ErrFault, f.Action)
	case !slices.Contains(actionsIn(f.Function), f.Action):
		return fmt.Errorf("%w: %s returns nothing for %s to spoil", ErrFault, f.Function, f.Action)
	case f.Call < 0:
		return fmt.Errorf("%w: calls are counted from 1", ErrFault)
	}
	return nil
}

// unnamed are the results of v2.40 for which package pkcs11 has no name.
var unnamed = map[uint]string{
	0x1b: "CKR_ACTION_PROHIBITED", 0x140: "CKR_CURVE_NOT_SUPPORTED", 0x1b5: "CKR_EXCEEDED_MAX_ITERATIONS", 0x1b6: "CKR_FIPS_SELF_TEST_FAILED",
	0x1b7: "CKR_LIBRARY_LOAD_FAILED", 0x1b8: "CKR_PIN_TOO_WEAK", 0x1b9: "CKR_PUBLIC_KEY_INVALID",
}

// results are the results of v2.40 by name.
var results = sync.OnceValue(func() map[string]uint {
	all := map[string]uint{}
	for result := range uint(0x1000) {
		if name := ResultName(result); !strings.HasPrefix(name, "0x") {
			all[name] = result
		}
	}
	return all
})

// ParseResult parses a result: its name, such as CKR_DEVICE_ERROR, or a number, such as 0x80000001 for one of a
// vendor's own. The error is an [ErrFault].
func ParseResult(text string) (uint, error) {
	if result, ok := results()[text]; ok {
		return result, nil
	}
	if result, err := strconv.ParseUint(text, 0, 32); err == nil {
		return uint(result), nil
	}
	return 0, fmt.Errorf("%w: %q is no result of PKCS #11 v2.40", ErrFault, text)
}

// Results returns the names of the results that have one, except CKR_OK, sorted.
func Results() []string {
	var names []string
	for name, result := range results() {
		if result != pkcs11.CKR_OK {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// ResultName returns the name of a result, such as CKR_DEVICE_ERROR, or its number in hexadecimal.
func ResultName(result uint) string {
	if name := unnamed[result]; name != "" {
		return name
	}
	text := pkcs11.Error(result).Error() // "pkcs11: 0x30: CKR_DEVICE_ERROR"
	if name := text[strings.LastIndex(text, " ")+1:]; strings.HasPrefix(name, "CKR_") {
		return name
	}
	return fmt.Sprintf("%#x", result)
}
