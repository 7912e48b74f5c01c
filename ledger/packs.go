package ledger

import (
	"context"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Packs returns the packs that the trie has nodes in. All others may be deleted as far as
// the trie is concerned. It reads every node.
func (t Trie) Packs(ctx context.Context, src Source) (map[blob.PackID]bool, error) {
	seen := packsSeen{src, map[blob.PackID]bool{}}
	_, err := t.Repack(ctx, seen, func(Pack) error { return nil })
	return seen.packs, err
}

// packsSeen notes where nodes are read.
type packsSeen struct {
	Source
	packs map[blob.PackID]bool
}

func (s packsSeen) Node(ctx context.Context, digest Digest, at blob.Hint) ([]byte, error) {
	s.packs[at.Pack] = true
	return s.Source.Node(ctx, digest, at)
}
