package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
	"golang.org/x/mod/sumdb/tlog"
)

// A logReader is a [tlog.HashReader] of the log of checkpoints. The hashes that the digest
// of checkpoint n adds to the log stand in the record of checkpoint n+1.
//
// Nothing that it reads is trusted: what is proven with it is.
type logReader struct {
	ctx context.Context
	*objects
}

func (r logReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		record := (n+1)<<level - 1 // the one that completed the subtree
		if record >= blob.MaxNumber {
			return nil, fmt.Errorf("record %d of the log: %w", record, ErrIllegal)
		}
		added, err := r.addedBy(int(record) + 2)
		if err != nil {
			return nil, err
		}
		if level >= len(added) {
			return nil, fmt.Errorf("checkpoint %d adds %d hashes to the log: %w", record+2, len(added), ErrIllegal)
		}
		hashes[i] = tlog.Hash(added[level])
	}
	return hashes, nil
}

// addedBy returns the hashes that the record of the checkpoint in a slot adds to the log.
func (r logReader) addedBy(number int) ([]Digest, error) {
	if added, ok := r.added[number]; ok {
		return added, nil
	}
	s, err := r.slot(r.ctx, number)
	if err != nil {
		return nil, err
	}
	data, err := r.changes(r.ctx, s.Checkpoint)
	if err != nil {
		return nil, err
	}
	added, err := logOf(data, number)
	if err != nil {
		return nil, inCheckpoint(number, err)
	}
	r.added[number] = added
	return added, nil
}

// logOf returns the hashes at the end of the record of a checkpoint, from number 2 on, whose
// count follows from the number. It parses no more of the record, which can have a million
// changes.
func logOf(data []byte, number int) ([]Digest, error) {
	n := 1 + bits.TrailingZeros(^uint(number-2)) // as edge.add has it
	before := len(data) - n*len(Digest{}) - 1
	if before < 0 || int(data[before]) != n {
		return nil, malformed("record of changes does not add %d hashes", n)
	}
	d := &decoder{in: data[before+1:]}
	added := make([]Digest, n)
	for i := range added {
		added[i] = d.digest("hash")
	}
	return added, nil
}

// descends returns nil if the log of a checkpoint has a point, and else an [ErrFork], or an
// error of the store.
//
// Where two chains share the slots, the hashes in them are of no use; then the checkpoints
// are followed one by one to the point.
func (r *objects) descends(ctx context.Context, c *stored, from Point) error {
	if c.at == from {
		return nil
	}
	if from.Number >= c.Number {
		return &inconsistent{c.at, from}
	}
	if c.Number == from.Number+1 {
		return r.walk(ctx, c, from)
	}
	size, record := int64(c.Number-1), int64(from.Number-1)
	proof, err := tlog.ProveRecord(size, record, logReader{ctx, r})
	if err == nil {
		err = tlog.CheckRecord(proof, size, tlog.Hash(c.Log), record, tlog.RecordHash(from.Digest[:]))
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	return r.walk(ctx, c, from)
}

// Consistent returns nil if the head descends from a point that was accepted, or that one from
// the head. It is an [ErrFork] if they are of two chains, and an [ErrRollback] if the point is
// newer than the head and not in the store.
func (l *Ledger) Consistent(ctx context.Context, accepted Point) error {
	r := newObjects(l.store)
	if accepted.Number <= l.head.Number {
		return r.descends(ctx, l.head, accepted)
	}
	c, err := r.checkpoint(ctx, accepted)
	if errors.Is(err, blob.ErrNotFound) {
		return &Rollback{Accepted: accepted, Found: Signed{l.head.at, l.head.Created}}
	}
	if err != nil {
		return err
	}
	return r.descends(ctx, c, l.head.at)
}

// An inconsistent is that a checkpoint does not descend from a point.
type inconsistent struct{ head, point Point }

func (e *inconsistent) Error() string {
	return fmt.Sprintf("checkpoint %d does not descend from %v", e.head.Number, e.point)
}

func (e *inconsistent) Unwrap() error { return ErrFork }

// walk follows the chain from a checkpoint down to a point.
func (r *objects) walk(ctx context.Context, c *stored, to Point) error {
	head := c.at
	for c.Number > to.Number+1 {
		next, err := r.checkpoint(ctx, c.previous())
		if err != nil {
			return missing(err)
		}
		c = next
	}
	if c.previous() != to {
		return &inconsistent{head, to}
	}
	return nil
}

// previous is the point of the checkpoint before.
func (s *stored) previous() Point {
	p := Point{Number: s.Number - 1}
	copy(p.Digest[:], s.Previous)
	return p
}

// edgeOf returns the edge of the log of the checkpoints before one, which has its hash.
func (r *objects) edgeOf(ctx context.Context, c *stored) (edge, error) {
	if c.Number == 1 {
		return edge{}, nil
	}
	var e edge
	capture := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes, err := logReader{ctx, r}.ReadHashes(indexes)
		e = edge{c.Number - 1, hashes}
		return hashes, err
	})
	hash, err := tlog.TreeHash(int64(c.Number-1), capture)
	if err == nil && hash == tlog.Hash(c.Log) || ctx.Err() != nil {
		return e, ctx.Err()
	}
	return r.walkEdge(ctx, c)
}

// walkEdge computes the edge from the digests of all checkpoints.
func (r *objects) walkEdge(ctx context.Context, c *stored) (edge, error) {
	var before []Digest // the newest first
	for at := c; at.Number > 1; {
		before = append(before, at.previous().Digest)
		next, err := r.checkpoint(ctx, at.previous())
		if err != nil {
			return edge{}, missing(err)
		}
		at = next
	}
	var e edge
	for i := len(before) - 1; i >= 0; i-- {
		e, _ = e.add(before[i])
	}
	if e.hash() != c.Log {
		return edge{}, inCheckpoint(c.Number, fmt.Errorf("has another log of the checkpoints before it: %w", ErrIllegal))
	}
	return e, nil
}

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
