package ledger

import (
	"context"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Nonce returns 16 random bytes.
type Nonce func() ([16]byte, error)

// A Proposal is what a commit is to change. It must not depend on the ledger that it is
// given to but through the arguments of its functions: those are called again when others
// were faster.
type Proposal struct {
	Edits []Edit

	// List returns the next list of members, or nil for none. [Ledger.NextList] is where
	// to start. Number, Previous, KeyringID, Created and Recovery.List are set by Commit.
	List func(*Ledger) (*blob.MemberList, error)

	Notes   []Change // recorded as they are: ReplacePin and the like, which change nothing
	Compact bool     // write all nodes anew, and record that
}

// An Edit changes the entry of one name.
type Edit struct {
	Name string

	// Apply returns what becomes of the entry, which is nil where there is none, and what
	// is recorded about it. get returns a version of the entry, also an older one. number
	// and at are those of the new checkpoint, for Version.Changed and ChangedAt. No changes
	// and no error: there is nothing to do any more.
	Apply func(old *Entry, get func(version int) (Version, bool, error), number int, at time.Time) (Update, []Change, error)
}

// Found makes a keyring: the first checkpoint, which introduces the first list of members
// and is signed by an owner in it. The list's KeyringID, Members and Created are used.
// A store that has a checkpoint is a [blob.ErrExists].
func Found(ctx context.Context, store blob.Store, list blob.MemberList, signer blob.Signer, now time.Time, nonce Nonce) (*Ledger, error) {
	panic("todo")
}

// Commit makes the next checkpoint. When others were faster it is made anew on top of
// theirs, a bounded number of times. The errors are those of the edits, in their order;
// one that fails does not keep the others from being recorded. The last error is that of
// the whole: nothing was recorded then, unless it is an [ErrDoubt].
//
// The ledger that is returned has the changes; where there was nothing to change it has
// the same head, or that of others.
func (l *Ledger) Commit(ctx context.Context, p Proposal, signer blob.Signer, now time.Time, nonce Nonce) (*Ledger, []error, error) {
	panic("todo")
}

// NextList returns the list of members in force as the next one, still to be changed.
func (l *Ledger) NextList() blob.MemberList { panic("todo") }
