package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// OutdatedPacks returns the packs that none of the last keep checkpoints needs, nor any later
// one, and that are still in the store. They are to be deleted in this order: whatever is
// left then when that is interrupted is found again.
//
// Only packs that an older checkpoint of the chain reaches are among them: others may be
// those of a writer at work, or of a fork. Readers of the older checkpoints, and writers
// that have checked no later one, get an [ErrCompacted] once the packs are deleted.
func (l *Ledger) OutdatedPacks(ctx context.Context, keep int) ([]blob.PackID, error) {
	if keep < 1 {
		return nil, fmt.Errorf("keep the last %d checkpoints", keep)
	}
	chain, err := l.tries(ctx)
	if err != nil {
		return nil, err
	}
	kept, older := chain[:min(keep, len(chain))], chain[min(keep, len(chain)):]
	needed := newPackWalk(ctx, l.source)
	for _, t := range kept { // the newest first, which has to be whole
		if err := needed.trie(t); err != nil {
			return nil, err
		}
		needed.lenient = true // an earlier call that kept fewer has deleted parts of the others
	}
	// The nodes that the kept tries have are not visited again. What an earlier call has
	// deleted, or a disk has lost, nothing that is kept needs. The oldest goes first, as
	// later nodes are patches of earlier ones.
	outdated := newPackWalk(ctx, l.source)
	outdated.visited, outdated.lenient = needed.visited, true
	for _, t := range slices.Backward(older) {
		if err := outdated.trie(t); err != nil {
			return nil, err
		}
	}
	packs := slices.DeleteFunc(outdated.order, func(id blob.PackID) bool { return needed.packs[id] })
	slices.Reverse(packs) // each was found through those before it
	return packs, nil
}

// tries returns the tries of all checkpoints up to the head, the newest first.
func (l *Ledger) tries(ctx context.Context) ([]Trie, error) {
	r := newObjects(l.store)
	all := []Trie{l.Trie()}
	for s := l.head; s.Number > 1; {
		next, err := r.checkpoint(ctx, s.previous())
		if err != nil {
			return nil, missing(err)
		}
		s = next
		all = append(all, s.trie())
	}
	return all, nil
}

// A packWalk collects the packs in which the nodes of tries lie. Tries share nodes, each of
// which is visited once in each place where a copy of it lies.
type packWalk struct {
	r       reader
	visited map[blob.Hint]bool
	packs   map[blob.PackID]bool
	order   []blob.PackID // as they were found
	lenient bool          // pass over nodes that are not there
}

func newPackWalk(ctx context.Context, src Source) *packWalk {
	return &packWalk{r: reader{ctx, src}, visited: map[blob.Hint]bool{}, packs: map[blob.PackID]bool{}}
}

func (w *packWalk) trie(t Trie) error {
	at, err := t.root()
	if err != nil {
		return err
	}
	return w.subtree(at, Digest{}, 0)
}

// found notes a node that was read, or reports why it was not.
func (w *packWalk) found(at blob.Hint, err error) (there bool, _ error) {
	if w.visited[at] = true; err != nil {
		if w.lenient && (errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrIntegrity)) {
			err = nil
		}
		return false, err
	}
	w.pack(at.Pack)
	return true, nil
}

func (w *packWalk) pack(id blob.PackID) {
	if !w.packs[id] {
		w.packs[id] = true
		w.order = append(w.order, id)
	}
}

func (w *packWalk) subtree(at ref, path Digest, depth int) error {
	if at.count == 0 || w.visited[at.at] {
		return nil
	}
	n, err := w.r.subtree(at, path, depth)
	if there, err := w.found(at.at, err); !there {
		return err
	}
	for i := range n.items {
		if err := w.older(&n.items[i]); err != nil {
			return named(n.items[i].Name, err)
		}
	}
	if n.inner == nil {
		return nil
	}
	w.pack(n.base.at.Pack) // a patch needs the node that it is of, though not what that refers to
	for i, c := range n.inner {
		if err := w.subtree(c, child(path, depth, i), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// older visits the blocks of older versions.
func (w *packWalk) older(it *item) error {
	at, lowest := it.older(), it.Versions[0].Number
	for at.count > 0 && !w.visited[at.at] {
		bl, err := w.r.block(at, lowest)
		if there, err := w.found(at.at, err); !there {
			return err
		}
		at, lowest = bl.before, bl.versions[0].Number
	}
	return nil
}
