package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unicode"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/hint"
	"github.com/hsmkeys/hsmkeys/token"
)

// Exit statuses.
const (
	statusFailed    = 1
	statusUsage     = 2
	statusIntegrity = 3 // a signature, a digest or a name did not hold, or the state is not the newest
	statusNotFound  = 4
	statusToken     = 5 // token, module, PIN or password
)

// secretError is for a PIN or a password that could not be had, for whatever reason.
type secretError struct{ err error }

func (e *secretError) Error() string { return e.err.Error() }

func (e *secretError) Unwrap() error { return e.err }

// status is the exit status for an error. Integrity goes first: whatever else is
// wrong, this is what a script must not overlook.
func status(err error) int {
	switch {
	case errors.Is(err, blob.ErrIntegrity), errors.Is(err, hsmkeys.ErrStale), errors.Is(err, token.ErrPlanted), errors.Is(err, token.ErrWrapped):
		return statusIntegrity
	case errors.As(err, new(*secretError)): // also where the command line could have named a source
		return statusToken
	case errors.As(err, new(*usageError)), errors.Is(err, blob.ErrName), errors.Is(err, token.ErrURI),
		errors.As(err, new(cli.ExitCoder)): // of the cli package's own: help for a command that is not there
		return statusUsage
	case errors.Is(err, blob.ErrNotFound) && !errors.As(err, new(*rehearsalError)):
		return statusNotFound
	case errors.Is(err, token.ErrTaken): // nothing is wrong with the token
		return statusFailed
	case errors.As(err, new(*token.Error)), errors.Is(err, token.ErrModule), errors.Is(err, hsmkeys.ErrSigningKey), errors.Is(err, hsmkeys.ErrPassword):
		return statusToken
	default:
		return statusFailed
	}
}

// report prints an error in one line, and a hint where there is one.
func report(ctx context.Context, err error) int {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		say(errInterrupted)
		return statusFailed
	}
	if errors.Is(err, syscall.EPIPE) {
		endOnBrokenPipe()
	}
	if errors.Is(err, errReported) {
		return status(err)
	}
	say(err)
	return status(err)
}

// asJSONLines has errors, warnings and notes printed as JSON, under --json: one document a
// line.
var asJSONLines bool

// messageJSON is a line of stderr for programs; one of the first three is not empty. Its
// form is stable.
type messageJSON struct {
	Error   string `json:"error,omitempty"`
	Warning string `json:"warning,omitempty"`
	Note    string `json:"note,omitempty"`
	Hint    string `json:"hint,omitempty"`
	Status  int    `json:"status,omitempty"` // the exit status that an error stands for
}

func (m messageJSON) print() {
	e := json.NewEncoder(os.Stderr)
	e.SetEscapeHTML(false)
	_ = e.Encode(m) // there is nobody left to tell
}

// say prints an error and its hint.
func say(err error) {
	text, hint := oneLine(err.Error()), oneLine(hintFor(err))
	if asJSONLines {
		messageJSON{Error: text, Hint: hint, Status: status(err)}.print()
		return
	}
	fmt.Fprintln(os.Stderr, paint(os.Stderr, red, "hsmkeys:")+" "+text)
	if hint != "" {
		fmt.Fprintln(os.Stderr, "hint: "+hint)
	}
}

// talk is where notes and warnings go: to stderr, and from the plugin of age to age,
// which shows no stderr.
var talk = func(line string) {
	rest, warning := strings.CutPrefix(line, "warning:")
	switch {
	case asJSONLines && warning:
		messageJSON{Warning: strings.TrimSpace(rest)}.print()
		return
	case asJSONLines:
		messageJSON{Note: strings.TrimSpace(strings.TrimPrefix(line, "note:"))}.print()
		return
	case warning:
		line = paint(os.Stderr, yellow, "warning:") + rest
	}
	fmt.Fprintln(os.Stderr, "hsmkeys: "+line)
}

// note tells something that is no failure.
func note(format string, args ...any) {
	talk("note: " + oneLine(fmt.Sprintf(format, args...)))
}

// warn tells of something that failed and does not stop the rest.
func warn(err error) {
	talk("warning: " + oneLine(err.Error()))
}

// errNoStore is for a store that has never been founded.
var errNoStore = errors.New("there is no store")

var errInterrupted = errors.New("interrupted")

// errReported marks an error whose parts have been printed.
var errReported = errors.New("some keys failed")

func hintFor(err error) string {
	if text := hint.For(err); text != "" {
		return text
	}
	if errors.Is(err, errNoStore) {
		return "hsmkeys init makes a store and founds a keyring in it; is this the right --store?"
	}
	return ""
}

// oneLine keeps an error on one line, and the terminal safe from what it quotes.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) { // also what turns the direction of text
			return '?'
		}
		return r
	}, strings.TrimSpace(s))
}

// notFound is for things other than keys that are not there.
func notFound(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, blob.ErrNotFound)...)
}
