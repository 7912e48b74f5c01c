package ledger

import (
	"errors"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Errors to be tested for with [errors.Is]. All but ErrList, ErrRace and ErrDoubt match
// [blob.ErrIntegrity] too.
var (
	// ErrRollback means that the store holds an older state than one accepted before, or a
	// different one in its place. The error is a [*Rollback].
	ErrRollback = keyspec.NewKind("old state of the keyring", blob.ErrIntegrity)

	// ErrFork means that two copies of the keyring have been written to. The error is a
	// [*Fork], which describes both sides.
	ErrFork = keyspec.NewKind("two copies of the keyring have been written to", blob.ErrIntegrity)

	// ErrIncomplete means that the store lacks a checkpoint although it has later ones, or
	// lacks an object that a checkpoint refers to.
	ErrIncomplete = keyspec.NewKind("incomplete copy of the keyring", blob.ErrIntegrity)

	// ErrOtherKeyring means that the store contains a different keyring from the one expected.
	ErrOtherKeyring = keyspec.NewKind("another keyring", blob.ErrIntegrity)

	// ErrIllegal means that a checkpoint makes a change that its signer is not entitled to,
	// or a change that its record does not describe.
	ErrIllegal = keyspec.NewKind("checkpoint breaks the rules", blob.ErrIntegrity)

	// ErrApproval means that a list of members lacks the approvals that it needs, or has one
	// that is not for it.
	ErrApproval = keyspec.NewKind("not approved", ErrIllegal)

	// ErrUnpinned means that trust has nowhere to start: there is no pin, checkpoint or
	// voucher for the keyring. It is a [blob.ErrUntrusted].
	ErrUnpinned = keyspec.NewKind("no checkpoint of the keyring has been accepted before", blob.ErrUntrusted)

	// ErrCompacted means that a step can no longer be checked, because a compaction removed
	// the nodes from before it. A writer must start from a later checkpoint.
	ErrCompacted = keyspec.NewKind("what was there before a compaction is gone", blob.ErrIntegrity)

	// ErrUnaccepted means that a backup authority has replaced an owner since the accepted
	// checkpoint, and that this recovery has not been accepted yet. The error is an
	// [*Unaccepted].
	ErrUnaccepted = keyspec.NewKind("a recovery has not been accepted", blob.ErrIntegrity)

	// ErrRehearsal means that a list of members was made in a rehearsal, see [RehearsalStore], and is in
	// another store.
	ErrRehearsal = keyspec.NewKind("it was made in a rehearsal, and counts only there", blob.ErrIntegrity)

	// ErrList means that the list of members in force is not the one an edit requires.
	ErrList = errors.New("the list of members has changed")

	// ErrRace means that other writers were faster at every attempt. Nothing was recorded.
	ErrRace = errors.New("others changed the keyring at the same time")

	// ErrDoubt means that the store failed while recording the checkpoint, and that it is
	// not known whether it was recorded.
	ErrDoubt = errors.New("the change may have been recorded")
)
