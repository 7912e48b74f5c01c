package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/hsmkeys/hsmkeys/ledger"
)

// Checkpoints of an operation over many keys: each records what was done until then.
const maxRecorded = 1000 // edits in one

var recordEvery = time.Second // at the latest; tests want more of them

// change is each for operations that change keys: do prepares the edit of a key, and its result is
// yielded once a checkpoint with the edit is recorded and pinned. If somebody else has changed a
// key meanwhile, do is called again for it.
func (k *Keyring) change(ctx context.Context, refs []Ref, do func(context.Context, Ref) Result) iter.Seq[Result] {
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
			for _, r := range k.recordResults(ctx, ready, do) {
				give(r)
			}
			ready, began = nil, time.Now()
		}
		for r := range each(ctx, refs, do) {
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
		if err := k.accept(context.WithoutCancel(ctx), onToken); err != nil {
			give(Result{Err: err})
		}
	}
}

// recordResults records the edits of results. One that lost a race for its key is prepared and
// recorded again.
func (k *Keyring) recordResults(ctx context.Context, ready []Result, do func(context.Context, Ref) Result) []Result {
	var done []Result
	for range maxRaces {
		all := make([]*recorded, len(ready))
		for i, r := range ready {
			all[i] = &recorded{edit: *r.edit, where: inFile} // and on the token in the end
		}
		k.recordMany(ctx, all)
		var stale []Result
		for i, r := range ready {
			switch err := all[i].err; {
			case err == nil:
				done = append(done, r)
			case !isStale(err) || ctx.Err() != nil:
				done = append(done, Result{Ref: r.Ref, Err: err})
			default:
				if err := k.forget(ctx, r); err != nil {
					done = append(done, Result{Ref: r.Ref, Err: err})
				} else if r = persist(ctx, r.Ref, do); r.edit == nil {
					done = append(done, r)
				} else {
					stale = append(stale, r)
				}
			}
		}
		if ready = stale; len(ready) == 0 {
			return done
		}
	}
	for _, r := range ready {
		done = append(done, Result{Ref: r.Ref, Err: errors.Join(fmt.Errorf("key %q: %w", r.Ref, ledger.ErrRace), k.forget(ctx, r))})
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
