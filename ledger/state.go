package ledger

import (
	"context"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A State is a keyring as of one checkpoint, each step up to which was checked. The zero
// State is that before the first checkpoint.
type State struct {
	Keyring blob.ID
	At      Point
	Time    time.Time // when the checkpoint was created
	ListRef blob.ListRef
	Trie    Trie
}

// A Step is a checkpoint, and what it refers to, as they came from storage.
type Step struct {
	Checkpoint *blob.UnverifiedCheckpoint
	Members    []byte // the list of members, where the checkpoint introduces one
	Changes    []byte // the record of changes
	Source     Source // has the nodes that differ, before and after
}

// Apply returns the state after a step, when its signer was entitled to it and it is what
// its record says. All else is a [blob.ErrIntegrity], or an error of the source.
func (s State) Apply(ctx context.Context, step Step) (State, error) { panic("todo") }
