// Package doctor checks whether module, token, store and keyring are sound, and says what to do if
// not.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hsmkeys/hsmkeys/cmd/internal/hint"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/cmd/internal/trial"
	"github.com/hsmkeys/hsmkeys/token"
)

// finding is the result of one check. Its JSON form is stable.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, warn or fail
	What   string `json:"what"`
	Mend   string `json:"mend,omitempty"` // a command
}

// The statuses of a finding. A check that cannot be made, because one that it depends on failed, is a
// warning.
const (
	isOK   = "ok"
	isWarn = "warn"
	isFail = "fail"
)

var statusColors = map[string]string{isOK: terminal.Green, isWarn: terminal.Yellow, isFail: terminal.Red}

// doctor collects findings. A check that fails stops only those that depend on it.
type doctor struct {
	ctx      context.Context
	s        *settings.Settings
	findings []finding

	trials sync.Map // of triedModule, by path

	signed  time.Time // the latest time that a verified signature names
	founded bool      // there is a list of members in the store
}

func (d *doctor) ok(check, what string, args ...any) { d.add(isOK, check, "", what, args) }

func (d *doctor) warn(check, mend, what string, args ...any) { d.add(isWarn, check, mend, what, args) }

func (d *doctor) fail(check, mend, what string, args ...any) { d.add(isFail, check, mend, what, args) }

// skip adds a warning for checks that were not made.
func (d *doctor) skip(because string, checks ...string) {
	for _, check := range checks {
		d.warn(check, "", "not checked: %s", because)
	}
}

func (d *doctor) add(status, check, mend, what string, args []any) {
	// A path or label may be anybody's: neither part may break the line.
	d.findings = append(d.findings, finding{check, status, text.Line(fmt.Sprintf(what, args...)), text.Line(mend)})
}

// failure adds a failed check with an error and its hint, and with the command for that kind of
// error, or else the one given.
func (d *doctor) failure(check, mend string, err error) {
	what := err.Error()
	if hint := hint.For(err); hint != "" {
		what += "; " + hint
	}
	for _, kind := range []struct {
		error
		mend string
	}{
		{token.ErrNoToken, "hsmkeys token list"},
		{token.ErrAmbiguous, "hsmkeys token list"},
		{token.ErrFinalTry, "hsmkeys --final-try doctor"},
		{token.ErrPINLocked, d.pkcs11Tool("--login --login-type so --init-pin")},
		{token.ErrPlanted, d.pkcs11Tool("--list-objects")},
	} {
		if errors.Is(err, kind.error) {
			mend = kind.mend
			break
		}
	}
	d.fail(check, mend, "%s", what)
}

// pkcs11Tool returns a command line for something that hsmkeys does not do.
func (d *doctor) pkcs11Tool(options string) string {
	command := "pkcs11-tool"
	if sel, module, err := d.s.Selector(); err == nil {
		clear(sel.PINValue)
		if module != "" {
			command += " --module " + text.ShellQuote(module)
		}
		if sel.Label != "" {
			command += " --token-label " + text.ShellQuote(sel.Label)
		}
	}
	return command + " " + options
}

// Run makes all checks and prints their findings. It returns an error if a check failed.
func Run(ctx context.Context, s *settings.Settings) error {
	s.IgnoreCache = true // a finding must not come from the cache, which may be anybody's
	d := &doctor{ctx: ctx, s: s}
	d.examine()
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.report()
}

// examine makes all checks.
func (d *doctor) examine() {
	_ = session.Bind(d.ctx, d.s) // a token that is not found fails the check of the login
	modules, known := d.modules()
	d.p11kit()
	d.pcscd(modules)
	var tokens []token.Info
	if known {
		tokens = d.tokens()
	} else {
		d.skip("no module loads", "token")
	}
	d.outputs()
	d.records()
	store := d.store() // before anybody is asked for a PIN
	if store != nil {
		defer store.Close()
	}
	if len(tokens) > 0 {
		d.withLogin(store)
	} else {
		d.skip("there is no token", append([]string{"login"}, afterLogin...)...)
	}
	if store != nil {
		d.blobs(store)
	} else {
		d.skip("the store cannot be opened", "blobs")
	}
	d.clock(time.Now()) // it needs what is signed, and belongs to the top
	d.findings = slices.Insert(d.findings[:len(d.findings)-1], 0, d.findings[len(d.findings)-1])
}

