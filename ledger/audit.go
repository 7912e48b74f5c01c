package ledger

import (
	"context"
	"errors"
	"slices"
)

// Audit checks every checkpoint from the first to the head: its signature, that its signer
// was entitled to it, the log, and that what it changed is what its record says.
//
// Where the nodes from before a checkpoint are gone, the last of these cannot be checked.
// Audit returns how many checkpoints that concerns; it is an [ErrIncomplete] unless a
// compaction, which removes nodes, was recorded later.
func (l *Ledger) Audit(ctx context.Context) (unchecked int, err error) {
	r := newObjects(l.store)
	points, err := r.chain(ctx, l.head)
	if err != nil {
		return 0, err
	}
	var s ledgerState
	var gone error // the last step that could not be checked
	for _, at := range slices.Backward(points) {
		c, err := r.checkpoint(ctx, at)
		if err != nil {
			return unchecked, missing(err)
		}
		step, err := r.step(ctx, c, l.source)
		if err != nil {
			return unchecked, err
		}
		next, err := s.advance(ctx, step)
		switch {
		case errors.Is(err, ErrIncomplete) && next.At == at:
			unchecked, gone = unchecked+1, inCheckpoint(at.Number, err)
		case err != nil:
			return unchecked, inCheckpoint(at.Number, err)
		case compacts(step.Changes):
			gone = nil
		}
		s = next
	}
	if points[len(points)-1].Digest != l.first {
		return unchecked, &inconsistent{l.head.at, Point{1, l.first}}
	}
	return unchecked, gone
}

// chain returns the points of all checkpoints of a chain, from its end backwards.
func (r *objects) chain(ctx context.Context, s *stored) ([]Point, error) {
	points := []Point{s.at}
	for s.Number > 1 {
		next, err := r.checkpoint(ctx, s.previous())
		if err != nil {
			return nil, missing(err)
		}
		s = next
		points = append(points, s.at)
	}
	return points, nil
}

// compacts reports whether a record has a compaction among its changes.
func compacts(changes []byte) bool {
	record, err := ParseRecord(changes)
	return err == nil && slices.ContainsFunc(record.Changes, func(c Change) bool { return c.Op == Compact })
}
