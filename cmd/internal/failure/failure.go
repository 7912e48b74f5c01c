// Package failure has the kinds of errors that the command line distinguishes, and the exit status
// of each.
package failure

import (
	"errors"
	"fmt"
	"os/exec"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/token"
)

// Exit statuses.
const (
	StatusFailed    = 1
	StatusUsage     = 2
	StatusIntegrity = 3 // a signature, a digest or a name did not hold, or the state is not the newest
	StatusNotFound  = 4
	StatusToken     = 5 // token, module, PIN or password
)

// Status returns the exit status for an error. Integrity goes first: whatever else is wrong, a
// script must not overlook this.
func Status(err error) int {
	if ended := (*commandError)(nil); errors.As(err, &ended) {
		return ended.status
	}
	switch {
	case errors.Is(err, blob.ErrIntegrity), errors.Is(err, hsmkeys.ErrStale), errors.Is(err, token.ErrPlanted), errors.Is(err, token.ErrWrapped):
		return StatusIntegrity
	case errors.As(err, new(*secretError)): // before usage: the command line could have named a source
		return StatusToken
	case errors.As(err, new(*usageError)), errors.Is(err, blob.ErrName), errors.Is(err, hsmkeys.ErrDetails), errors.Is(err, token.ErrURI),
		errors.As(err, new(interface{ ExitCode() int })) && !errors.As(err, new(*exec.ExitError)): // package cli's own, for help with a command that does not exist
		return StatusUsage
	case errors.Is(err, blob.ErrNotFound) && !errors.As(err, new(*findingError)):
		return StatusNotFound
	case errors.Is(err, token.ErrTaken): // nothing is wrong with the token
		return StatusFailed
	case errors.As(err, new(*token.Error)), errors.Is(err, token.ErrModule), errors.Is(err, hsmkeys.ErrSigningKey), errors.Is(err, hsmkeys.ErrPassword):
		return StatusToken
	default:
		return StatusFailed
	}
}

var (
	// ErrNoStore means that there is no store in the directory.
	ErrNoStore = errors.New("there is no store")
	// ErrInterrupted is reported when a signal ends the program.
	ErrInterrupted = errors.New("interrupted")
	// ErrReported marks an error whose parts have been printed.
	ErrReported = errors.New("some keys failed")
)

// NotFound returns an error for something other than a key that does not exist.
func NotFound(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, blob.ErrNotFound)...)
}

// Secret wraps the reason why a PIN or a password could not be had.
func Secret(err error) error { return &secretError{err} }

type secretError struct{ err error }

func (e *secretError) Error() string { return e.err.Error() }
func (e *secretError) Unwrap() error { return e.err }

// Command returns an [ErrReported] for a command that this program has run, and that ended with an exit
// status, which becomes that of this program.
func Command(status int) error { return &commandError{status} }

type commandError struct{ status int }

func (e *commandError) Error() string {
	return fmt.Sprintf("the command ended with status %d", e.status)
}
func (e *commandError) Unwrap() error { return ErrReported }

// Detected wraps what a check was looking for. Its status is never that of something that the
// user named and that does not exist.
func Detected(err error) error { return &findingError{err} }

type findingError struct{ err error }

func (e *findingError) Error() string { return e.err.Error() }
func (e *findingError) Unwrap() error { return e.err }

// WithHint adds what to do about an error.
func WithHint(err error, hint string) error { return &hintedError{err, hint} }

type hintedError struct {
	error
	hint string
}

func (e *hintedError) Unwrap() error { return e.error }
func (e *hintedError) Hint() string  { return e.hint }
