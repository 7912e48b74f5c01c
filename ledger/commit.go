package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Nonce returns 16 random bytes.
type Nonce func() ([16]byte, error)

// A Proposal is what a commit is to change. Its functions are called again on a newer head
// when others were faster.
type Proposal struct {
	Edits []Edit

	// List returns the next list of members, or nil for none. [Ledger.NextList] is where
	// to start. Commit sets KeyringID, Number, Previous and Recovery.List, and Created unless
	// there are approvals, which are for the list as it is.
	List func(*Ledger) (*blob.MemberList, error)

	// Ready is called before the checkpoint is recorded, when all is stored that it refers
	// to. It waits for what else must be there by then. An error ends the commit.
	Ready func() error

	Notes   []Change // recorded beside: [ReplacePin], which changes nothing
	Compact bool     // write all nodes anew, and record that, unless the head has done so
	Fresh   bool     // make a checkpoint even if there is nothing to change, to say that this is the state still
}

// maxCommits is how often a commit is tried when others are faster: of eight processes that write
// all the time, each wins about one race in eight.
const maxCommits = 128

// Init makes a keyring: the first checkpoint, which introduces the first list of members and is
// signed by an owner in it. The list's KeyringID and Members are used. The error is a
// [blob.ErrExists] if the store has a keyring.
func Init(ctx context.Context, store blob.Store, list blob.MemberList, signer blob.Signer, now time.Time, nonce Nonce) (*Ledger, error) {
	list.Number, list.Previous, list.Created, list.Recovery, list.Approvals = 1, nil, now, nil, nil
	d := &draft{trie: emptyTrie(), list: &list, now: now}
	a, err := d.sign(ctx, ledgerState{}, newStoreSource(store), signer, nonce)
	if err != nil {
		return nil, err
	}
	members, err := newMembers([]blob.MemberList{a.after.List})
	if err != nil {
		return nil, err
	}
	l := &Ledger{store: store, source: newStoreSource(store), first: a.after.At.Digest, members: members, session: &session{}}
	switch err := a.record(ctx, store, nil); {
	case errors.Is(err, errLost):
		return nil, fmt.Errorf("checkpoint 1: %w", blob.ErrExists)
	case err != nil:
		return nil, err
	}
	return l.at(a, members), nil
}

// Commit makes the next checkpoint, signed by an owner, or in a recovery by a backup
// authority. When others were faster it is made anew on top of theirs, a bounded number of
// times, after which the error is an [ErrRace].
//
// The errors in the slice are those of the edits, in their order; one that fails does not
// keep the others from being recorded. The last error is that of the whole: nothing was
// recorded then, unless it is an [ErrDoubt].
//
// The ledger that is returned has the changes. Where nothing was to be changed it has no new
// checkpoint of this commit.
func (l *Ledger) Commit(ctx context.Context, p Proposal, signer blob.Signer, now time.Time, nonce Nonce) (*Ledger, []error, error) {
	l.session.mu.Lock() // two attempts at one number could not be told apart when one is in doubt
	defer l.session.mu.Unlock()
	var lost *attempt
	for range maxCommits {
		var err error
		if l, err = l.writable(ctx, lost); err != nil {
			return nil, nil, err
		}
		d, errs, err := l.draft(ctx, p, now)
		if err != nil || d == nil {
			return l, errs, err
		}
		a, err := d.sign(ctx, *l.state, l.source, signer, nonce)
		if err != nil {
			return nil, errs, err
		}
		members := l.members
		if d.list != nil {
			if members, err = newMembers(append(members.lists[:len(members.lists):len(members.lists)], a.after.List)); err != nil {
				return nil, errs, err
			}
		}
		err = a.record(ctx, l.store, p.Ready)
		if err == nil {
			return l.at(a, members), errs, nil
		}
		if errors.Is(err, ErrDoubt) {
			l.session.doubt = a
		}
		if !errors.Is(err, errLost) {
			return nil, errs, err
		}
		lost = a
	}
	return nil, nil, fmt.Errorf("record a checkpoint, %d times: %w", maxCommits, ErrRace)
}

// writable returns the ledger at the newest head, every step up to which was checked. A
// checkpoint in doubt is recorded first, or found to have lost: its number is not signed
// again before.
//
// The first time, when no attempt was lost, l is used as it is: the slot shows whether it is
// still the newest.
func (l *Ledger) writable(ctx context.Context, lost *attempt) (*Ledger, error) {
	if len(l.unaccepted) > 0 {
		return nil, &Unaccepted{l.unaccepted}
	}
	if a := l.session.doubt; a != nil {
		switch err := a.fill(ctx, l.store); {
		case errors.Is(err, errLost):
			lost = a
		case err != nil:
			return nil, err
		}
		l.session.doubt = nil
	} else if lost == nil && l.state != nil && l.state.At == l.head.at && !l.older {
		return l, nil
	}
	next, err := l.Refresh(ctx, true)
	if err == nil && lost != nil && next.head.Number < lost.Number { // the store had one in that slot
		l.session.doubt = lost
		err = inCheckpoint(lost.Number, fmt.Errorf("%w: %w", ErrDoubt, ErrIncomplete))
	}
	if err == nil && next.head.Number%slotsPerThousand == slotsPerThousand-1 {
		// Others have filled it, maybe not durably, and the next slot is in another
		// directory: to sync that one does not make this one durable.
		err = next.Sync(ctx)
	}
	return next, err
}

// at returns the ledger as of a checkpoint that was recorded on top of l.
func (l *Ledger) at(a *attempt, members *Members) *Ledger {
	next := *l
	next.head, next.members, next.state, next.checked = a.stored, members, &a.after, a.after.At
	next.durable = true
	return &next
}

// NextList returns the list of members in force, still to be changed, for [Proposal].
func (l *Ledger) NextList() blob.MemberList {
	list := l.members.List()
	list.Recovery, list.Approvals = nil, nil
	return list
}
