package hsmkeys

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// An Outcome is what an [Event] says of a use or a change.
type Outcome string

const (
	OutcomeBegun   Outcome = "begun"   // of a change: it is about to be made
	OutcomeDone    Outcome = "done"    // it was done
	OutcomeFailed  Outcome = "failed"  // it was not done
	OutcomeUnknown Outcome = "unknown" // of a change: the storage did not answer, and it may have been made
)

// An Event is a use of a key or a change, for [Options.Record].
type Event struct {
	Use
	Outcome Outcome

	// Change is random, 16 bytes in hexadecimal, and the same in both events of a change: that it
	// has begun, and its outcome. It is empty for a use, and for a change that failed before it
	// had begun.
	Change string
	// Reason is the reason that was given for the change.
	Reason string
	// Checkpoint is the one by which the change was made; zero for a use, and where it is not known.
	Checkpoint ledger.Point
	// Err is why it failed. It may also be what failed after a change was done.
	Err error
}

// A RecordFunc records an event, see [Options.Record].
type RecordFunc func(context.Context, Event) error

// Unrecorded is the error for a use or a change that [Options.Record] did not record.
type Unrecorded struct {
	Err error // that Record returned

	// Done is set if a change was made, and its outcome could not be recorded. Otherwise nothing
	// was changed, and the result of the use was overwritten.
	Done bool
}

func (f *Unrecorded) Error() string {
	if f.Done {
		return fmt.Sprintf("it is done, and that could not be recorded: %v", f.Err)
	}
	return fmt.Sprintf("nothing is done that cannot be recorded: %v", f.Err)
}

// Unwrap returns the error that Record returned.
func (f *Unrecorded) Unwrap() error { return f.Err }

// A recorder records the uses and changes of a keyring, or of a pair without one. Without a function
// it does nothing.
type recorder struct {
	record RecordFunc
	about  Use // keyring and pair
}

// recorderOf returns the recorder for a keyring that is not open yet.
func recorderOf(o Options) recorder { return newRecorder(o.Record, o.Pair) }

// newRecorder returns a recorder for a pair, or for none if it is nil.
func newRecorder(record RecordFunc, pair interface{ Public() crypto.PublicKey }) recorder {
	r := recorder{record: record}
	if pair != nil {
		if id, err := blob.PublicKeyID(pair.Public()); err == nil {
			r.about.Pair = hex.EncodeToString(id)
		}
	}
	return r
}

// RecordUse records the use in ctx with record: that it was done, or the error for which it was not. It
// returns that error, and an [Unrecorded] if that fails. If record is nil it does nothing.
func RecordUse(ctx context.Context, record RecordFunc, err error) error {
	return recorder{record: record}.used(ctx, err)
}

// used records the use in ctx when the token is done with it. It returns err, and an [Unrecorded] if
// that fails: if the result is not nil, the caller must not release what the use has returned.
func (r recorder) used(ctx context.Context, err error) error { return r.usedAs(ctx, err, err) }

// usedAs is used, and records another error than err, which may contain what is not to be recorded.
func (r recorder) usedAs(ctx context.Context, err, recorded error) error {
	if r.record == nil {
		return err
	}
	e := Event{Use: UseOf(ctx).with(r.about), Outcome: OutcomeDone}
	if recorded != nil {
		e.Outcome, e.Err = OutcomeFailed, recorded
	}
	if failed := r.record(context.WithoutCancel(ctx), e); failed != nil {
		return errors.Join(err, &Unrecorded{Err: failed})
	}
	return err
}
