package ledger

import (
	"context"
	"iter"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// An Event is one thing that a checkpoint has recorded.
type Event struct {
	At      Point
	Created time.Time   // by the clock of the signer
	Signer  blob.Member // as the list of members says that was in force
	Change  Change      // the zero Change where the event is about members, or nothing was changed

	List         int            // number of the list of members that was introduced; 0: none
	Recovery     *blob.Recovery // by which it was
	Approved     []blob.Member  // who approved it: custodians of the quorum that has recovered, or owners
	Policy       *blob.Policy   // that it demands of later lists, where that differs from the list before
	Joined, Left []blob.Member  // since the list before; a member that has changed is in both
}

// Log returns the events of the checkpoints from number since+1 to the head, oldest first.
// An error ends it.
//
// The checkpoints are those from which the head descends, and their records are those that
// they name. That a record is what happened, only a writer has checked, see [Trust].
func (l *Ledger) Log(ctx context.Context, since int) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		o := newObjects(l.store)
		above := l.head
		chain, err := o.down(ctx, above, since)
		if err != nil {
			yield(Event{}, err)
			return
		}
		for i := len(chain) - 1; i >= 0; i-- {
			s, err := o.checkpoint(ctx, chain[i])
			if err != nil {
				yield(Event{}, missing(err))
				return
			}
			events, err := l.events(ctx, o, s)
			if err != nil {
				yield(Event{}, err)
				return
			}
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// EventsAt returns what one checkpoint, from which the head descends, has recorded: at least one event.
// It reads a number of objects that grows with the logarithm of the number of checkpoints. The error
// is a [blob.ErrNotFound] for a number that is not in 1 to the head's.
func (l *Ledger) EventsAt(ctx context.Context, number int) ([]Event, error) {
	if number < 1 || number > l.head.Number {
		return nil, inCheckpoint(number, blob.ErrNotFound)
	}
	o, s := newObjects(l.store), l.head
	if number < s.Number {
		var err error
		if s, err = o.ancestor(ctx, s, number); err != nil {
			return nil, err
		}
	}
	return l.events(ctx, o, s)
}

// down returns the points of the chain from a checkpoint down to the one after since, the
// newest first.
func (r *objects) down(ctx context.Context, s *stored, since int) ([]Point, error) {
	var points []Point
	for s.Number > since {
		points = append(points, s.at)
		if s.Number == 1 {
			break
		}
		next, err := r.checkpoint(ctx, s.previous())
		if err != nil {
			return nil, missing(err)
		}
		s = next
	}
	return points, nil
}

// events returns what one checkpoint has recorded, at least one event: first what is about
// members.
func (l *Ledger) events(ctx context.Context, r *objects, s *stored) ([]Event, error) {
	data, err := r.changes(ctx, s.Checkpoint)
	if err != nil {
		return nil, err
	}
	record, err := ParseRecord(data)
	if err != nil {
		return nil, inCheckpoint(s.Number, err)
	}
	event := Event{At: s.at, Created: s.Created, Signer: l.signer(s)}
	var events []Event
	if s.List.Introduced == s.Number {
		e := event
		e.List = s.List.Number
		e.Joined, e.Left, e.Recovery = l.members.change(e.List)
		e.Approved, e.Policy = l.members.Approved(e.List), l.members.newPolicy(e.List)
		events = append(events, e)
	}
	for _, c := range record.Changes {
		e := event
		e.Change = c
		events = append(events, e)
	}
	if len(events) == 0 {
		events = append(events, event)
	}
	return events, nil
}

// signer returns the member that signed a checkpoint of the chain, as in the last list that
// names it.
func (l *Ledger) signer(s *stored) blob.Member {
	m, _ := l.members.EverSigner(string(l.members.Key(s.unverified.SignerIdentifier())))
	return m
}

// change returns what a list of members has changed.
func (m *Members) change(number int) (joined, left []blob.Member, recovery *blob.Recovery) {
	list := m.lists[number-1]
	var before blob.MemberList
	if number > 1 {
		before = m.lists[number-2]
	}
	joined, left = Changed(before, list)
	return joined, left, list.Recovery
}

// newPolicy returns the policy of a list of members where it is another than that of the list before.
func (m *Members) newPolicy(number int) *blob.Policy {
	p, before := m.lists[number-1].Policy, blob.Policy{}
	if number > 1 {
		before = m.lists[number-2].Policy
	}
	if p == before {
		return nil
	}
	return &p
}

// without returns the members of a that are not just so in b.
func without(a, b []blob.Member) (out []blob.Member) {
	for _, m := range a {
		if was, ok := memberWith(b, KeyID(m)); !ok || !same(was, m) {
			out = append(out, m)
		}
	}
	return out
}
