package ledger

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Ledger is a keyring as of one head. It does not change: what changes the keyring
// returns another one. It is safe for concurrent use.
type Ledger struct {
	store   blob.Store
	source  Source
	first   Digest // of checkpoint 1
	head    *stored
	members *Members

	checked    Point           // up to where every step was checked
	state      *ledgerState    // at the head, where that is checked
	unaccepted []RecoveryEvent // since where trust started
	older      bool            // not at the head: nothing can be added
	durable    bool            // the head was recorded by this process

	session *session
}

// A session is what the ledgers that come from one Open share.
type session struct {
	mu    sync.Mutex
	doubt *attempt // a checkpoint of which it is not known whether it was recorded
}

// ID returns the keyring's identifier.
func (l *Ledger) ID() blob.ID { return l.head.KeyringID }

// Head returns the checkpoint as of which the ledger is. Only its digest was checked where
// it is the one that was pinned; so SignerKeyID is nil, and [Ledger.HeadSigner] tells.
func (l *Ledger) Head() *blob.VerifiedCheckpoint { return l.head.verified }

// HeadSigner returns the member that signed the head.
func (l *Ledger) HeadSigner() (blob.Member, bool) {
	return l.members.EverSigner(string(l.members.Key(l.head.verified.SignerIdentifier())))
}

// At returns the point of the head.
func (l *Ledger) At() Point { return l.head.at }

// Pin returns what is to be kept once the head is accepted. The caller calls Sync before it
// keeps that.
func (l *Ledger) Pin() Pin {
	return Pin{Keyring: l.ID(), First: l.first, At: l.head.at, Checked: l.checked}
}

// Sync makes the head durable, if others have stored it.
func (l *Ledger) Sync(ctx context.Context) error {
	s, ok := l.store.(blob.Syncer)
	if !ok || l.older || l.durable {
		return nil
	}
	if err := s.Sync(ctx, blob.SlotPath(l.head.Number)); err != nil {
		return fmt.Errorf("make checkpoint %d durable: %w", l.head.Number, err)
	}
	return nil
}

// Members returns the present and former members, up to the list in force.
func (l *Ledger) Members() *Members { return l.members }

// Store returns the store of the keyring.
func (l *Ledger) Store() blob.Store { return l.store }

// Trie returns the map from names to entries, and Source its nodes.
func (l *Ledger) Trie() Trie { return l.head.trie() }

// Source returns the nodes of the trie.
func (l *Ledger) Source() Source { return l.source }

func (s *stored) trie() Trie { return Trie{Root: s.Root, At: s.RootAt, Keys: s.Keys} }

// Len returns the number of names.
func (l *Ledger) Len() int { return l.head.Keys }

// Entry returns the entry of a name, or a [blob.ErrNotFound].
func (l *Ledger) Entry(ctx context.Context, name string) (Entry, error) {
	e, ok, err := l.Trie().Get(ctx, l.source, name)
	if err == nil && !ok {
		err = blob.ErrNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("key %q: %w", name, err)
	}
	return e, nil
}

// Version returns a version of an entry, or a [blob.ErrNotFound]. Number 0 is the current
// one.
func (l *Ledger) Version(ctx context.Context, e Entry, number int) (Version, error) {
	if number == 0 && e.Current == 0 {
		return Version{}, fmt.Errorf("key %q has no current version: %w", e.Name, blob.ErrNotFound)
	}
	if number == 0 {
		number = e.Current
	}
	v, ok, err := l.Trie().Version(ctx, l.source, e, number)
	if err == nil && !ok {
		err = blob.ErrNotFound
	}
	if err != nil {
		return Version{}, fmt.Errorf("key %q, version %d: %w", e.Name, number, err)
	}
	return v, nil
}

// Versions returns all versions of an entry, newest first. An error ends it.
func (l *Ledger) Versions(ctx context.Context, e Entry) iter.Seq2[Version, error] {
	return l.Trie().Versions(ctx, l.source, e)
}

// Entries returns the entries whose names start with prefix, sorted by name. An error ends
// it.
func (l *Ledger) Entries(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return l.Trie().Sorted(ctx, l.source, prefix)
}

// LastSigned returns the last checkpoint that a member has signed, and its time, from the
// head backwards; zero for none.
func (l *Ledger) LastSigned(ctx context.Context, m blob.Member) (Signed, error) {
	at, created, err := newObjects(l.store).lastSigned(ctx, l.head, 1, l.members, m)
	return Signed{at, created}, err
}

// Accept returns the ledger with all recoveries accepted that the Report of Open has, up to
// a checkpoint: without that nothing is recorded on top of them.
func (l *Ledger) Accept(at Point) *Ledger {
	next := *l
	next.unaccepted = slices.DeleteFunc(slices.Clone(l.unaccepted), func(e RecoveryEvent) bool { return e.At.Number <= at.Number })
	return &next
}
