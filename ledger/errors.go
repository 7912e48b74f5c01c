package ledger

import (
	"errors"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Errors of a ledger, found by [errors.Is]. All but ErrList, ErrRace and ErrDoubt are kinds
// of [blob.ErrIntegrity] as well.
var (
	// ErrRollback: the store shows an older state than one that was accepted, or
	// another one in its place. A [*Rollback] has the facts.
	ErrRollback error = &sentinel{"old state of the keyring", blob.ErrIntegrity}

	// ErrFork: two copies of the keyring have been written to. A [*Fork] has both
	// sides.
	ErrFork error = &sentinel{"two copies of the keyring have been written to", blob.ErrIntegrity}

	// ErrIncomplete: a checkpoint is missing, and later ones are there, or what a
	// checkpoint refers to is missing.
	ErrIncomplete error = &sentinel{"incomplete copy of the keyring", blob.ErrIntegrity}

	// ErrIllegal: a checkpoint does what its signer may not do, or not what it says.
	ErrIllegal error = &sentinel{"checkpoint breaks the rules", blob.ErrIntegrity}

	// ErrUnpinned: nothing says which keyring is meant, or up to where it is to be
	// believed. It is a [blob.ErrUntrusted].
	ErrUnpinned error = &sentinel{"no checkpoint of the keyring has been accepted before", blob.ErrUntrusted}

	// ErrCompacted: a step cannot be checked any more, as the nodes from before it were
	// removed. Whoever wants to write has to be told a later checkpoint to start from.
	ErrCompacted error = &sentinel{"what was there before a compaction is gone", blob.ErrIntegrity}

	// ErrUnaccepted: between what was accepted and the head a backup authority has put
	// a new owner in the place of another, which nobody here has accepted yet. An
	// [Unaccepted] has the facts.
	ErrUnaccepted error = &sentinel{"a recovery has not been accepted", blob.ErrIntegrity}

	// ErrList: the list of members in force is another one than an edit was made for.
	ErrList = errors.New("the list of members has changed")

	// ErrRace: others were faster, as often as it was tried. Nothing was recorded.
	ErrRace = errors.New("others changed the keyring at the same time")

	// ErrDoubt: the store failed after it had been given the checkpoint, and does not
	// tell whether it has it.
	ErrDoubt = errors.New("the change may have been recorded")
)

// A sentinel is an error that is of another kind as well, which its text does not repeat.
type sentinel struct {
	text   string
	parent error
}

func (e *sentinel) Error() string { return e.text }
func (e *sentinel) Unwrap() error { return e.parent }
