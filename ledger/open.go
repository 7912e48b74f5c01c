package ledger

import (
	"context"
	"crypto"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Trust is where trust in a keyring starts. The highest point counts; all must be
// consistent with it.
type Trust struct {
	Pins       []Pin  // of any keyrings: those of the one in the store count
	Checkpoint *Point // given by a person

	// Voucher is a public key: the newest checkpoint that it has signed counts as
	// accepted. It is used only where there is neither a pin nor a Checkpoint.
	Voucher crypto.PublicKey

	Accepted   []Point // recoveries that were accepted, by the checkpoints that introduced them
	OlderState bool    // go back to what is there where the pinned head is not, see [Report.Older]
	Write      bool    // check every step from the pin on, as a writer must
}

// A Pin is what was accepted of a keyring: it must not come from the store.
type Pin struct {
	Keyring blob.ID
	First   Digest // of checkpoint 1, which tells keyrings with one identifier apart
	At      Point  // the head that was accepted last
	Checked Point  // the last point up to which every step was checked; the zero Point: none
}

// A Report says what opening a keyring has found.
type Report struct {
	Before     Point           // the point where trust started, and at which nothing was to be checked
	Unpinned   bool            // it started at a voucher's signature
	Recoveries []RecoveryEvent // since then, oldest first, that nobody has accepted
	Older      *Rollback       // with [Trust.OlderState]: what is missing
}

// A RecoveryEvent is a checkpoint by which a backup authority has put a new owner in the
// place of one whose key was lost.
type RecoveryEvent struct {
	At         Point
	Created    time.Time
	Authority  blob.Member
	From, To   blob.Member
	Reason     string
	LastSigned Point     // the last checkpoint before it that From has signed; zero: none since the point where trust started
	LastTime   time.Time // of that
}

// Open opens the keyring in a store at its head, the newest checkpoint, which must
// descend from where trust starts.
//
// The head may be older than what others have recorded: a store can always hold back what
// nobody here has seen.
func Open(ctx context.Context, store blob.Store, trust Trust) (*Ledger, Report, error) { panic("todo") }

// Refresh opens the keyring again at the head that it has by now. With write every step
// is checked, as before a Commit.
func (l *Ledger) Refresh(ctx context.Context, write bool) (*Ledger, error) { panic("todo") }
