package ledger

import (
	"context"
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
	if err != nil {
		return nil, fmt.Errorf("node %x: %w", at.digest[:4], err)
	}
	return n, nil
}

func (r reader) tryRead(at ref) (*node, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	if h := at.at; h.Offset < 0 || h.Length < 1 || h.Length > MaxNode || h.Offset > maxPack-h.Length {
		return nil, malformed("hint at %d, %d bytes", h.Offset, h.Length)
	}
	raw, err := r.src.Node(r.ctx, at.digest, at.at)
	if err != nil {
		return nil, err
	}
	return checkNode(raw, at)
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
	there := len(n.items)
	if n.inner != nil {
		if depth >= maxDepth {
			return malformed("inner node below the end of a path")
		}
		for i := range n.inner {
			there += n.inner[i].count
		}
	}
	if n.block != nil || there != count {
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
