package ledger

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// checkApprovals checks that a list of members has the approvals without which it may not follow the one
// before it, and no others; and returns who has made them. signer is the member of the list before who
// has signed the checkpoint that introduces it, at the time at.
//
// A change obeys the policy and the custodians of the list before it: otherwise the first thing that a
// change did would be to lift what forbids it.
func checkApprovals(before blob.MemberList, ref blob.ListRef, l blob.MemberList, signer blob.Member, at time.Time) ([]blob.Member, error) {
	needed := 0
	switch {
	case l.Recovery != nil && signer.Quorum != nil:
		needed = signer.Quorum.Threshold
	case l.Recovery != nil && before.Policy.QuorumOnly:
		return nil, fmt.Errorf("the backup authority %q has signed a recovery, and list of members %d wants every recovery to be a quorum's: %w", signer.Label, before.Number, ErrApproval)
	case l.Recovery == nil && before.Policy.SecondOwner:
		needed = 1
	}
	var approved []blob.Member
	for _, der := range l.Approvals {
		who, _, err := checkApproval(der, before, ref, l, signer, at)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(approved, func(m blob.Member) bool { return KeyID(m) == KeyID(who) }) {
			return nil, fmt.Errorf("%q approves list of members %d twice: %w", who.Label, l.Number, ErrApproval)
		}
		approved = append(approved, who)
	}
	if len(approved) < needed {
		return nil, fmt.Errorf("list of members %d has the approval of %d, and needs that of %d: %w", l.Number, len(approved), needed, ErrApproval)
	}
	return approved, nil
}

// CheckApproval checks one approval of a list of members that is to follow the one in force, to be signed
// by a member at a time, as everybody will who reads it. It returns it, and who has made it: a custodian of the
// member's quorum where the list is a recovery, or another owner. The error is an [ErrApproval], or that
// of a signature.
//
// The list may also be one that was in force already: an approval that was made for it is still one.
func (l *Ledger) CheckApproval(der []byte, next blob.MemberList, signer blob.Member, at time.Time) (blob.Member, blob.Approval, error) {
	before, digest, err := l.before(next)
	if err != nil {
		return blob.Member{}, blob.Approval{}, err
	}
	return checkApproval(der, before, blob.ListRef{Number: before.Number, Digest: digest}, next, signer, at)
}

// CheckNext returns an error unless a list of members may follow the one before it: the one in force, or
// an earlier one. It does not look at approvals.
func (l *Ledger) CheckNext(next blob.MemberList) error {
	before, digest, err := l.before(next)
	if err != nil {
		return err
	}
	return follows(before, blob.ListRef{Number: before.Number, Digest: digest}, next, blob.Checkpoint{KeyringID: l.ID(), List: blob.ListRef{Number: next.Number}})
}

// before returns the list of members before one, and its digest.
func (l *Ledger) before(next blob.MemberList) (blob.MemberList, Digest, error) {
	newest := len(l.members.lists)
	if next.Number < 2 || next.Number > newest+1 {
		return blob.MemberList{}, Digest{}, fmt.Errorf("list of members %d does not follow one of 1 to %d: %w", next.Number, newest, ErrIllegal)
	}
	digest := l.head.List.Digest
	if next.Number <= newest {
		digest = Digest(l.members.lists[next.Number-1].Previous)
	}
	return l.members.ListNumber(next.Number - 1), digest, nil
}

// Changed returns the members who join and who leave with a list that is to follow another one. A member
// that changes is in both.
func Changed(before, next blob.MemberList) (joined, left []blob.Member) {
	return without(next.Members, before.Members), without(before.Members, next.Members)
}

