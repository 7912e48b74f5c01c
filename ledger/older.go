package ledger

import (
	"context"
	"errors"
)

// olderState opens what is there in the place of a head that was accepted, where that is
// allowed: the accepted checkpoint itself, if it is in the store though not in its slot, or
// else the head that is there, if it descends from the checkpoint 1 of the pin.
func (o *opening) olderState(ctx context.Context, found error) (*Ledger, error) {
	missed := errors.Is(found, ErrRollback) || errors.Is(found, ErrFork) || errors.Is(found, ErrIncomplete)
	if !o.trust.OlderState || !missed {
		return nil, found
	}
	from := o.points[0]
	head, err := o.checkpoint(ctx, from)
	if err != nil && o.pinned {
		from = Point{1, o.first.at.Digest}
		head, err = o.fromFirst(ctx, from)
	}
	if err != nil {
		return nil, errors.Join(found, err)
	}
	l, err := o.ledger(ctx, head, from)
	if err != nil {
		return nil, errors.Join(found, err)
	}
	o.report.Older, l.older = found, true
	return l, nil
}

// fromFirst returns the head that is there, which has to descend from checkpoint 1.
func (o *opening) fromFirst(ctx context.Context, first Point) (*stored, error) {
	number, err := o.head(ctx, first.Number, false)
	if err != nil {
		return nil, err
	}
	head, err := o.slot(ctx, number)
	if err != nil {
		return nil, err
	}
	return head, o.descends(ctx, head, first)
}
