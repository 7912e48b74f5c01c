package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A reader reads nodes from a source and checks them.
type reader struct {
	ctx context.Context
	src Source
}

// read reads one node.
func (r reader) read(at ref) (*node, error) {
	n, err := r.tryRead(at)
	if errors.Is(err, blob.ErrIntegrity) {
		forget(r.src)
	}
	if err != nil {
		return nil, fmt.Errorf("node %x: %w", at.digest[:4], err)
	}
	return n, nil
}

func (r reader) tryRead(at ref) (*node, error) {
	n, digest, err := r.stored(at)
	if err != nil {
		return nil, err
	}
	if n.patch != nil {
		if n, digest, err = r.patched(n.patch); err != nil {
			return nil, err
		}
	} else if n.inner != nil {
		n.base = &base{at, n.inner}
	}
	if digest != at.digest {
		return nil, errOtherDigest
	}
	return n, nil
}

var errOtherDigest = fmt.Errorf("node has another digest: %w", blob.ErrMisplaced)

// stored reads a node in its stored form, and returns the digest that it has if this is not
// a patch. Hints for the node's own pack name it.
func (r reader) stored(at ref) (*node, Digest, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, Digest{}, err
	}
	if h := at.at; h.Offset < 0 || h.Length < 1 || h.Length > maxNode || h.Offset > maxPack-h.Length {
		return nil, Digest{}, malformed("hint at %d, %d bytes", h.Offset, h.Length)
	}
	raw, err := r.src.Node(r.ctx, at.digest, at.at)
	if err != nil {
		return nil, Digest{}, err
	}
	n, covered, err := parseNode(raw)
	if err != nil {
		return nil, Digest{}, err
	}
	n.refs(func(h *blob.Hint) {
		if h.Pack == (blob.PackID{}) {
			h.Pack = at.at.Pack
		}
	})
	return n, nodeDigest(raw[:covered]), nil
}

// patched reads the node that a patch is of, and returns the inner node that the patch makes
// of it, and its digest.
func (r reader) patched(p *patch) (*node, Digest, error) {
	whole, digest, err := r.stored(p.base)
	if err != nil {
		return nil, Digest{}, fmt.Errorf("patched node %x: %w", p.base.digest[:4], err)
	}
	if whole.inner == nil || digest != p.base.digest {
		return nil, Digest{}, fmt.Errorf("patched node %x: %w", p.base.digest[:4], errOtherDigest)
	}
	n := &node{inner: p.apply(*whole.inner), base: &base{p.base, whole.inner}}
	return n, nodeDigest(appendInner(nil, n.inner)), nil
}

// subtree reads the node of a subtree, a leaf or an inner node, and checks that it belongs
// under a path and has as many keys as its parent says.
func (r reader) subtree(at ref, path Digest, depth int) (*node, error) {
	n, err := r.read(at)
	if err == nil {
		err = n.belongs(at.count, path, depth)
	}
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return n, nil
}

func (n *node) belongs(count int, path Digest, depth int) error {
	there := int64(len(n.items))
	if n.inner != nil {
		if depth >= maxDepth {
			return malformed("inner node below the end of a path")
		}
		if there = keys(n.inner); there <= maxLeaf {
			return malformed("inner node of %d keys", there)
		}
	}
	if n.block != nil || there != int64(count) {
		return malformed("node of %d keys, not %d", there, count)
	}
	for i := range n.items {
		if !below(&n.items[i].path, &path, depth) {
			return fmt.Errorf("%q in a subtree of other names: %w", n.items[i].Name, blob.ErrMisplaced)
		}
	}
	return nil
}

// block reads a block of older versions, which all are below a number.
func (r reader) block(at ref, number int) (*block, error) {
	n, err := r.read(at)
	if err != nil {
		return nil, fmt.Errorf("older versions: %w", err)
	}
	if n.block == nil || n.block.before.count+len(n.block.versions) != at.count {
		return nil, malformed("node is not one of %d older versions", at.count)
	}
	if last := n.block.versions[len(n.block.versions)-1].Number; last >= number {
		return nil, malformed("version %d before %d", last, number)
	}
	if first := n.block.versions[0].Number; n.block.before.count > 0 && first <= n.block.before.count {
		return nil, malformed("version %d after %d others", first, n.block.before.count)
	}
	return n.block, nil
}

// walk visits the items of all leaves of a subtree, in the order of paths, until visit
// returns false.
func (r reader) walk(at ref, path Digest, depth int, visit func([]item) bool) (more bool, err error) {
	if at.count == 0 {
		return true, nil
	}
	n, err := r.subtree(at, path, depth)
	if err != nil {
		return false, err
	}
	if n.inner == nil {
		return visit(n.items), nil
	}
	for i, c := range n.inner {
		if more, err := r.walk(c, child(path, depth, i), depth+1, visit); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}
