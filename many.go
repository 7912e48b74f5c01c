package hsmkeys

import (
	"context"
	"errors"
	"iter"
	"maps"
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

	blob *blob.Blob
}

// workers is how many keys are worked on at a time: enough to keep the token busy
// while the disk syncs.
const workers = 16

// lostTries is how often a key is begun when the token goes away under it.
const lostTries = 3

// Versions names every version of the keys, or of all keys of the keyring. Files
// are under old versions too, so what is done to all keys is done to all versions.
func (k *Keyring) Versions(ctx context.Context, names ...string) ([]Ref, error) {
	keys := map[string]revisions{}
	for _, name := range names {
		found, err := k.find(ctx, name)
		if err != nil {
			return nil, err
		}
		keys[name] = found
	}
	if len(names) == 0 {
		var err error
		if keys, err = k.all(ctx); err != nil {
			return nil, err
		}
	}
	var refs []Ref
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		for _, at := range keys[name] {
			if ref := (Ref{name, at.version}); len(refs) == 0 || refs[len(refs)-1] != ref {
				refs = append(refs, ref)
			}
		}
	}
	return refs, nil
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
