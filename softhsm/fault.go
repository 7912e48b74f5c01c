package softhsm

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A Fault is one thing that a faulty module does wrong: it takes Action the Call-th time that
// Function is called.
//
// Only the calls in which the action has something to do are counted. C_WrapKey, for
// instance, is usually called twice, first for the length alone: the first [Flip] of
// C_WrapKey corrupts the result of the second of these calls.
type Fault struct {
	Function string // such as "C_WrapKey"; "*" for every function, "load" for the loading of the library
	Call     int    // which call, from 1; 0 for every one
	Onward   bool   // and every call after that
	Action   Action
	// Token is the serial of a token, and restricts the fault to calls that use it; "" is for all. [Token.Break]
	// sets it.
	Token string
	// Arg is the result to return for Fail and FailAfter (CKR_...), the type of the
	// attribute (CKA_..., or AnyAttribute) for actions on templates and attributes, the
	// exit status for Exit and QuickExit, the signal for Raise, and the number for Huge and Hog, 0 for 2³⁰.
	Arg uint
}

// AnyAttribute is the Arg of a [Fault] that applies to every attribute.
const AnyAttribute = ^uint(0)

// An Action is a way to do something wrong.
type Action string

// Actions in place of the call, for every function.
const (
	Fail  Action = "fail"  // return Arg without calling SoftHSM
	Skip  Action = "skip"  // return CKR_OK without calling SoftHSM
	Hang  Action = "hang"  // never return
	Crash Action = "crash" // access invalid memory: SIGSEGV
	Abort Action = "abort" // SIGABRT
	Exit  Action = "exit"  // call exit(3)

	Raise     Action = "raise"      // raise the signal in Arg
	QuickExit Action = "quick-exit" // call quick_exit(3)
)

// Actions around the call, for every function.
const (
	FailAfter Action = "fail-after" // call SoftHSM, and return Arg nevertheless
	Print     Action = "print"      // print [Printed] on standard output
	Hog       Action = "hog"        // allocate memory, and keep it
)

// Actions on what a function returned: bytes, structures, lists and handles, and the
// attributes that C_GetAttributeValue returns.
const (
	Flip     Action = "flip"     // flip one bit; in a template, one of an attribute before the call
	Zeros    Action = "zeros"    // overwrite with zeros
	Ones     Action = "ones"     // overwrite with bytes of 0xff
	Repeat   Action = "repeat"   // return what the function returned before
	Shorten  Action = "shorten"  // return one byte, or one element of a list, less
	Lengthen Action = "lengthen" // claim that there is one more
	Empty    Action = "empty"    // claim that there is none
	Huge     Action = "huge"     // claim that there are very many, or that the result is very long
	Missing  Action = "missing"  // claim that there is no such attribute
	Endless  Action = "endless"  // make C_FindObjects always find more
	Double   Action = "double"   // make C_FindObjects find an object twice
	Invalid  Action = "invalid"  // return an invalid handle
)

// Actions on keys and on the templates that they are made with.
const (
	Drop     Action = "drop"      // leave an attribute out of the template
	Foreign  Action = "foreign"   // return another secret key of the same kind and size
	ShortKey Action = "short-key" // return another secret key that is shorter
)

// Printed is the line that [Print] writes to stdout.
const Printed = "faulty module: this is not for stdout\n"

// A Call is one call of a function of a faulty module.
type Call struct {
	Function string
	Result   uint   // CKR_...
	Fault    Action // what was done wrong; "" for nothing
	// Attributes has the types of the attributes in the templates.
	Attributes []uint
}

// SetFaults sets the faults of the faulty module of e in all processes, from its next call on, in
// place of earlier ones, those of [Token.Break] included. Every process counts its own calls, and
// counts from now on. Without arguments the module works correctly again; tokens that are lost
// stay so.
func (e *Env) SetFaults(faults ...Fault) error {
	var lines []string
	for _, f := range faults {
		if f.Function == "" || f.Action == "" || f.Call < 0 {
			return fmt.Errorf("softhsm: fault %+v: needs a function and an action", f)
		}
		lines = append(lines, f.line("-"))
	}
	if err := e.change("faults", func([]string) ([]string, error) { return lines, nil }); err != nil {
		return fmt.Errorf("softhsm: set faults: %w", err)
	}
	return nil
}

// line returns the line of a fault for the module, which counts in the file counter, or in each process if
// that is "-".
func (f Fault) line(counter string) string {
	from, to := f.Call, f.Call
	if f.Call == 0 {
		from = 1
	}
	if f.Onward {
		to = 0
	}
	token := f.Token
	if token == "" {
		token = "-"
	}
	return fmt.Sprintf("%s %d %d %s %#x %s %s", f.Function, from, to, f.Action, f.Arg, token, counter)
}

// RecordCalls makes the faulty module of e record its calls, starting with an empty record.
func (e *Env) RecordCalls() error {
	if err := os.WriteFile(filepath.Join(e.dir, "calls"), nil, 0o600); err != nil {
		return fmt.Errorf("softhsm: record calls: %w", err)
	}
	return nil
}

// Calls returns the calls of the faulty module by all processes since
// [Env.RecordCalls], in order. Loading the library counts as a call named "load".
func (e *Env) Calls() ([]Call, error) {
	data, err := os.ReadFile(filepath.Join(e.dir, "calls"))
	if err != nil {
		return nil, fmt.Errorf("softhsm: calls: %w", err)
	}
	var calls []Call
	for line := range strings.Lines(string(data)) {
		call, err := parseCall(line)
		if err != nil {
			return nil, fmt.Errorf("softhsm: calls: %q: %w", line, err)
		}
		calls = append(calls, call)
	}
	return calls, nil
}

func parseCall(line string) (Call, error) {
	var c Call
	fields := strings.Fields(line)
	if len(fields) < 3 || len(fields) > 4 {
		return c, io.ErrUnexpectedEOF
	}
	c.Function = fields[0]
	result, err := strconv.ParseUint(fields[1], 0, 64)
	if err != nil {
		return c, err
	}
	c.Result = uint(result)
	if fields[2] != "-" {
		c.Fault = Action(fields[2])
	}
	if len(fields) < 4 {
		return c, nil
	}
	for field := range strings.SplitSeq(fields[3], ",") {
		attribute, err := strconv.ParseUint(field, 0, 64)
		if err != nil {
			return c, err
		}
		c.Attributes = append(c.Attributes, uint(attribute))
	}
	return c, nil
}

// Clone makes another environment with a copy of everything in e: its tokens, with
// their serials and PINs, and its faulty module. The two environments are independent. The caller
// must [Env.Close] it.
func (e *Env) Clone() (*Env, error) {
	c, err := New()
	if err != nil {
		return nil, err
	}
	if err := c.copyFrom(e); err != nil {
		c.Close()
		return nil, fmt.Errorf("softhsm: clone: %w", err)
	}
	return c, nil
}

func (e *Env) copyFrom(from *Env) error {
	if err := os.CopyFS(e.TokenDir(), os.DirFS(from.TokenDir())); err != nil {
		return err
	}
	// CopyFS keeps the permission bits, and adds read permission.
	err := filepath.WalkDir(e.TokenDir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		return err
	}
	library := filepath.Join(from.dir, frontName)
	if !isFile(library) {
		return nil
	}
	return os.Link(library, filepath.Join(e.dir, filepath.Base(library)))
}
