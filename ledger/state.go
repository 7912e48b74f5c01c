package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A ledgerState is a keyring as of one checkpoint, each step up to which was checked. The zero
// value is that before the first checkpoint. It does not change.
type ledgerState struct {
	Keyring blob.ID
	At      Point
	Time    time.Time       // when the checkpoint was made, by its signer's clock
	List    blob.MemberList // in force
	ListRef blob.ListRef
	Trie    Trie

	log   edge  // of the checkpoints before that at At
	names names // of all lists up to List
}

// A transition is a checkpoint with what it refers to, as they came from storage.
type transition struct {
	Checkpoint *blob.UnverifiedCheckpoint
	Members    []byte // the list of members, where the checkpoint introduces one
	Changes    []byte // the record of changes
	Source     Source // has the nodes that differ, before and after
}

// apply returns the state after a step, if its signer was entitled to it and it does what
// its record says. Everything else is a [blob.ErrIntegrity], or an error of the source.
//
// Any owner whom the state's list of members names may sign a step; a backup authority only
// one that introduces the list of a recovery and changes nothing else. The first step is
// signed by an owner in the list that it introduces; whether that is the right keyring only
// its digest tells, from a place that is trusted.
func (s ledgerState) apply(ctx context.Context, step transition) (ledgerState, error) {
	next, err := s.advance(ctx, step)
	if err != nil {
		return ledgerState{}, inCheckpoint(s.At.Number+1, err)
	}
	return next, nil
}

func inCheckpoint(number int, err error) error { return fmt.Errorf("checkpoint %d: %w", number, err) }

// advance is apply, and returns the state after the step also where the nodes are missing with
// which to check its record, an [ErrIncomplete].
func (s ledgerState) advance(ctx context.Context, step transition) (ledgerState, error) {
	c, err := claims(step.Checkpoint)
	if err != nil {
		return ledgerState{}, err
	}
	next, added, err := s.follow(c, step.Checkpoint.Digest())
	if err != nil {
		return ledgerState{}, err
	}
	if err := next.changeList(s, c, step.Members); err != nil {
		return ledgerState{}, err
	}
	before := s.List
	if s.At.Number == 0 {
		before = next.List
	}
	signed, err := entitled(step.Checkpoint, before, next.recovery(s))
	if err != nil {
		return ledgerState{}, err
	}
	if next.ListRef != s.ListRef {
		signer, _ := signerOf(before, signed.SignerKeyID())
		if _, err := checkApprovals(s.List, s.ListRef, next.List, signer, c.Created); err != nil {
			return ledgerState{}, err
		}
	}
	return next, s.checkRecord(ctx, next, c, step, added)
}

// claims returns the contents of a checkpoint before its signature is verified.
func claims(u *blob.UnverifiedCheckpoint) (blob.Checkpoint, error) {
	v, err := u.VerifyDigest(u.Digest())
	if err != nil {
		return blob.Checkpoint{}, err
	}
	return v.Checkpoint(), nil
}

// follow checks that a checkpoint is the next one, and returns the state after it, with the
// list of before, and the hashes that its record has to add to the log.
func (s ledgerState) follow(c blob.Checkpoint, digest Digest) (ledgerState, []Digest, error) {
	log, added := s.log, []Digest(nil)
	if s.At.Number > 0 {
		log, added = s.log.add(s.At.Digest)
	}
	switch {
	case c.Number != s.At.Number+1:
		return ledgerState{}, nil, fmt.Errorf("signed as number %d: %w", c.Number, blob.ErrMisplaced)
	case s.At.Number > 0 && c.KeyringID != s.Keyring:
		return ledgerState{}, nil, fmt.Errorf("of keyring %s, the one before of %s: %w", c.KeyringID, s.Keyring, blob.ErrMisplaced)
	case s.At.Number > 0 && !bytes.Equal(c.Previous, s.At.Digest[:]):
		return ledgerState{}, nil, fmt.Errorf("follows another checkpoint than the one before it: %w", blob.ErrMisplaced)
	case c.Log != log.hash():
		return ledgerState{}, nil, fmt.Errorf("has another log of the checkpoints before it: %w", ErrIllegal)
	}
	return ledgerState{
		Keyring: c.KeyringID, At: Point{c.Number, digest}, Time: c.Created,
		List: s.List, ListRef: s.ListRef, names: s.names,
		Trie: Trie{Root: c.Root, At: c.RootAt, Keys: c.Keys}, log: log,
	}, added, nil
}

