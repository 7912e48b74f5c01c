package ledger

import (
	"context"
	"iter"
	"sync"
)

// splitLevels is the depth of the subtrees that are read concurrently. A million keys make 256 subtrees of about 4,000
// keys; at most twice as many subtrees as there are workers are in memory.
const splitLevels = 2

// A branching is a subtree to be read, with its path and depth.
type branching struct {
	ref
	path  Digest
	depth int
}

// walkAll is walk from the root. In a remote store it reads subtrees concurrently, and calls visit in order.
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
			cancel() // the others need not end before
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

// children returns the subtrees directly below b, or b itself if it is a leaf.
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

// leaves returns the items of all leaves in a subtree.
func (r reader) leaves(b branching) (all [][]item, err error) {
	_, err = r.walk(b.ref, b.path, b.depth, func(items []item) bool {
		all = append(all, items)
		return true
	})
	return all, err
}

// inParallel calls do for each thing, in the given number of goroutines, and yields the results in order. It reads at
// most twice that number of results ahead of the consumer. When the consumer stops, it waits for running calls.
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
