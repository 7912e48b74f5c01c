package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Result is what became of one version of a key in an operation over many.
type Result struct {
	Ref   Ref
	Entry Entry // as it is now; empty when Err is not nil
	Done  bool  // something was done; false when nothing had to be
	Err   error

	// Unproven are the holders of what was done who alone can tell whether it opens, see
	// [Keyring.Unproven].
	Unproven []Holder

	blob *blob.Blob   // that was made, or looked at
	edit *ledger.Edit // that is to be recorded before the result is true

	merged *Merged // what a merge does
}

// workers is how many keys are worked on at a time: enough to keep the token busy
// while the disk syncs.
const workers = 32

// lostTries is how often a key is begun when the token goes away under it.
const lostTries = 3

// Versions names every version of the keys, or of all keys of the keyring, but for those
// that were destroyed. Files are under old versions too, so what is done to all keys is done
// to all versions.
func (k *Keyring) Versions(ctx context.Context, names ...string) ([]Ref, error) {
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	var refs []Ref
	add := func(e ledger.Entry) error {
		versions, err := k.chosen(ctx, e, true)
		for _, v := range versions {
			if v.Status != ledger.Destroyed {
				refs = append(refs, Ref{e.Name, v.Number})
			}
		}
		return err
	}
	names = slices.Clone(names)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		e, err := k.entryNamed(ctx, name)
		if err == nil {
			err = add(e)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(names) > 0 {
		return refs, nil
	}
	for e, err := range k.view().Entries(ctx, "") {
		if err == nil {
			err = add(e)
		}
		if err != nil {
			return nil, err
		}
	}
	return refs, nil
}

// inOrder does something to what comes, on every processor, and gives the results in the
// order in which it came. Only so much is ahead of who takes them that nobody waits. When
// ctx ends nothing more is begun, and its error is the last thing that is done.
func inOrder[T, R any](ctx context.Context, things iter.Seq2[T, error], do func(T, error) R) iter.Seq[R] {
	return func(yield func(R) bool) {
		workers := 2 * runtime.GOMAXPROCS(0) // while one reads, another computes
		type job struct {
			thing  T
			err    error
			result chan R
		}
		todo, results := make(chan job, 4*workers), make(chan chan R, 8*workers)
		enough := make(chan struct{})
		var all sync.WaitGroup
		defer all.Wait() // what is under way is about a store that its caller may close next
		defer close(enough)
		all.Go(func() {
			defer close(results)
			defer close(todo)
			hand := func(thing T, err error) bool {
				j := job{thing, err, make(chan R, 1)}
				select {
				case results <- j.result:
				case <-enough:
					return false
				}
				select {
				case todo <- j:
				case <-enough:
					return false
				}
				return true
			}
			for thing, err := range things {
				if ctx.Err() != nil {
					var none T
					hand(none, ctx.Err())
					return
				}
				if !hand(thing, err) {
					return
				}
			}
		})
		for range workers {
			all.Go(func() {
				for j := range todo {
					select {
					case <-enough:
						return
					default:
						j.result <- do(j.thing, j.err)
					}
				}
			})
		}
		for result := range results {
			if !yield(<-result) {
				return
			}
		}
	}
}

// each does something to many keys, side by side, and yields the results as they
// come. What fails does not stop the rest. When ctx ends or the caller has enough,
// what is under way is finished and nothing more is begun.
func each(ctx context.Context, refs []Ref, do func(context.Context, Ref) Result) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		todo, results := make(chan Ref), make(chan Result)
		enough := make(chan struct{})
		go func() {
			defer close(todo)
			for _, ref := range refs {
				select {
				case todo <- ref:
				case <-enough:
					return
				case <-ctx.Done():
					return
				}
			}
		}()
		var all sync.WaitGroup
		for range min(workers, len(refs)) {
			all.Go(func() {
				for ref := range todo {
					results <- persist(ctx, ref, do)
				}
			})
		}
		go func() { all.Wait(); close(results) }()
		more := true
		for r := range results {
			if more && !yield(r) {
				more = false
				close(enough)
			}
		}
		if err := ctx.Err(); err != nil && more {
			yield(Result{Err: err})
		}
	}
}

// persist does something to one key, again where its token went away: it may be back with
// the next call, and what is done to a key can be begun again at any time.
func persist(ctx context.Context, ref Ref, do func(context.Context, Ref) Result) Result {
	r := do(ctx, ref)
	for try := 1; try < lostTries && errors.Is(r.Err, keyspec.ErrLost) && ctx.Err() == nil; try++ {
		r = do(ctx, ref)
	}
	return r
}

// Checkpoints of an operation over many keys: each records what was done until then.
const maxRecorded = 1000 // edits in one

var recordEvery = time.Second // at the latest; tests want more of them

// change is each for what changes keys: do prepares the edit of a key, and its result is
// yielded once a checkpoint with it is recorded and pinned. A key that somebody else has
// changed meanwhile is done again.
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

// recordResults records the edits of results. Where one lost a race for its key, it is
// prepared and recorded again.
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