func checkApproval(der []byte, before blob.MemberList, ref blob.ListRef, l blob.MemberList, signer blob.Member, at time.Time) (blob.Member, blob.Approval, error) {
	u, err := blob.ParseApproval(der)
	if err != nil {
		return blob.Member{}, blob.Approval{}, err
	}
	mayApprove := approvers(before, l, signer)
	v, err := u.Verify(signers(mayApprove))
	if err != nil {
		return blob.Member{}, blob.Approval{}, fmt.Errorf("approval signed by %x: %w: %w", u.SignerIdentifier(), ErrApproval, err)
	}
	who := mayApprove[slices.IndexFunc(mayApprove, func(m blob.Member) bool { return SignerID(m) == string(v.SignerKeyID()) })]
	proposed, err := blob.ProposedDigest(l)
	if err != nil {
		return blob.Member{}, blob.Approval{}, err
	}
	refuse := func(why string) (blob.Member, blob.Approval, error) {
		return blob.Member{}, blob.Approval{}, fmt.Errorf("the approval of %q %s: %w", who.Label, why, ErrApproval)
	}
	a := v.Approval()
	switch {
	case a.KeyringID != l.KeyringID:
		return refuse("is for another keyring")
	case a.List != ref.Digest:
		return refuse("is for another list of members in force")
	case a.Proposed != proposed:
		return refuse("is for another change")
	case (a.Quorum != nil) != (l.Recovery != nil), a.Quorum != nil && a.Quorum.Certificate != certificateDigest(signer):
		return refuse("is for another quorum")
	case at.After(a.Expires):
		return refuse("expired on " + a.Expires.Format(time.RFC3339))
	}
	return who, a, nil
}

// approvers returns who may approve a list of members: in a recovery the custodians of the quorum that
// signs, otherwise the owners who do not sign.
func approvers(before, l blob.MemberList, signer blob.Member) (all []blob.Member) {
	if l.Recovery != nil {
		if signer.Quorum == nil {
			return nil
		}
		return signer.Quorum.Custodians
	}
	for _, m := range before.Members {
		if m.Role == blob.Owner && KeyID(m) != KeyID(signer) {
			all = append(all, m)
		}
	}
	return all
}

// Approved returns who has approved a list of members, by its number: custodians of the quorum that has
// recovered, or owners. That these are enough was checked when the list was.
func (m *Members) Approved(number int) (all []blob.Member) {
	if number < 2 {
		return nil
	}
	for _, der := range m.lists[number-1].Approvals {
		if who, _, err := m.approval(number, der); err == nil {
			all = append(all, who)
		}
	}
	return all
}

// RecoveredBy returns the SHA-256 of the certificate of the quorum that has recovered by a list of members,
// or the zero value.
func (m *Members) RecoveredBy(number int) [32]byte {
	for _, der := range m.lists[number-1].Approvals {
		if _, a, err := m.approval(number, der); err == nil && a.Quorum != nil {
			return a.Quorum.Certificate
		}
	}
	return [32]byte{}
}

// QuorumUsed returns the number of the first list of members by which a quorum has recovered, or 0. Its
// private key was in the memory of a machine then.
func (m *Members) QuorumUsed(quorum blob.Member) int {
	for _, l := range m.lists[1:] {
		if l.Recovery != nil && m.RecoveredBy(l.Number) == certificateDigest(quorum) {
			return l.Number
		}
	}
	return 0
}

// approval returns an approval in the list with a number, and who has made it.
func (m *Members) approval(number int, der []byte) (blob.Member, blob.Approval, error) {
	u, err := blob.ParseApproval(der)
	if err != nil {
		return blob.Member{}, blob.Approval{}, err
	}
	before := m.lists[number-2]
	v, err := u.Verify(signers(before.Everybody()))
	if err != nil {
		return blob.Member{}, blob.Approval{}, err
	}
	a, mayApprove := v.Approval(), before.Members
	for _, quorum := range before.Members {
		if a.Quorum != nil && quorum.Quorum != nil && certificateDigest(quorum) == a.Quorum.Certificate {
			mayApprove = quorum.Quorum.Custodians // who may have another label in another quorum
		}
	}
	i := slices.IndexFunc(mayApprove, func(m blob.Member) bool { return SignerID(m) == string(v.SignerKeyID()) })
	if i < 0 {
		return blob.Member{}, blob.Approval{}, ErrApproval
	}
	return mayApprove[i], a, nil
}

// certificateDigest returns how an approval names a quorum.
func certificateDigest(quorum blob.Member) [32]byte { return sha256.Sum256(quorum.Certificate.Raw) }
