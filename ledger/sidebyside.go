package ledger

import (
	"context"
	"iter"
	"sync"
)

// splitLevels is how many levels below the root the subtrees begin that are read side by side: a million keys
// are 256 subtrees of 4,000 keys then, of which as many are in memory as are read at a time, and as many more.
const splitLevels = 2

// A branching is a subtree that is still to be read, and where it is.
type branching struct {
	ref
	path  Digest
	depth int
}

// walkAll is walk from the root. Where the store is far away, subtrees are read side by side, and given to visit
// in their order.
func (r reader) walkAll(at ref, visit func([]item) bool) (more bool, err error) {
	workers := sideBySide(r.src)
	if workers == 1 || at.count <= maxLeaf {
		return r.walk(at, Digest{}, 0, visit)
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	r.ctx = ctx
	all := []branching{{at, Digest{}, 0}}
	for range splitLevels {
		var next []branching
		for below, err := range inParallel(all, workers, r.children) {
			if err != nil {
				return false, err
			}
			next = append(next, below...)
		}
		all = next
	}
	for leaves, err := range inParallel(all, workers, r.leaves) {
		if err != nil {
			return false, err
		}
		for _, items := range leaves {
			if !visit(items) {
				return false, nil
			}
		}
	}
	return true, nil
}

// children returns the subtrees below one, or the same one if it is a leaf.
func (r reader) children(b branching) ([]branching, error) {
	if b.count <= maxLeaf {
		return []branching{b}, nil
	}
	n, err := r.subtree(b.ref, b.path, b.depth)
	if err != nil {
		return nil, err
	}
	if n.inner == nil {
		return []branching{b}, nil
	}
	var all []branching
	for i, c := range n.inner {
		if c.count > 0 {
			all = append(all, branching{c, child(b.path, b.depth, i), b.depth + 1})
		}
	}
	return all, nil
}

// leaves returns the items of all leaves of a subtree.
func (r reader) leaves(b branching) (all [][]item, err error) {
	_, err = r.walk(b.ref, b.path, b.depth, func(items []item) bool {
		all = append(all, items)
		return true
	})
	return all, err
}

// inParallel calls do for all things, of which so many at a time, and yields the results in the order of the
// things. It runs no more than twice as many ahead of its caller, and ends when what it has begun has ended.
func inParallel[T, R any](things []T, workers int, do func(T) (R, error)) iter.Seq2[R, error] {
	type result struct {
		value R
		err   error
	}
	return func(yield func(R, error) bool) {
		results := make([]chan result, len(things))
		for i := range results {
			results[i] = make(chan result, 1)
		}
		todo, enough := make(chan int), make(chan struct{})
		ahead := make(chan struct{}, 2*workers)
		var all sync.WaitGroup
		defer all.Wait()
		defer close(enough)
		all.Go(func() {
			defer close(todo)
			for i := range things {
				select {
				case ahead <- struct{}{}:
				case <-enough:
					return
				}
				select {
				case todo <- i:
				case <-enough:
					return
				}
			}
		})
		for range min(workers, len(things)) {
			all.Go(func() {
				for i := range todo {
					value, err := do(things[i])
					results[i] <- result{value, err}
				}
			})
		}
		for _, r := range results {
			got := <-r
			<-ahead
			if !yield(got.value, got.err) {
				return
			}
		}
	}
}
