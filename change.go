package hsmkeys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Checkpoints of an operation over many keys: each records what was done until then.
const maxRecorded = 10_000 // edits in one

// One checkpoint for all, unless it takes longer than this: a token that goes away cannot sign for what
// it has done until then, and a process that is killed has lost it. Tests want more of them.
var recordEvery = 10 * time.Second

// change is each for operations that change keys: do prepares the edit of a key, and its result is
// yielded once a checkpoint with the edit is recorded and pinned. If somebody else has changed a
// key meanwhile, do is called again for it. In the end the last checkpoint is pinned where it says.
// op and reason are for [Options.Record].
func (k *Keyring) change(ctx context.Context, op, reason string, refs []Ref, where pinPlaces, do func(context.Context, Ref) Result) iter.Seq[Result] {
	do = k.announced(op, reason, do)
	return func(yield func(Result) bool) {
		var ready []Result
		began := time.Now()
		more := true
		give := func(r Result) bool {
			if more {
				more = yield(r)
			}
			return more
		}
		flush := func() {
			done := k.recordResults(ctx, refs, ready, do)
			endAll(done)
			slices.SortStableFunc(done, func(a, b Result) int { return cmp.Compare(a.order, b.order) })
			for _, r := range done {
				give(r)
			}
			ready, began = nil, time.Now()
		}
		for r := range each(ctx, refs, k.counted(do)) {
			if r.edit == nil {
				if !give(r) {
					break
				}
				continue
			}
			if ready = append(ready, r); len(ready) >= maxRecorded || time.Since(began) >= recordEvery {
				flush()
			}
			if !more {
				break
			}
		}
		flush() // also when ctx has ended: what was done is not lost
		if err := k.accept(context.WithoutCancel(ctx), where); err != nil {
			give(Result{Err: err})
		}
	}
}

// counted is do, and reports the progress.
func (k *Keyring) counted(do func(context.Context, Ref) Result) func(context.Context, Ref) Result {
	if k.options.Progress == nil {
		return do
	}
	return func(ctx context.Context, ref Ref) Result {
		defer k.options.Progress()
		return do(ctx, ref)
	}
}

// recordResults records the edits of results. One that lost a race for its key is prepared and
// recorded again.
func (k *Keyring) recordResults(ctx context.Context, refs []Ref, ready []Result, do func(context.Context, Ref) Result) []Result {
	var done []Result
	ready = slices.DeleteFunc(ready, func(r Result) bool { // one that is not stored does not keep the others from being recorded
		if r.blob == nil {
			return false
		}
		err := k.storing.end(r.blob)
		if err != nil {
			done = append(done, r.failed(fmt.Errorf("key %q: %w", r.Ref, err)))
		}
		return err != nil
	})
	for range maxRaces {
		all := make([]*recorded, len(ready))
		for i, r := range ready {
			all[i] = &recorded{edit: *r.edit, where: inFile, intent: r.intent} // and on the token in the end
		}
		k.recordMany(ctx, all)
		var stale []Result
		for i, r := range ready {
			switch err := all[i].err; {
			case err == nil:
				if r.blob != nil {
					_ = k.storing.end(r.blob) // of one that was made again
				}
				done = append(done, r)
			case !isStale(err) || ctx.Err() != nil:
				done = append(done, r.failed(err))
			default:
				if err := errors.Join(k.forget(ctx, r), r.intent.outcome(err, nil)); err != nil {
					done = append(done, r.failed(err))
				} else if again := persist(ctx, refs[r.order], do); again.edit == nil {
					done = append(done, again.at(r.order))
				} else {
					stale = append(stale, again.at(r.order))
				}
			}
		}
		if ready = stale; len(ready) == 0 {
			return done
		}
	}
	for _, r := range ready {
		done = append(done, r.failed(errors.Join(fmt.Errorf("key %q: %w", r.Ref, ledger.ErrRace), k.forget(ctx, r))))
	}
	return done
}

// forget removes the blob of an edit that lost a race.
func (k *Keyring) forget(ctx context.Context, r Result) error {
	if r.blob == nil {
		return nil
	}
	return k.discard(ctx, r.blob)
}

// changeAll is change for operations of owners, with a reason.
func (k *Keyring) changeAll(ctx context.Context, op, doing, reason string, refs []Ref, where pinPlaces, do func(context.Context, Ref) (Result, error)) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		err := validReason(reason)
		if err == nil {
			err = k.refresh(ctx)
		}
		if err == nil {
			err = k.mustOwn(doing)
		}
		if err != nil {
			yield(Result{Err: k.recorder.refused(ctx, Use{Operation: op}, reason, err)})
			return
		}
		k.change(ctx, op, reason, refs, where, func(ctx context.Context, ref Ref) Result {
			r, err := do(ctx, ref)
			r.Err = err
			if r.Ref.Name == "" {
				r.Ref = ref
			}
			return r
		})(yield)
	}
}

func validReason(reason string) error {
	if reason == "" {
		return nil
	}
	if err := blob.ValidReason(reason); err != nil {
		return fmt.Errorf("the reason %w", err)
	}
	return nil
}
