package hsmkeys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// ErrProposal is the error for a proposal that cannot be approved.
var ErrProposal = errors.New("the proposal cannot be approved")

// A ProposeFunc gets a change of members that is proposed to another owner, with the approval of this one.
type ProposeFunc func(blob.Proposal) error

// propose hands a change of members to [Options.Propose] in place of recording it.
func (k *Keyring) propose(ctx context.Context, edit func(*blob.MemberList, *ledger.Members) error) error {
	list := k.view().NextList()
	if err := edit(&list, k.members()); err != nil {
		return err
	}
	i := intentOf(ctx)
	i.about(Use{Operation: OpPropose}, ledger.Point{})
	if err := k.recorder.begin(i, Use{}); err != nil {
		return err
	}
	digest := k.view().Head().Checkpoint().List.Digest
	list.Number, list.Previous, list.Created = list.Number+1, digest[:], time.Now()
	p := blob.Proposal{Expires: time.Now().Add(k.options.ProposeFor), List: list}
	approval, err := signApproval(p, nil, k.signs())
	if err != nil {
		return err
	}
	p.List.Approvals = [][]byte{approval}
	return k.options.Propose(p)
}

// Proposer returns the owner who has proposed a change of members, and who joins and leaves with it; a
// member that changes is in both. The error is an [ErrProposal] or a [ledger.ErrApproval].
func (k *Keyring) Proposer(ctx context.Context, p blob.Proposal) (by blob.Member, joined, left []blob.Member, err error) {
	if p.Recovery != nil {
		return by, nil, nil, withFacts(fmt.Errorf("%w: it is a recovery, for the custodians of a quorum", ErrProposal), ErrForCustodians)
	}
	if err := k.refresh(ctx); err != nil {
		return by, nil, nil, err
	}
	if err := k.CheckProposal(p); err != nil {
		return by, nil, nil, err
	}
	if len(p.List.Approvals) != 1 {
		return by, nil, nil, fmt.Errorf("%w: it has %d approvals, and not that of its proposer", ErrProposal, len(p.List.Approvals))
	}
	if u, err := blob.ParseApproval(p.List.Approvals[0]); err == nil && string(k.members().Key(u.SignerIdentifier())) == string(k.signer) {
		return by, nil, nil, withFacts(fmt.Errorf("%w: this owner has proposed it", ErrProposal), ErrOwnProposal)
	}
	by, _, err = k.view().CheckApproval(p.List.Approvals[0], p.List, k.Self(), time.Now())
	if err != nil {
		return by, nil, nil, err
	}
	joined, left = ledger.Changed(k.members().List(), p.List)
	for _, m := range joined { // or nobody could put its key together
		if m.Quorum == nil {
			continue
		}
		if _, err := k.shares(ctx, m); err != nil {
			return by, nil, nil, fmt.Errorf("%w: %w", ErrProposal, err)
		}
	}
	return by, joined, left, nil
}

// ApproveChange records a change of members that another owner has proposed, once a person has seen it, see
// [Keyring.Proposer].
func (k *Keyring) ApproveChange(ctx context.Context, p blob.Proposal) error {
	return k.recorder.changing(ctx, Use{Operation: OpApprove}, "", func(ctx context.Context, _ *intent) error {
		if err := k.mustOwn("approve a change"); err != nil {
			return err
		}
		if _, _, _, err := k.Proposer(ctx, p); err != nil {
			return err
		}
		err := k.recordOther(ctx, ledger.Proposal{List: func(l *ledger.Ledger) (*blob.MemberList, error) {
			if now := l.Head().Checkpoint().List; !bytes.Equal(now.Digest[:], p.List.Previous) {
				return nil, fmt.Errorf("%w: the members have changed since: list %d is in force", ErrProposal, now.Number)
			}
			return &p.List, nil
		}}, onToken)
		if err != nil {
			return fmt.Errorf("approve a change: %w", err)
		}
		return nil
	})
}

// CheckProposal returns an [ErrProposal] unless a proposal is for this keyring, follows the list of members
// in force, and has not expired.
func (k *Keyring) CheckProposal(p blob.Proposal) error {
	switch l := p.List; {
	case l.KeyringID != k.ID():
		return fmt.Errorf("%w: it is for keyring %s, and this is %s", ErrProposal, l.KeyringID, k.ID())
	case l.Number != k.ListNumber()+1:
		return fmt.Errorf("%w: it follows list of members %d, and %d is in force", ErrProposal, l.Number-1, k.ListNumber())
	case time.Now().After(p.Expires):
		return fmt.Errorf("%w: it expired on %s", ErrProposal, p.Expires.Format(time.RFC3339))
	case p.Recovery != nil && len(l.Approvals) > 0:
		return fmt.Errorf("%w: it has approvals already", ErrProposal)
	}
	if err := k.view().CheckNext(p.List); err != nil {
		return fmt.Errorf("%w: %w", ErrProposal, err)
	}
	return nil
}

// RecoveryOf returns who a recovery that is proposed puts in whose place, once CheckProposal has found it
// to be one.
func (k *Keyring) RecoveryOf(p blob.Proposal) (from, to blob.Member) {
	joined, left := ledger.Changed(k.members().ListNumber(p.List.Number-1), p.List)
	return left[0], joined[0]
}
