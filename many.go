package hsmkeys

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"slices"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/token"
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

	blob *blob.Blob
}

// workers is how many keys are worked on at a time: enough to keep the token busy
// while the disk syncs.
const workers = 32

// lostTries is how often a key is begun when the token goes away under it.
const lostTries = 3

// Versions names every version of the keys, or of all keys of the keyring. Files
// are under old versions too, so what is done to all keys is done to all versions. A key
// that cannot be listed is named without a version, so that who comes to it meets the error.
func (k *Keyring) Versions(ctx context.Context, names ...string) ([]Ref, error) {
	var refs []Ref
	add := func(name string, all revisions) {
		for i, at := range all {
			if i == 0 || all[i-1].version != at.version {
				refs = append(refs, Ref{name, at.version})
			}
		}
	}
	names = slices.Clone(names)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		found, err := k.find(ctx, name)
		if err != nil {
			return nil, err
		}
		add(name, found)
	}
	if len(names) > 0 {
		return refs, nil
	}
	for key, err := range k.keys(ctx) {
		switch {
		case err == nil:
			add(key.name, key.all)
		case key.name != "":
			refs = append(refs, Ref{Name: key.name})
		default:
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

// each does something to many keys, side by side, and gives the results as they
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
					r := do(ctx, ref)
					// A token that went away may be back with the next call, and what
					// is done to a key can be begun again at any time.
					for try := 1; try < lostTries && errors.Is(r.Err, token.ErrLost) && ctx.Err() == nil; try++ {
						r = do(ctx, ref)
					}
					results <- r
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