// withLogin makes the checks that need the PIN.
func (d *doctor) withLogin(store place.Store) {
	d.pinSource()
	loggedIn := false
	hung := func(err error) { // print what was found out so far
		d.failure("login", "", err)
		_ = d.report()
	}
	trial.BeforeEnd.Store(&hung)
	defer trial.BeforeEnd.Store(nil)
	err := session.WithToken(d.ctx, d.s, func(t *token.Token, sel token.Selector) error {
		loggedIn = true
		d.ok("login", "the PIN opens token %s", text.Printable(t.Info().Label))
		pair := d.pair(t, sel)
		switch {
		case pair == nil:
			d.skip("there is no pair", afterLogin[1:]...)
		case store == nil:
			d.certificate(pair)
			d.skip("the store cannot be opened", afterKeyring...)
		default:
			d.certificate(pair)
			d.keyring(t, pair, store)
		}
		return nil
	})
	switch {
	case err != nil && loggedIn:
		d.failure("login", "", err)
	case err != nil:
		d.failure("login", "hsmkeys --pin-source prompt doctor", err)
		d.skip("nobody is logged in", afterLogin...)
	}
}

// The checks that need a login, and those that need an open keyring.
var (
	afterLogin   = append([]string{"pair", "residence", "certificate"}, afterKeyring...)
	afterKeyring = []string{"keyring", "pin", "members", "holders", "signatures"}
)

// oldest is a time before the first version of this program.
var oldest = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// clock looks for a clock that is wrong: signing times and the validity of certificates depend on
// it.
func (d *doctor) clock(now time.Time) {
	const mend = "timedatectl set-ntp true"
	switch {
	case now.Before(oldest), now.Year() >= 2100:
		d.fail("clock", mend, "it is not %s: certificates appear expired or not yet valid, and keys get a wrong signing time", text.Time(now))
	case now.Before(d.signed.Add(-time.Minute)): // two machines are never quite of one mind
		d.fail("clock", mend, "it shows %s, and there is a signature of %s: this clock is slow, or the signer's was fast", text.Time(now), text.Time(d.signed))
	case d.signed.IsZero():
		d.ok("clock", "%s, which is plausible; there was no signature to compare it with", text.Time(now))
	default:
		d.ok("clock", "%s, not before the newest signature that was verified, of %s", text.Time(now), text.Time(d.signed))
	}
}

// sawSigned records the time of a verified signature.
func (d *doctor) sawSigned(t time.Time) {
	if t.After(d.signed) {
		d.signed = t
	}
}

// report prints the findings. It returns an error if a check failed.
func (d *doctor) report() error {
	count := map[string]int{}
	for _, f := range d.findings {
		count[f.Status]++
	}
	var printed error
	if d.s.JSON {
		printed = output.JSON(map[string]any{"ok": count[isFail] == 0, "findings": d.findings})
	} else {
		printed = d.print(count)
	}
	if count[isFail] > 0 {
		return errors.Join(printed, errors.New(text.Plural(count[isFail], "check fails", "checks fail")))
	}
	return printed
}

// print prints a line for each finding, and how many there are of each status.
func (d *doctor) print(count map[string]int) error {
	const indent = 4 + 2 + 11 + 2
	width := terminal.Width(os.Stdout)
	for _, f := range d.findings {
		what := f.What
		if width > indent+output.MinColumn {
			what = strings.Join(text.Wrap(what, width-indent), "\n"+strings.Repeat(" ", indent))
		}
		if err := output.Line("%s  %-11s  %s", terminal.Paint(os.Stdout, statusColors[f.Status], fmt.Sprintf("%-4s", f.Status)), f.Check, what); err != nil {
			return err
		}
		if f.Mend == "" {
			continue
		}
		if err := output.Line("%*s%s", indent, "", "mend: "+f.Mend); err != nil {
			return err
		}
	}
	return output.Line("%d ok, %d warn, %d fail", count[isOK], count[isWarn], count[isFail])
}
