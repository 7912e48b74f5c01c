package softhsm

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// Lose takes the token away from every process that uses it through [Env.FaultyModule], those included that
// have it open: it is in no list of slots with tokens, its slot returns CKR_TOKEN_NOT_PRESENT, and
// its sessions return CKR_DEVICE_REMOVED. What is on it stays, for [Token.Restore]. Losing a
// token that is lost does nothing.
//
// A program that loads SoftHSM itself does not notice; [Env.DestroyToken] takes a token away from that too, for good.
func (t Token) Lose() error {
	return t.move("lose", true)
}

// Restore puts the token back after [Token.Lose], and undoes every [Token.Break] and
// [Token.FailAt]. As with hardware, sessions from before the loss stay gone, with their logins and
// session objects: they return CKR_SESSION_HANDLE_INVALID. A call that hangs goes on hanging.
func (t Token) Restore() error {
	err := t.move("restore", false)
	if err != nil {
		return err
	}
	err = t.env.change("faults", func(lines []string) ([]string, error) {
		var kept []string
		for _, line := range lines {
			if fields := strings.Fields(line); len(fields) < 6 || fields[5] != t.Serial {
				kept = append(kept, line)
			}
		}
		return kept, nil
	})
	return t.wrap("restore", err)
}

// move changes whether the token is away.
func (t Token) move(what string, away bool) error {
	if err := t.there(); err != nil {
		return t.wrap(what, err)
	}
	return t.wrap(what, t.env.change("losses", func(lines []string) ([]string, error) {
		number := 0
		var kept []string
		for _, line := range lines {
			serial, n, _ := strings.Cut(line, " ")
			if serial != t.Serial {
				kept = append(kept, line)
				continue
			}
			var err error
			if number, err = strconv.Atoi(n); err != nil {
				return nil, err
			}
		}
		if away != (number%2 == 1) {
			number++
		}
		if len(kept) >= mostLines {
			return nil, fmt.Errorf("%d other tokens were lost, which is as many as the module takes", len(kept))
		}
		return append(kept, fmt.Sprintf("%s %d", t.Serial, number)), nil
	}))
}

// FailAt makes the call-th call of a function, from 1 and from now on, return a result such as
// pkcs11.CKR_DEVICE_ERROR without doing anything, in whichever process that is. Calls that use another
// token do not count. The function is named as in "C_Sign", or "*" is any.
func (t Token) FailAt(function string, call int, result uint) error {
	return t.Break(Fault{Function: function, Call: call, Action: Fail, Arg: result})
}

// Break adds a fault to those of the token, until [Token.Restore]. The calls of all processes count, from now
// on, in which the action has something to do and the token is used. A fault of a function
// that uses no token, such as C_Initialize, counts all calls of that function. The error wraps [ErrFault] if the
// fault cannot be.
func (t Token) Break(f Fault) error {
	f.Token = t.Serial
	if err := f.check(); err != nil {
		return t.wrap("break", err)
	}
	if err := t.there(); err != nil {
		return t.wrap("break", err)
	}
	return t.wrap("break", t.env.change("faults", func(lines []string) ([]string, error) {
		if len(lines) >= mostLines {
			return nil, fmt.Errorf("%w: there are %d faults, which is as many as the module takes", ErrFault, len(lines))
		}
		return append(lines, f.line("count-"+rand.Text())), nil
	}))
}

// mostLines is how many lines the module reads of a file.
const mostLines = 64

func (t Token) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("softhsm: %s token %q: %w", what, t.Label, err)
}

// there returns an error that wraps [fs.ErrNotExist] if there is no such token.
func (t Token) there() error {
	if t.env == nil {
		return fmt.Errorf("it is of no environment: %w", os.ErrInvalid)
	}
	_, err := t.env.tokenPath(t.Serial)
	return err
}

// change replaces a file of lines that the module reads. Processes take turns, and the module never reads
// a partly written file: it notices the new one by its inode and time.
func (e *Env) change(name string, f func(lines []string) ([]string, error)) error {
	unlock, err := ownfile.Lock(filepath.Join(e.dir, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	path := filepath.Join(e.dir, name)
	old, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	lines, err := f(strings.FieldsFunc(string(old), func(r rune) bool { return r == '\n' }))
	if err != nil {
		return err
	}
	text := strings.Join(append(lines, ""), "\n")
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
