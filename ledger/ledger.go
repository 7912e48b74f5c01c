package ledger

import (
	"context"
	"iter"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Ledger is a keyring as of one head. It does not change: what changes the keyring
// returns another one.
type Ledger struct {
	store blob.Store
}

// ID returns the keyring's identifier.
func (l *Ledger) ID() blob.ID { panic("todo") }

// Head returns the checkpoint as of which the ledger is.
func (l *Ledger) Head() *blob.VerifiedCheckpoint { panic("todo") }

// At returns the point of the head.
func (l *Ledger) At() Point { panic("todo") }

// Pin returns what is to be kept once the head is accepted.
func (l *Ledger) Pin() Pin { panic("todo") }

// Members returns who is and was a member, up to the list in force.
func (l *Ledger) Members() *Members { panic("todo") }

// Store returns the store in which the ledger is.
func (l *Ledger) Store() blob.Store { panic("todo") }

// Trie returns the map from names to entries, and Source the nodes that it needs.
func (l *Ledger) Trie() Trie { panic("todo") }

// Source returns where the nodes of the trie are read.
func (l *Ledger) Source() Source { panic("todo") }

// Len returns the number of names.
func (l *Ledger) Len() int { panic("todo") }

// Entry returns what there is of a name, or a [blob.ErrNotFound].
func (l *Ledger) Entry(ctx context.Context, name string) (Entry, error) { panic("todo") }

// Version returns a version of an entry, the current one for number 0, or a
// [blob.ErrNotFound].
func (l *Ledger) Version(ctx context.Context, e Entry, number int) (Version, error) { panic("todo") }

// Versions returns all versions of an entry, newest first.
func (l *Ledger) Versions(ctx context.Context, e Entry) iter.Seq2[Version, error] { panic("todo") }

// Entries returns the entries whose names start with prefix, sorted by name. It holds
// about 110 bytes of memory for each.
func (l *Ledger) Entries(ctx context.Context, prefix string) iter.Seq2[Entry, error] { panic("todo") }
