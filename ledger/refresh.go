package ledger

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Refresh opens the keyring again at the head that it has by now. With write every step is
// checked, as a writer must. Recoveries that are new are an [Unaccepted].
func (l *Ledger) Refresh(ctx context.Context, write bool) (*Ledger, error) {
	if l.older {
		return nil, fmt.Errorf("open the keyring again, at an older state: %w", ErrRollback)
	}
	if !write && len(l.unaccepted) == 0 {
		same, err := l.isNewest(ctx)
		if err != nil {
			return nil, err
		}
		if same {
			return l, nil
		}
	}
	o := &opening{objects: newObjects(l.store), source: l.source, points: []Point{l.head.at}, checked: l.checked}
	o.trust = Trust{Write: write}
	o.first = &stored{at: Point{1, l.first}}
	next, err := o.reopen(ctx, l)
	if err != nil {
		return nil, err
	}
	if len(next.unaccepted) > 0 {
		return nil, &Unaccepted{next.unaccepted}
	}
	if write {
		err = next.check(ctx, o.objects)
	}
	return next, err
}

// HasNewer reports whether the slot after the head is filled. It does not verify the checkpoint there.
func (l *Ledger) HasNewer(ctx context.Context) (bool, error) {
	return newObjects(l.store).filled(ctx, l.head.Number+1)
}

// isNewest reports whether the head's slot has the head, and the next one nothing: that is so
// nearly always, and found out without parsing anything.
func (l *Ledger) isNewest(ctx context.Context) (bool, error) {
	der, err := l.store.Get(ctx, blob.SlotPath(l.head.Number))
	if err != nil || !bytes.Equal(der, l.head.verified.Bytes()) {
		return false, ctx.Err() // what is wrong is found out below
	}
	newer, err := l.HasNewer(ctx)
	return !newer, err
}

// reopen returns the ledger at the head that there is by now.
func (o *opening) reopen(ctx context.Context, l *Ledger) (*Ledger, error) {
	head, err := o.findHead(ctx)
	if err != nil {
		return nil, err
	}
	if head.at == l.head.at {
		same := *l
		return &same, nil
	}
	if err := o.descends(ctx, head, l.head.at); err != nil {
		return nil, o.explain(ctx, head, l.head.at, err)
	}
	next, err := o.ledger(ctx, head, l.head.at)
	if err != nil {
		return nil, err
	}
	next.session = l.session
	next.unaccepted = append(slices.Clone(l.unaccepted), next.unaccepted...)
	if l.state != nil {
		next.state = l.state // where check goes on
	}
	return next, nil
}

// check checks every step up to the head from the last one that was.
func (l *Ledger) check(ctx context.Context, r *objects) error {
	s, err := l.startState(ctx, r)
	if err != nil {
		return err
	}
	steps, err := r.down(ctx, l.head, s.At.Number)
	if err != nil {
		return err
	}
	for _, at := range slices.Backward(steps) {
		if s, err = r.next(ctx, s, at, l.source); err != nil {
			return err
		}
		if at.Number == 1 && at.Digest != l.first {
			return &inconsistent{l.head.at, Point{1, l.first}}
		}
	}
	if s.At != l.head.at {
		return &inconsistent{l.head.at, s.At}
	}
	l.state, l.checked = &s, s.At
	return nil
}

// startState returns the state at the last point up to which every step was checked.
func (l *Ledger) startState(ctx context.Context, r *objects) (ledgerState, error) {
	if l.state != nil {
		return *l.state, nil
	}
	if l.checked.Number == 0 {
		return ledgerState{}, nil
	}
	c, err := r.checkpoint(ctx, l.checked)
	if err != nil {
		return ledgerState{}, missing(err)
	}
	log, err := r.edgeOf(ctx, c)
	if err != nil {
		return ledgerState{}, err
	}
	if c.List.Number > len(l.members.lists) {
		return ledgerState{}, &inconsistent{l.head.at, c.at}
	}
	known := names{}
	for _, list := range l.members.lists[:c.List.Number] {
		if err := known.add(list.Everybody()); err != nil {
			return ledgerState{}, err
		}
	}
	return ledgerState{
		Keyring: c.KeyringID, At: c.at, Time: c.Created, List: l.members.lists[c.List.Number-1], ListRef: c.List,
		Trie: c.trie(), log: log, names: known,
	}, nil
}
