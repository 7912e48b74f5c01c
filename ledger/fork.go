package ledger

import (
	"context"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Rollback is an [ErrRollback]: the store lacks a state that was accepted.
type Rollback struct {
	Accepted Point
	Found    Point     // the newest that is there, or what is in its place; zero: none
	Created  time.Time // of Found
	Signer   string    // label of who signed Found; empty: unknown
}

func (r *Rollback) Error() string { panic("todo") }
func (r *Rollback) Unwrap() error { return ErrRollback }

// A Fork is an [ErrFork]: two chains of checkpoints that go on from a common one.
type Fork struct {
	Common       Point  // the last checkpoint that both have; zero: unknown
	Ours, Theirs []Side // after it, oldest first; what was accepted, and what is in its place
}

// A Side is one checkpoint of a side of a fork.
type Side struct {
	At      Point
	Created time.Time
	Signer  string // label of who signed it; empty: nobody whom our lists of members know
}

func (f *Fork) Error() string { panic("todo") }
func (f *Fork) Unwrap() error { return ErrFork }

// Common returns the newest checkpoint that two chains share, each read from its own store
// by digests.
func Common(ctx context.Context, a blob.Store, atA Point, b blob.Store, atB Point) (Point, error) {
	panic("todo")
}
