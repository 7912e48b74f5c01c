package ledger

import (
	"context"
	"iter"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// An Event is a change that a checkpoint has recorded.
type Event struct {
	At      Point
	Created time.Time
	Signer  blob.Member
	Change  Change // the zero Change where it is about members

	Joined, Left []blob.Member // by a new list of members; whose label or certificate changes is in both
	List         int           // the number of the list; 0: no new one
	Recovery     *blob.Recovery
}

// Log returns the events of the checkpoints since+1 to the head, oldest first, from the
// verified chain.
func (l *Ledger) Log(ctx context.Context, since int) iter.Seq2[Event, error] { panic("todo") }
