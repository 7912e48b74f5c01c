package ledger

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// descent checks the signature of a head that has a trusted point in its log, and how each
// list of members came into force since that point: none is skipped. It returns the
// recoveries among them, oldest first.
func (r *objects) descent(ctx context.Context, head *stored, from Point, members *Members) ([]RecoveryEvent, error) {
	trusted, err := r.checkpoint(ctx, from)
	if err != nil {
		return nil, err
	}
	var events []RecoveryEvent
	ref := head.List
	for ref.Number > trusted.List.Number {
		by, before, err := r.introduction(ctx, head, ref, from)
		if err != nil {
			return nil, fmt.Errorf("list of members %d: %w", ref.Number, err)
		}
		// A backup authority must not make up the state from which it recovers. One that
		// introduces a list is looked at next.
		if before.at != from && before.List.Introduced != before.Number {
			if err := signedByOwner(before, members); err != nil {
				return nil, err
			}
		}
		event, err := checkIntroduction(by, before, members)
		if err != nil {
			return nil, inCheckpoint(by.Number, err)
		}
		if event != nil {
			event.LastSigned, event.LastTime, err = r.lastSigned(ctx, before, from.Number, members, event.From)
			if err != nil {
				return nil, err
			}
			events = append(events, *event)
		}
		ref = before.List
	}
	if ref != trusted.List {
		return nil, inCheckpoint(head.Number, fmt.Errorf("goes back to list of members %d, checkpoint %d has list %d: %w", ref.Number, from.Number, trusted.List.Number, ErrIllegal))
	}
	if head.List.Introduced != head.Number { // or else that was checked above
		if err := signedByOwner(head, members); err != nil {
			return nil, err
		}
	}
	slices.Reverse(events)
	return events, nil
}

// signedByOwner checks the signature of a checkpoint that keeps the list of members.
func signedByOwner(s *stored, members *Members) error {
	if s.List.Number > len(members.lists) {
		return inCheckpoint(s.Number, fmt.Errorf("names list of members %d of %d: %w", s.List.Number, len(members.lists), ErrIllegal))
	}
	if _, err := entitled(s.unverified, members.lists[s.List.Number-1], false); err != nil {
		return inCheckpoint(s.Number, members.ExplainUntrusted(err, s.unverified.SignerIdentifier()))
	}
	return nil
}

// introduction returns the checkpoint that introduced a list of members, which is in the log
// of the head and after the trusted point, and the one before it.
func (r *objects) introduction(ctx context.Context, head *stored, ref blob.ListRef, from Point) (by, before *stored, err error) {
	if ref.Introduced <= from.Number || ref.Introduced > head.Number {
		return nil, nil, fmt.Errorf("introduced by checkpoint %d, not one of %d to %d: %w", ref.Introduced, from.Number+1, head.Number, ErrIllegal)
	}
	if by = head; ref.Introduced != head.Number {
		if by, err = r.ancestor(ctx, head, ref.Introduced); err != nil {
			return nil, nil, err
		}
	}
	if by.List != ref {
		return nil, nil, fmt.Errorf("checkpoint %d introduces another: %w", by.Number, ErrIllegal)
	}
	if before, err = r.checkpoint(ctx, by.previous()); err != nil {
		return nil, nil, missing(err)
	}
	return by, before, r.descends(ctx, head, before.at)
}

// ancestor returns the checkpoint with a number from which the head descends.
func (r *objects) ancestor(ctx context.Context, head *stored, number int) (*stored, error) {
	s, err := r.slot(ctx, number)
	if err != nil {
		return nil, missing(err)
	}
	if err := r.descends(ctx, head, s.at); err == nil {
		return s, nil
	}
	// The slot has one of another chain: follow this one.
	for s = head; s.Number > number; {
		if s, err = r.checkpoint(ctx, s.previous()); err != nil {
			return nil, missing(err)
		}
	}
	return s, nil
}

// checkIntroduction checks that a checkpoint may introduce its list of members after the
// one that was in force. Where that is a recovery it returns it.
func checkIntroduction(by, before *stored, members *Members) (*RecoveryEvent, error) {
	if before.List.Number != by.List.Number-1 {
		return nil, fmt.Errorf("introduces list of members %d after %d: %w", by.List.Number, before.List.Number, ErrIllegal)
	}
	old, list := members.lists[before.List.Number-1], members.lists[by.List.Number-1]
	if err := follows(old, before.List, list, by.Checkpoint); err != nil {
		return nil, err
	}
	v, err := entitled(by.unverified, old, list.Recovery != nil)
	if err != nil {
		return nil, untrusted(err, by, members.lists[:before.List.Number])
	}
	signer, _ := signerOf(old, v.SignerKeyID())
	approved, err := checkApprovals(old, before.List, list, signer, by.Created)
	if err != nil || list.Recovery == nil {
		return nil, err
	}
	if by.Root != before.Root || by.RootAt != before.RootAt || by.Keys != before.Keys {
		return nil, fmt.Errorf("a recovery that changes keys: %w", ErrIllegal)
	}
	event := &RecoveryEvent{At: by.at, Created: by.Created, Authority: signer, To: recoveredTo(old, list), Reason: list.Recovery.Reason, Approved: approved}
	event.From, _ = memberWith(old.Members, string(list.Recovery.From))
	return event, nil
}

// untrusted adds what the earlier lists of members say to the error for a checkpoint whose signer
// is not trusted.
func untrusted(err error, s *stored, before []blob.MemberList) error {
	members, listErr := newMembers(before)
	if listErr != nil {
		return err
	}
	return members.ExplainUntrusted(err, s.unverified.SignerIdentifier())
}

// lastSigned returns the last checkpoint that a member has signed, from one down to that
// with a number.
func (r *objects) lastSigned(ctx context.Context, s *stored, least int, members *Members, m blob.Member) (Point, time.Time, error) {
	parties := members.Parties(SignerID(m))
	for {
		if _, err := s.unverified.Verify(parties); err == nil {
			return s.at, s.Created, nil
		}
		if s.Number <= max(least, 1) {
			return Point{}, time.Time{}, nil
		}
		next, err := r.checkpoint(ctx, s.previous())
		if err != nil {
			return Point{}, time.Time{}, missing(err)
		}
		s = next
	}
}
