package hsmkeys

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token"
	"github.com/hsmkeys/hsmkeys/token/sharing"
)

// CreateQuorum makes a backup authority whose private key nobody has: it is made in the memory of this
// process, split among the custodians, and overwritten as far as package sharing can do that. Any
// threshold of them can recover. It returns the new member.
//
// Custodians need a label and a certificate, and that of their signing key if they have one; their number
// is 2 to [blob.MaxCustodians]. None of them may be a member. The errors are those of
// [Keyring.AddMember].
func (k *Keyring) CreateQuorum(ctx context.Context, label string, threshold int, custodians []blob.Member) (m blob.Member, err error) {
	err = k.recorder.changing(ctx, Use{Operation: OpAddMember, To: label}, "", func(ctx context.Context, _ *intent) (err error) {
		m, err = k.putQuorum(ctx, label, threshold, custodians, false)
		return err
	})
	return m, err
}

// ReplaceQuorum is CreateQuorum for a quorum that takes the place of the one with the label, with a new
// private key: after custodians have left, and after each recovery. [Keyring.Rewrap] brings it the keys
// that are there. It returns the new member.
func (k *Keyring) ReplaceQuorum(ctx context.Context, label string, threshold int, custodians []blob.Member) (m blob.Member, err error) {
	err = k.recorder.changing(ctx, Use{Operation: OpReplaceQuorum, To: label}, "", func(ctx context.Context, _ *intent) (err error) {
		m, err = k.putQuorum(ctx, label, threshold, custodians, true)
		return err
	})
	return m, err
}

func (k *Keyring) putQuorum(ctx context.Context, label string, threshold int, custodians []blob.Member, replace bool) (blob.Member, error) {
	op := fmt.Sprintf("make the quorum %q", label)
	former, m, err := k.newQuorum(ctx, op, label, threshold, custodians, replace)
	if err != nil {
		return blob.Member{}, fmt.Errorf("%s: %w", op, err)
	}
	return m, k.changeMembers(ctx, op, func(l *blob.MemberList, all *ledger.Members) error {
		rest, err := withoutQuorum(l.Members, former)
		if err != nil {
			return err
		}
		if err := refuseKnown(rest, m, all); err != nil {
			return err
		}
		for _, c := range m.Quorum.Custodians {
			if err := refuseCustodian(rest, c, all); err != nil {
				return err
			}
		}
		l.Members = append(rest, m)
		return nil
	})
}

// withoutQuorum returns the members without a former quorum, unless that is the zero value. It must be the
// one that was looked at: somebody else may have replaced it.
func withoutQuorum(members []blob.Member, former blob.Member) ([]blob.Member, error) {
	if former.Quorum == nil {
		return slices.Clone(members), nil
	}
	i := slices.IndexFunc(members, func(m blob.Member) bool { return m.Quorum != nil && m.Certificate.Equal(former.Certificate) })
	if i < 0 {
		return nil, fmt.Errorf("the quorum %q was replaced or removed: %w", former.Label, ErrMovedOn)
	}
	return slices.Delete(slices.Clone(members), i, i+1), nil
}

// newQuorum makes the key, splits it, and stores the shares. It returns the former quorum, if that is to be
// replaced, and the new one.
func (k *Keyring) newQuorum(ctx context.Context, op, label string, threshold int, custodians []blob.Member, replace bool) (former, m blob.Member, err error) {
	if err := k.refresh(ctx); err != nil {
		return former, m, err
	}
	if err := k.mayChange(op); err != nil {
		return former, m, err
	}
	if replace {
		if former, err = k.Quorum(label); err != nil {
			return former, m, err
		}
	} else if i := slices.IndexFunc(k.Members(), func(m blob.Member) bool { return m.Label == label }); i >= 0 {
		return former, m, fmt.Errorf("the label %q is that of another member: %w", label, blob.ErrExists)
	}
	for _, c := range custodians { // before a key is made
		if err := checkMember(c); err != nil {
			return former, m, fmt.Errorf("custodian %q: %w", c.Label, err)
		}
		if err := refuseCustodian(k.Members(), c, k.members()); err != nil {
			return former, m, err
		}
	}
	split, err := sharing.New(threshold, len(custodians))
	if err != nil {
		return former, m, err
	}
	defer func() {
		for _, share := range split.Shares {
			clear(share)
		}
	}()
	m = blob.Member{Role: blob.BackupAuthority, Label: label, Quorum: &blob.Quorum{Threshold: threshold, Custodians: custodians}}
	if m.Certificate, err = split.Pair.Certify(ctx, label); err != nil {
		return former, m, err
	}
	m.Quorum.Shares, err = k.putShares(ctx, m, split)
	return former, m, err
}

// putShares seals the shares to the custodians, signs them and stores them.
func (k *Keyring) putShares(ctx context.Context, m blob.Member, split *sharing.Split) ([sha256.Size]byte, error) {
	now := time.Now()
	s := blob.Shares{KeyringID: k.ID(), Created: now, Certificate: m.Certificate, Commitments: split.Commitments}
	_, _ = rand.Read(s.ID[:]) // never fails
	for i, c := range m.Quorum.Custodians {
		sealed, err := sharing.Seal(ctx, split.Shares[i], c.Certificate.PublicKey, token.CertifiedOAEPHash(c.Certificate))
		if err != nil {
			return [sha256.Size]byte{}, fmt.Errorf("custodian %q: %w", c.Label, err)
		}
		s.Sealed = append(s.Sealed, sealedTo(identifier(c), sealed))
	}
	signed, err := blob.SignShares(s, k.signs(), now)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	digest := sha256.Sum256(signed.Bytes())
	return digest, k.store.Put(ctx, blob.SharesPath(digest), signed.Bytes())
}

