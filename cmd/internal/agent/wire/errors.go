package wire

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/token"
)

var (
	// ErrLocked is the error of an agent that is locked: it is not logged in, and has no session keys.
	ErrLocked = errors.New("the agent is locked")
	// ErrNotAllowed is the error for what the agent does only if it was started with the permission.
	ErrNotAllowed = errors.New("the agent was not allowed to do this")
	// ErrPolicy is the error for a key that the policy does not allow the user.
	ErrPolicy = errors.New("the policy of the agent does not allow it")
	// ErrTooMany is the error for a client that has too many session keys open.
	ErrTooMany = errors.New("too many session keys are open")
)

// kinds are the errors that keep their identity on the way to the client, for [errors.Is].
var kinds = map[string]error{
	"locked": ErrLocked, "not-allowed": ErrNotAllowed, "policy": ErrPolicy, "too-many": ErrTooMany,
	"canceled": context.Canceled, "deadline": context.DeadlineExceeded, "unsupported": errors.ErrUnsupported,

	"module": token.ErrModule, "no-token": token.ErrNoToken, "ambiguous": token.ErrAmbiguous, "pin": token.ErrPIN, "pin-locked": token.ErrPINLocked,
	"final-try": token.ErrFinalTry, "no-pair": token.ErrNoPair, "taken": token.ErrTaken, "planted": token.ErrPlanted, "unsafe": token.ErrUnsafe,
	"wrapped": token.ErrWrapped, "lost": token.ErrLost, "closed": token.ErrClosed, "residence": token.ErrResidence,
	"pin-needed": token.ErrPINNeeded, "key-lost": token.ErrKeyLost, "opens-no-key": token.ErrOpensNoKey, "read-back": token.ErrReadBack,
	"no-cipher": token.ErrNoCipher, "keeps-no-keys": token.ErrKeepsNoKeys, "may-not-sign": token.ErrMayNotSign, "legacy-pair": token.ErrLegacyPair,

	"integrity": blob.ErrIntegrity, "not-found": blob.ErrNotFound, "name": blob.ErrName, "unavailable": blob.ErrUnavailable,
	"purpose": hsmkeys.ErrPurpose, "stale": hsmkeys.ErrStale, "asks-password": hsmkeys.ErrAsksPassword,
}

// MarshalError returns an error as the text of DRPC's error.
func MarshalError(err error, hint string) error {
	m := &Error{Text: []byte(err.Error()), Hint: []byte(hint), ReturnValue: token.ReturnValue(err)}
	for name, kind := range kinds {
		if errors.Is(err, kind) {
			m.Kinds = append(m.Kinds, name)
		}
	}
	if e := (*token.Error)(nil); errors.As(err, &e) {
		m.OfToken, m.Op, m.Token = true, []byte(e.Op), []byte(e.Token)
	}
	encoded, _ := proto.Marshal(m) // no text in it is anything but ASCII
	return errors.New(string(encoded))
}

// UnmarshalError returns the error of the other end.
func UnmarshalError(text string) (*RemoteError, bool) {
	var m Error
	if err := proto.Unmarshal([]byte(text), &m); err != nil || len(m.Text) == 0 {
		return nil, false
	}
	e := &RemoteError{text: string(m.Text), hint: string(m.Hint), returnValue: m.ReturnValue}
	for _, name := range m.Kinds {
		if kind := kinds[name]; kind != nil {
			e.is = append(e.is, kind)
		}
	}
	if m.OfToken {
		e.is = append(e.is, &token.Error{Op: string(m.Op), Token: string(m.Token)})
	}
	return e, true
}

// A RemoteError is an error that happened in the agent.
type RemoteError struct {
	text, hint  string
	returnValue string
	is          []error
}

// Error returns the text of the error as it was in the agent.
func (e *RemoteError) Error() string { return e.text }

// Hint returns what to do about it, or "".
func (e *RemoteError) Hint() string { return e.hint }

// ReturnValue returns the name of the PKCS #11 return value behind it, or "", for [token.ReturnValue].
func (e *RemoteError) ReturnValue() string { return e.returnValue }

// Unwrap returns the kinds of the error, and a [*token.Error] if it was one.
func (e *RemoteError) Unwrap() []error { return e.is }