// changeList takes in the list of members that the checkpoint introduces, if it does.
func (s *ledgerState) changeList(before ledgerState, c blob.Checkpoint, der []byte) error {
	if c.List.Introduced != c.Number {
		if c.List != before.ListRef {
			return fmt.Errorf("names list of members %d, in force is %d: %w", c.List.Number, before.ListRef.Number, ErrIllegal)
		}
		return nil
	}
	list, err := introduced(before.List, before.ListRef, c, der)
	if err != nil {
		return err
	}
	known := names{}
	for name, key := range before.names {
		known[name] = key
	}
	if err := known.add(list.Everybody()); err != nil {
		return fmt.Errorf("list of members %d: %w", list.Number, err)
	}
	s.List, s.ListRef, s.names = list, c.List, known
	return nil
}

// recovery reports whether the step to s from the state before is a recovery.
func (s ledgerState) recovery(before ledgerState) bool {
	return s.ListRef != before.ListRef && s.List.Recovery != nil
}

// checkRecord checks that what a step has changed is what its record says, and allowed.
func (s ledgerState) checkRecord(ctx context.Context, next ledgerState, c blob.Checkpoint, step transition, added []Digest) error {
	if sha256.Sum256(step.Changes) != c.Changes {
		return fmt.Errorf("another record of changes: %w", blob.ErrMisplaced)
	}
	record, err := ParseRecord(step.Changes)
	if err != nil {
		return err
	}
	if !slices.Equal(record.Log, added) {
		return fmt.Errorf("its record adds other hashes to the log: %w", ErrIllegal)
	}
	trie := s.Trie
	if s.At.Number == 0 {
		trie = emptyTrie()
	}
	if s.At.Number == 0 || next.recovery(s) {
		if next.Trie != trie || len(record.Changes) > 0 {
			return fmt.Errorf("changes keys, which the first checkpoint and a recovery must not: %w", ErrIllegal)
		}
		return nil
	}
	rules := rules{number: c.Number, at: c.Created, list: next.List.Number}
	return rules.check(Diff(ctx, step.Source, trie, next.Trie), record.Changes)
}

// introduced returns the list of members that a checkpoint introduces, and that follows
// from the list that was in force before it, the zero list for the first one.
func introduced(before blob.MemberList, ref blob.ListRef, c blob.Checkpoint, der []byte) (blob.MemberList, error) {
	if sha256.Sum256(der) != c.List.Digest {
		return blob.MemberList{}, fmt.Errorf("another list of members: %w", blob.ErrMisplaced)
	}
	l, err := blob.ParseMembers(der)
	if err != nil {
		return blob.MemberList{}, err
	}
	return l, follows(before, ref, l, c)
}

// follows checks that a list of members, which a checkpoint introduces, is the next one
// after the one that was in force.
func follows(before blob.MemberList, ref blob.ListRef, l blob.MemberList, c blob.Checkpoint) error {
	refuse := func(what string) error {
		return fmt.Errorf("introduces list of members %d after %d, which %s: %w", l.Number, before.Number, what, ErrIllegal)
	}
	switch {
	case l.Number != before.Number+1 || c.List.Number != l.Number:
		return refuse("is not the next one")
	case l.KeyringID != c.KeyringID:
		return refuse("is of another keyring")
	case l.Number > 1 && !bytes.Equal(l.Previous, ref.Digest[:]):
		return refuse("follows another list")
	case l.Recovery != nil:
		return checkRecovery(before, l)
	}
	return nil
}

// entitled verifies the signature of a checkpoint, of an owner whom a list names, or where
// it is a recovery, of a backup authority.
func entitled(u *blob.UnverifiedCheckpoint, list blob.MemberList, recovery bool) (*blob.VerifiedCheckpoint, error) {
	v, err := u.Verify(parties(list, blob.Owner, blob.BackupAuthority))
	if err != nil {
		return nil, fmt.Errorf("signed by %x: %w", u.SignerIdentifier(), err)
	}
	signer, _ := signerOf(list, v.SignerKeyID())
	switch {
	case recovery && signer.Role != blob.BackupAuthority:
		return nil, fmt.Errorf("the owner %q has signed a recovery, which is for a backup authority: %w", signer.Label, blob.ErrUntrusted)
	case !recovery && signer.Role != blob.Owner:
		return nil, fmt.Errorf("the backup authority %q has signed outside a recovery: %w", signer.Label, blob.ErrUntrusted)
	}
	return v, nil
}
