package hsmkeys

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// workers is how many keys are processed at a time: enough to keep the token busy while the disk
// syncs.
const workers = 32

// lostTries is how often an operation on a key is tried when the token goes away.
const lostTries = 3

// inOrder calls do for each thing, on every processor, and yields the results in the order of the
// things. It runs a bounded number of things ahead of its caller. When ctx ends, nothing more is
// begun, and the last call of do gets its error.
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

// each calls do for many keys at a time, and yields the results as they come. A failure does not
// stop the others. When ctx ends or the caller stops, what is under way is finished and nothing
// more is begun.
func each(ctx context.Context, refs []Ref, do func(context.Context, Ref) Result) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		todo, results := make(chan int), make(chan Result)
		enough := make(chan struct{})
		go func() {
			defer close(todo)
			for i := range refs {
				select {
				case todo <- i:
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
				for i := range todo {
					r := persist(ctx, refs[i], do)
					r.order = i
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

// persist calls do for one key, and again if the token went away: it may be back at the next call,
// and every operation on a key can be repeated.
func persist(ctx context.Context, ref Ref, do func(context.Context, Ref) Result) Result {
	r := do(ctx, ref)
	for try := 1; try < lostTries && errors.Is(r.Err, keyspec.ErrLost) && ctx.Err() == nil; try++ {
		r = do(ctx, ref)
	}
	return r
}
