package hsmkeys

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"

	"github.com/hsmkeys/hsmkeys/ledger"
)

// An intent is a change under way, of which two events are recorded: that it has begun, before
// anything is changed, and its outcome. One that fails before it has begun has one event. If nothing
// had to be changed, it has none. A nil intent records nothing.
type intent struct {
	recorder recorder
	ctx      context.Context // of the operation; it may have ended

	mu      sync.Mutex
	event   Event
	refused error // why the beginning could not be recorded
	isMade  bool  // whatever fails afterwards
	ended   bool
}

type intentKey struct{}

// intend returns an intent, and a context with it and with the use.
func (r recorder) intend(ctx context.Context, u Use, reason string) (context.Context, *intent) {
	ctx = WithUse(ctx, u.with(r.about))
	if r.record == nil {
		return ctx, nil
	}
	i := &intent{recorder: r, ctx: context.WithoutCancel(ctx), event: Event{Use: UseOf(ctx), Reason: reason}}
	return context.WithValue(ctx, intentKey{}, i), i
}

func intentOf(ctx context.Context) *intent {
	i, _ := ctx.Value(intentKey{}).(*intent)
	return i
}

// errNoIntent is the error for a change that would not be recorded, which is a mistake in this package.
var errNoIntent = errors.New("a change without an intent")

// begin records that a change is about to be made, unless it has done so before. Whatever changes
// something calls it first, and does nothing if it returns an error.
func (r recorder) begin(i *intent, u Use) error {
	switch {
	case r.record == nil:
		return nil
	case i == nil:
		return &Unrecorded{Err: errNoIntent}
	}
	return i.begin(u)
}

func (i *intent) begin(u Use) error {
	if i == nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.event.Change != "" || i.refused != nil {
		return i.refused
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	i.event.Use, i.event.Change, i.event.Outcome = i.event.Use.with(u), hex.EncodeToString(id[:]), OutcomeBegun
	if err := i.recorder.record(i.ctx, i.event); err != nil {
		i.refused = &Unrecorded{Err: err}
	}
	return i.refused
}

// made notes that the change is made, by a checkpoint. It does nothing if that has no number.
func (i *intent) made(at ledger.Point) {
	if i == nil || at.Number == 0 {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.event.Checkpoint, i.isMade = at, true
}

// about adds to the event what was not known before: a use, and the checkpoint that it is about.
func (i *intent) about(u Use, at ledger.Point) {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.event.Use, i.event.Checkpoint = i.event.Use.with(u), at
}

// end records the outcome. It returns err, and an [Unrecorded] if that fails.
func (i *intent) end(err error) error {
	if unrecorded := i.outcome(err, nil); unrecorded != nil {
		return errors.Join(err, unrecorded)
	}
	return err
}

// outcome records the outcome, once, and returns an [Unrecorded] if that fails. If err is nil, part
// is what failed of a change that was made in part.
func (i *intent) outcome(err, part error) error {
	if i == nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	begun := i.event.Change != ""
	if i.ended || i.refused != nil || !begun && err == nil {
		return nil
	}
	i.ended = true
	i.event.Outcome, i.event.Err = i.outcomeOf(err), cmp.Or(err, part)
	if failed := i.recorder.record(i.ctx, i.event); failed != nil {
		return &Unrecorded{Err: failed, Done: begun && i.event.Outcome != OutcomeFailed}
	}
	return nil
}

// outcomeOf returns the outcome of the change when it has ended with an error or nil.
func (i *intent) outcomeOf(err error) Outcome {
	switch {
	case err == nil, i.isMade:
		return OutcomeDone
	case errors.Is(err, ledger.ErrDoubt):
		return OutcomeUnknown
	}
	return OutcomeFailed
}

// changing calls do, which makes a change, and records it.
func (r recorder) changing(ctx context.Context, u Use, reason string, do func(context.Context, *intent) error) error {
	ctx, i := r.intend(ctx, u, reason)
	return i.end(do(ctx, i))
}

// RecordChange calls do, which changes something that is no keyring's, and records that with record: the
// intention before, and the outcome after. If record is nil it only calls do. The errors are those of
// do, and an [Unrecorded].
func RecordChange(ctx context.Context, record RecordFunc, u Use, reason string, do func(context.Context) error) error {
	return recorder{record: record}.changing(ctx, u, reason, func(ctx context.Context, i *intent) error {
		if err := i.begin(Use{}); err != nil {
			return err
		}
		return do(ctx)
	})
}

// refused records that a change failed before it had begun, and returns err.
func (r recorder) refused(ctx context.Context, u Use, reason string, err error) error {
	_, i := r.intend(ctx, u, reason)
	return i.end(err)
}

// announced is do with an intent for each call, which begins before the result is an edit that can be
// recorded, and ends if it is none.
func (k *Keyring) announced(op, reason string, do func(context.Context, Ref) Result) func(context.Context, Ref) Result {
	return func(ctx context.Context, ref Ref) Result {
		ctx, i := k.recorder.intend(ctx, Use{Operation: op, Key: ref.Name, Version: ref.Version}, reason)
		r := do(ctx, ref)
		if r.edit == nil {
			if err := i.end(r.Err); err != nil {
				return r.failed(err)
			}
			return r
		}
		if err := i.begin(Use{}); err != nil {
			return r.failed(errors.Join(err, k.forget(ctx, r)))
		}
		r.intent = i
		return r
	}
}

// endAll records the outcomes of changes, many at a time, so that they share the time of the disk.
func endAll(all []Result) {
	var running sync.WaitGroup
	free := make(chan struct{}, workers)
	for n := range all {
		r := &all[n]
		if r.intent == nil {
			continue
		}
		free <- struct{}{}
		running.Go(func() {
			defer func() { <-free }()
			err, part := r.Err, error(nil)
			if r.edit != nil { // it was recorded
				err, part = nil, r.Err
			}
			if unrecorded := r.intent.outcome(err, part); unrecorded != nil {
				*r = r.failed(errors.Join(r.Err, unrecorded))
			}
		})
	}
	running.Wait()
}
