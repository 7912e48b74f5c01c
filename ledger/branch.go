package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Branch is another chain of checkpoints of a keyring, as of its end, each step of which
// was checked from the last checkpoint that it shares with the keyring's own.
type Branch struct {
	*Ledger
	Common Point // the last checkpoint that both have
	From   Trie  // the trie as of that
}

// Branch opens another chain of the same keyring: that to the head of another store, or to
// a checkpoint in a store where at is not nil, also one that is in no slot any more. Where
// the two have no checkpoint in common it is an [ErrFork].
func (l *Ledger) Branch(ctx context.Context, store blob.Store, at *Point) (*Branch, error) {
	r := newObjects(store)
	if at == nil {
		number, err := r.head(ctx, 0, false)
		if err != nil {
			return nil, err
		}
		if number == 0 {
			return nil, fmt.Errorf("no keyring in the store: %w", blob.ErrNotFound)
		}
		s, err := r.slot(ctx, number)
		if err != nil {
			return nil, err
		}
		at = &s.at
	}
	var steps []Point // the newest first
	shared, err := common(ctx,
		backward{newObjects(l.store), l.head.at, func(*stored) {}},
		backward{r, *at, func(s *stored) { steps = append(steps, s.at) }})
	if err != nil {
		return nil, err
	}
	return l.follow(ctx, r, shared, steps)
}

// follow checks the steps of a branch, the newest first, after a checkpoint of the ledger's
// own chain.
func (l *Ledger) follow(ctx context.Context, r *objects, shared Point, steps []Point) (*Branch, error) {
	c, err := r.checkpoint(ctx, shared)
	if err != nil {
		return nil, missing(err)
	}
	lists, err := r.lists(ctx, c.Checkpoint)
	if err != nil {
		return nil, err
	}
	from := &Ledger{store: r.store, source: newStoreSource(r.store), first: l.first, head: c, checked: shared, session: &session{}}
	if from.members, err = newMembers(lists); err != nil {
		return nil, err
	}
	s, err := from.startState(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, at := range slices.Backward(steps) {
		next, err := r.checkpoint(ctx, at)
		if err != nil {
			return nil, missing(err)
		}
		step, err := r.step(ctx, next, from.source)
		if err != nil {
			return nil, err
		}
		if s, err = s.apply(ctx, step); errors.Is(err, ErrIncomplete) {
			err = fmt.Errorf("%w: %w", ErrCompacted, err)
		}
		if err != nil {
			return nil, err
		}
		from.head = next
	}
	branch := *from
	if lists, err = r.lists(ctx, from.head.Checkpoint); err != nil {
		return nil, err
	}
	if branch.members, err = newMembers(lists); err != nil {
		return nil, err
	}
	branch.state, branch.checked = &s, s.At
	return &Branch{&branch, shared, c.trie()}, nil
}

// Sources returns a source that looks for a node in one source after the other.
func Sources(all ...Source) Source { return sources(all) }

type sources []Source

func (all sources) forget() {
	for _, s := range all {
		forget(s)
	}
}

func (all sources) Node(ctx context.Context, digest Digest, at blob.Hint) ([]byte, error) {
	var failed error
	for _, s := range all {
		node, err := s.Node(ctx, digest, at)
		if err == nil || ctx.Err() != nil {
			return node, err
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

// Introduced returns the checkpoint that introduced a list of members, by its number, with
// its signature checked.
func (l *Ledger) Introduced(ctx context.Context, list int) (*blob.VerifiedCheckpoint, error) {
	r := newObjects(l.store)
	for s := l.head; ; {
		by := s
		if s.List.Introduced != s.Number {
			var err error
			if by, err = r.ancestor(ctx, l.head, s.List.Introduced); err != nil {
				return nil, err
			}
		}
		if by.List.Number == list {
			return by.unverified.Verify(l.members.everybody())
		}
		if by.List.Number < list || by.Number == 1 {
			return nil, fmt.Errorf("list of members %d: %w", list, blob.ErrNotFound)
		}
		before, err := r.checkpoint(ctx, by.previous())
		if err != nil {
			return nil, missing(err)
		}
		s = before
	}
}

// everybody returns the keys with which present and former members sign or signed, under all their
// identifiers.
func (m *Members) everybody() []blob.Party {
	var all []blob.Party
	for id := range m.signed {
		all = append(all, m.Parties(id)...)
	}
	return all
}

// Peek returns the identifier of the keyring in a store and the digest of its checkpoint 1, without
// verifying them. The error is a [blob.ErrNotFound] if there is no keyring.
func Peek(ctx context.Context, store blob.Store) (blob.ID, Digest, error) {
	s, err := newObjects(store).slot(ctx, 1)
	if err != nil {
		return blob.ID{}, Digest{}, err
	}
	return s.KeyringID, s.at.Digest, nil
}

// PeekMembers returns the list of members that the newest checkpoint names, without verifying it.
func PeekMembers(ctx context.Context, store blob.Store) (blob.MemberList, error) {
	r := newObjects(store)
	number, err := r.head(ctx, 1, false)
	if err != nil {
		return blob.MemberList{}, err
	}
	head, err := r.slot(ctx, number)
	if err != nil {
		return blob.MemberList{}, err
	}
	der, err := r.members(ctx, head.List.Number, head.List.Digest)
	if err != nil {
		return blob.MemberList{}, err
	}
	return blob.ParseMembers(der)
}
