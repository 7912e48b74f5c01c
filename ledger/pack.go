package ledger

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
)

// maxPack is the size limit of a pack and of a record, in bytes.
const maxPack = 16 << 20

// A Pack is an object of nodes, one after the other, at most 16 MiB. Nodes come after
// those that they refer to.
type Pack struct {
	ID   blob.PackID // the first 16 bytes of the SHA-256 of Data
	Data []byte
}

// A writer writes nodes into packs.
type writer struct {
	put     func(Pack) error
	buf     []byte        // the pack that is being written
	sealed  []blob.PackID // those before
	scratch []byte
}

// leaf writes a leaf.
func (w *writer) leaf(items []item) (ref, error) {
	for i := range items {
		if err := items[i].validate(); err != nil {
			return ref{}, named(items[i].Name, err)
		}
	}
	if err := w.room(); err != nil {
		return ref{}, err
	}
	for i := range items {
		items[i].Older.At = w.hint(items[i].older())
		items[i].pack = 0
	}
	return w.node(&node{items: items}, len(items)), nil
}

// inner writes an inner node, as a patch of a base if there is one and this is shorter.
func (w *writer) inner(children *[ways]ref, base *base) (ref, error) {
	if err := w.room(); err != nil {
		return ref{}, err
	}
	for i := range children {
		children[i].at = w.hint(children[i])
	}
	count := keys(children)
	if count > blob.MaxNumber {
		return ref{}, fmt.Errorf("more than %d keys", blob.MaxNumber)
	}
	n := &node{inner: children}
	digest := nodeDigest(appendInner(nil, children))
	if p := base.patchTo(children); p != nil {
		n = &node{patch: p}
	}
	r := w.node(n, int(count))
	r.digest = digest
	return r, nil
}

// block writes a block of older versions.
func (w *writer) block(bl *block) (ref, error) {
	if err := validateVersions(bl.versions); err != nil {
		return ref{}, err
	}
	if err := w.room(); err != nil {
		return ref{}, err
	}
	bl.before.at = w.hint(bl.before)
	return w.node(&node{block: bl}, bl.before.count+len(bl.versions)), nil
}

// hint returns the hint that a node in this pack has for another: one in the same pack has
// no PackID, as this is not known before the pack is full.
func (w *writer) hint(r ref) blob.Hint {
	switch {
	case r.pack > len(w.sealed):
		r.at.Pack = blob.PackID{}
	case r.pack > 0:
		r.at.Pack = w.sealed[r.pack-1]
	}
	return r.at
}

// room begins a new pack if this one may have no room for a node.
func (w *writer) room() error {
	if len(w.buf) > maxPack-maxNode {
		return w.seal()
	}
	return nil
}

// node appends a node whose hints are those of this pack.
func (w *writer) node(n *node, count int) ref {
	w.scratch = n.appendCanonical(w.scratch[:0])
	r := ref{digest: nodeDigest(w.scratch), count: count, pack: len(w.sealed) + 1}
	w.scratch = n.appendHints(w.scratch)
	r.at = blob.Hint{Offset: len(w.buf), Length: len(w.scratch)}
	w.buf = append(w.buf, w.scratch...)
	return r
}

// seal ends a pack.
func (w *writer) seal() error {
	if len(w.buf) == 0 {
		return nil
	}
	sum := sha256.Sum256(w.buf)
	p := Pack{blob.PackID(sum[:16]), w.buf}
	w.sealed = append(w.sealed, p.ID)
	w.buf = nil
	return w.put(p)
}

// finish ends the last pack, and returns the trie of a root.
func (w *writer) finish(root ref) (Trie, error) {
	if err := w.seal(); err != nil {
		return Trie{}, err
	}
	if root.count == 0 {
		return emptyTrie(), nil
	}
	return Trie{Root: root.digest, At: w.hint(root), Keys: root.count}, nil
}

// Repack writes all nodes of the trie anew: put is called with each pack as soon as it
// is full. The trie that it returns has the same root, in the last pack.
func (t Trie) Repack(ctx context.Context, src Source, put func(Pack) error) (Trie, error) {
	at, err := t.root()
	if err != nil {
		return Trie{}, err
	}
	c := copier{reader{ctx, src}, writer{put: put}}
	root, err := c.subtree(at, Digest{}, 0)
	if err != nil {
		return Trie{}, err
	}
	return c.w.finish(root)
}

// A copier reads nodes and writes them.
type copier struct {
	r reader
	w writer
}

func (c *copier) subtree(at ref, path Digest, depth int) (ref, error) {
	if at.count == 0 {
		return at, nil
	}
	n, err := c.r.subtree(at, path, depth)
	if err != nil {
		return ref{}, err
	}
	if n.inner == nil {
		return c.leaf(n.items)
	}
	for i := range n.inner {
		n.inner[i], err = c.subtree(n.inner[i], child(path, depth, i), depth+1)
		if err != nil {
			return ref{}, err
		}
	}
	return c.w.inner(n.inner, nil)
}

func (c *copier) leaf(items []item) (ref, error) {
	for i := range items {
		to, err := c.older(&items[i])
		if err != nil {
			return ref{}, named(items[i].Name, err)
		}
		items[i].Older.At, items[i].pack = to.at, to.pack
	}
	return c.w.leaf(items)
}

// older copies the blocks of older versions. They are read twice, as the oldest goes
// first, and there may be too many to keep.
func (c *copier) older(it *item) (ref, error) {
	type place struct {
		at    ref
		below int // a number that is higher than those in the block
	}
	var all []place
	at, lowest := it.older(), it.Versions[0].Number
	for at.count > 0 {
		bl, err := c.r.block(at, lowest)
		if err != nil {
			return ref{}, err
		}
		all = append(all, place{at, lowest})
		at, lowest = bl.before, bl.versions[0].Number
	}
	var to ref
	for i := len(all) - 1; i >= 0; i-- {
		bl, err := c.r.block(all[i].at, all[i].below)
		if err != nil {
			return ref{}, err
		}
		bl.before = to
		if to, err = c.w.block(bl); err != nil {
			return ref{}, err
		}
	}
	return to, nil
}
