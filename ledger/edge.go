package ledger

import (
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// An edge is what has to be known of a log to add records to it: the hashes of its largest
// complete subtrees, the largest first (RFC 9162 §2.1.1). The records of the log are the
// digests of checkpoints, record 0 that of checkpoint 1. The zero edge is that of the
// empty log.
type edge struct {
	size   int // records
	hashes []tlog.Hash
}

// add returns the edge with one record more, and the hashes that it adds to those that are
// stored (see [tlog.StoredHashes]).
func (e edge) add(record Digest) (edge, []Digest) {
	h := tlog.RecordHash(record[:])
	added, left := []Digest{h}, e.hashes
	for size := e.size; size%2 == 1; size /= 2 { // a subtree as large as what is new is complete now
		h = tlog.NodeHash(left[len(left)-1], h)
		added, left = append(added, h), left[:len(left)-1]
	}
	return edge{e.size + 1, append(slices.Clone(left), h)}, added
}

// hash returns the tree hash of the log.
func (e edge) hash() Digest {
	if e.size == 0 {
		h, _ := tlog.TreeHash(0, nil)
		return Digest(h)
	}
	h := e.hashes[len(e.hashes)-1]
	for _, left := range slices.Backward(e.hashes[:len(e.hashes)-1]) {
		h = tlog.NodeHash(left, h)
	}
	return Digest(h)
}