func sealedTo(identifier string, s sharing.Sealed) blob.Sealed {
	return blob.Sealed{Recipient: blob.Recipient{Identifier: []byte(identifier), Key: s.Key}, IV: s.IV, Content: s.Content}
}

func sealedOf(s blob.Sealed) sharing.Sealed {
	return sharing.Sealed{Key: s.Recipient.Key, IV: s.IV, Content: s.Content}
}

// refuseCustodian refuses a custodian whose key is a member's: a member holds every key by itself.
func refuseCustodian(members []blob.Member, c blob.Member, all *ledger.Members) error {
	for _, m := range members {
		for _, id := range []string{keyID(m), signerID(m)} {
			if id == keyID(c) || id == signerID(c) {
				return withFacts(fmt.Errorf("custodian %q: its key is that of the %s %q: %w", c.Label, m.Role, m.Label, blob.ErrExists), ErrMemberIsCustodian)
			}
		}
	}
	if err := all.CheckIdentifiers(c); err != nil {
		return withFacts(fmt.Errorf("custodian %q: %w", c.Label, err), ErrIdentifierTaken)
	}
	return nil
}

// leavesRoom returns a [blob.ErrTooLarge] if a list of members is so large that a recovery by one of its
// quorums, with the approvals and the certificates of a new owner, might not fit.
func leavesRoom(l blob.MemberList) error {
	const forApproval, forOwner = 2 << 10, 16 << 10
	threshold := 0
	for _, m := range l.Members {
		if m.Quorum != nil {
			threshold = max(threshold, m.Quorum.Threshold)
		}
	}
	if threshold == 0 {
		return nil
	}
	size := 0
	for _, m := range l.Everybody() {
		size += len(m.Certificate.Raw) + len(m.Label) + 64
		if m.Signing != nil {
			size += len(m.Signing.Raw)
		}
	}
	if size+threshold*forApproval+forOwner > blob.MaxSize {
		return fmt.Errorf("the certificates have %d bytes, which leaves no room for the approvals of a recovery: %w", size, blob.ErrTooLarge)
	}
	return nil
}

// Quorum returns the quorum with a label, or if that is empty the only one. The error is a
// [blob.ErrNotFound].
func (k *Keyring) Quorum(label string) (blob.Member, error) {
	all := k.Members()
	i, err := quorumIn(all, label)
	if err != nil {
		return blob.Member{}, err
	}
	return all[i], nil
}

// quorumIn returns the index of the quorum with a label, or if that is empty of the only one.
func quorumIn(members []blob.Member, label string) (int, error) {
	found := -1
	for i, m := range members {
		if m.Quorum == nil || label != "" && m.Label != label {
			continue
		}
		if found >= 0 {
			return 0, withFacts(fmt.Errorf("there are several quorums: %w", blob.ErrNotFound), &NoSuchMember{blob.BackupAuthority})
		}
		found = i
	}
	if found >= 0 {
		return found, nil
	}
	if label == "" {
		return 0, withFacts(fmt.Errorf("there is no quorum: %w", blob.ErrNotFound), ErrNoQuorum)
	}
	return 0, withFacts(fmt.Errorf("no quorum has the label %q: %w", label, blob.ErrNotFound), ErrNoQuorum)
}

// shares returns the shares of a quorum, once it is verified that an owner has signed them, and that they
// are those that the list of members names.
func (k *Keyring) shares(ctx context.Context, m blob.Member) (blob.Shares, error) {
	s, err := k.readShares(ctx, m)
	if errors.Is(err, blob.ErrNotFound) {
		err = withFacts(fmt.Errorf("%w: %w", blob.ErrIntegrity, err), &BlobGone{Path: blob.SharesPath(m.Quorum.Shares)})
	}
	if err != nil {
		return blob.Shares{}, fmt.Errorf("shares of the quorum %q: %w", m.Label, err)
	}
	return s, nil
}

func (k *Keyring) readShares(ctx context.Context, m blob.Member) (blob.Shares, error) {
	der, err := k.store.Get(ctx, blob.SharesPath(m.Quorum.Shares))
	if err != nil {
		return blob.Shares{}, err
	}
	if sha256.Sum256(der) != m.Quorum.Shares {
		return blob.Shares{}, fmt.Errorf("another digest than the list of members names: %w", blob.ErrMisplaced)
	}
	u, err := blob.ParseShares(der)
	if err != nil {
		return blob.Shares{}, err
	}
	v, err := u.Verify(k.members().EverOwners(), k.ID(), m)
	if err != nil {
		return blob.Shares{}, err
	}
	return v.Shares(), nil
}

// VerifyQuorums verifies the shares of each quorum: that they are there, and that an owner has signed them.
// That they open, only custodians can find out, see [Custodian.Check].
func (k *Keyring) VerifyQuorums(ctx context.Context) (err error) {
	for _, m := range k.Members() {
		if m.Quorum != nil {
			_, failed := k.shares(ctx, m)
			err = errors.Join(err, failed)
		}
	}
	return err
}

// ownShare unseals the share of a custodian with its pair, and checks it against the commitments. The
// caller must overwrite it.
func ownShare(ctx context.Context, pair Pair, s blob.Shares, index int) ([]byte, error) {
	share, err := sharing.Open(ctx, pair, sealedOf(s.Sealed[index]))
	if errors.Is(err, keyspec.ErrWrapped) {
		err = fmt.Errorf("%w: %w", blob.ErrIntegrity, err)
	}
	if err != nil {
		return nil, err
	}
	if err := sharing.Check(index+1, share, s.Commitments); err != nil {
		clear(share)
		return nil, fmt.Errorf("%w: %w", blob.ErrIntegrity, err)
	}
	return share, nil
}
