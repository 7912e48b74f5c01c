package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Signed is a checkpoint and its time, by its signer's clock. The zero Signed is
// none.
type Signed struct {
	At      Point
	Created time.Time
}

// A Rollback is an [ErrRollback]: the store lacks a state that was accepted.
type Rollback struct {
	Accepted Point
	Found    Signed // the newest that is there, or what is in its place
	Signer   string // the signer's label; empty if unknown
}

func (e *Rollback) Error() string {
	switch {
	case e.Found.At.Number == 0:
		return fmt.Sprintf("checkpoint %d was accepted, the store has none: %v", e.Accepted.Number, ErrRollback)
	case e.Found.At.Number == e.Accepted.Number:
		return fmt.Sprintf("checkpoint %v was accepted, the store has %v in its place: %v", e.Accepted, e.Found.At, ErrRollback)
	}
	return fmt.Sprintf("checkpoint %d was accepted, the newest in the store is number %d, of %s: %v",
		e.Accepted.Number, e.Found.At.Number, e.Found.Created.UTC().Format(time.RFC3339), ErrRollback)
}

func (e *Rollback) Unwrap() error { return ErrRollback }

// A Fork is an [ErrFork]: two chains of checkpoints that go on from a common one.
type Fork struct {
	Accepted Point  // the end of our side
	Common   Point  // the last checkpoint that both have; zero: unknown, as the store lacks what leads there
	Ours     []Side // after it, oldest first: what was accepted
	Theirs   []Side // and what the store has in its place
}

// A Side is a checkpoint on one side of a fork.
type Side struct {
	Signed
	Signer string // the signer's label; empty if no list of members before the fork names it
}

func (e *Fork) Error() string {
	if e.Common.Number == 0 {
		return fmt.Sprintf("checkpoint %v was accepted, and the newest does not descend from it: %v", e.Accepted, ErrFork)
	}
	return fmt.Sprintf("after checkpoint %d: %v", e.Common.Number, ErrFork)
}

func (e *Fork) Unwrap() error { return ErrFork }

// maxFork bounds how many checkpoints are followed back in the search for a common one.
const maxFork = 1 << 14

// A backward is a chain that is followed back from a checkpoint, and each checkpoint on the way is shown to
// visit.
type backward struct {
	*objects
	at    Point
	visit func(*stored)
}

func (c *backward) back(ctx context.Context) error {
	s, err := c.checkpoint(ctx, c.at)
	if err != nil {
		return missing(err)
	}
	c.visit(s)
	c.at = s.previous()
	return nil
}

// common returns the last checkpoint that two chains share. Those after it are visited, the
// newest first, as far as they are there. They may be very many, and anybody's.
func common(ctx context.Context, a, b backward) (Point, error) {
	for steps := 0; a.at != b.at; steps++ {
		if steps > maxFork {
			return Point{}, fmt.Errorf("more than %d checkpoints back: %w", maxFork, ErrFork)
		}
		if a.at.Number <= 1 && b.at.Number <= 1 {
			return Point{}, fmt.Errorf("no common checkpoint: %w", ErrFork)
		}
		later := &a
		if b.at.Number > a.at.Number {
			later = &b
		}
		if err := later.back(ctx); err != nil {
			return Point{}, err
		}
	}
	return a.at, nil
}

// gone tells that the store lacks the slot of a point that was accepted.
func (o *opening) gone(ctx context.Context, at Point) error {
	newest, err := o.newest(ctx)
	if err != nil {
		return err
	}
	if newest > at.Number {
		return fmt.Errorf("checkpoint %d is missing, number %d is there: %w", at.Number, newest, ErrIncomplete)
	}
	var found *stored
	if newest > 0 {
		if found, err = o.slot(ctx, newest); err != nil {
			return err
		}
	}
	return o.rollback(ctx, at, found)
}

func (o *opening) rollback(ctx context.Context, accepted Point, found *stored) error {
	e := &Rollback{Accepted: accepted}
	if found != nil {
		e.Found, e.Signer = Signed{found.at, found.Created}, o.signerOf(ctx, found, accepted)
	}
	return e
}

// signerOf returns the label of who signed a checkpoint, by the lists of members of one that
// was accepted, if those are there.
func (o *opening) signerOf(ctx context.Context, s *stored, accepted Point) string {
	c, err := o.checkpoint(ctx, accepted)
	if err != nil {
		return ""
	}
	return o.labeller(ctx, c)(s)
}

// labeller returns a function that returns the label of who signed a checkpoint, by the lists
// of members of one that is trusted.
func (o *opening) labeller(ctx context.Context, trusted *stored) func(*stored) string {
	lists, err := o.lists(ctx, trusted.Checkpoint)
	if err != nil {
		return func(*stored) string { return "" }
	}
	members, err := newMembers(lists)
	if err != nil {
		return func(*stored) string { return "" }
	}
	return func(s *stored) string {
		key := string(members.Key(s.unverified.SignerIdentifier()))
		if _, err := s.unverified.Verify(members.Parties(key)); err != nil {
			return ""
		}
		m, _ := members.EverSigner(key)
		return m.Label
	}
}

// beside returns the head where there is another checkpoint in the slot of one that was
// accepted. It may descend from that all the same, where a copy with fewer checkpoints was
// put over this one. Otherwise there is a fork, or a rollback if the accepted one is not in
// the store any more.
func (o *opening) beside(ctx context.Context, accepted Point, there *stored) (*stored, error) {
	_, err := o.checkpoint(ctx, accepted)
	if errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrIntegrity) {
		return nil, o.rollback(ctx, accepted, there)
	}
	if err != nil {
		return nil, err
	}
	number, err := o.head(ctx, there.Number, o.trust.Write)
	if err != nil {
		return nil, err
	}
	head, err := o.slot(ctx, number)
	if err != nil {
		return nil, err
	}
	err = o.descends(ctx, head, accepted)
	if errors.Is(err, blob.ErrIntegrity) {
		return nil, o.fork(ctx, accepted, head)
	}
	return head, err
}

// explain makes the fork that it is of a head that does not descend from a point.
func (o *opening) explain(ctx context.Context, head *stored, accepted Point, err error) error {
	var not *inconsistent
	if !errors.As(err, &not) {
		return err
	}
	if told := o.trust.Checkpoint; told != nil && *told == accepted { // there may never have been one
		if there, err := o.slot(ctx, accepted.Number); err == nil && there.at != accepted {
			return o.rollback(ctx, accepted, there)
		}
	}
	return o.fork(ctx, accepted, head)
}

func (o *opening) fork(ctx context.Context, accepted Point, head *stored) error {
	label := func(*stored) string { return "" }
	if c, err := o.checkpoint(ctx, accepted); err == nil {
		label = o.labeller(ctx, c)
	}
	f := &Fork{Accepted: accepted}
	collect := func(side *[]Side) func(*stored) {
		return func(s *stored) { *side = append(*side, Side{Signed{s.at, s.Created}, label(s)}) }
	}
	var err error
	f.Common, err = common(ctx, backward{o.objects, accepted, collect(&f.Ours)}, backward{o.objects, head.at, collect(&f.Theirs)})
	if err != nil && !errors.Is(err, blob.ErrIntegrity) {
		return err // the store failed
	}
	slices.Reverse(f.Ours)
	slices.Reverse(f.Theirs)
	return f
}
