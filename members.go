package hsmkeys

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// AddMember records the next list of members, with one member more. From then on every
// key is wrapped to the member; Rewrap brings it those that are there.
//
// It refuses with [blob.ErrExists] when one of its keys or the label is a member's, and
// with [ErrCertificate], see [CheckRecipient] and [CheckSigner].
func (k *Keyring) AddMember(ctx context.Context, m blob.Member) error {
	return k.recorder.changing(ctx, Use{Operation: OpAddMember, To: m.Label}, "", func(ctx context.Context, _ *intent) error {
		op := fmt.Sprintf("add the %s %q", m.Role, m.Label)
		if err := checkMember(m); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
		return k.changeMembers(ctx, op, func(l *blob.MemberList, all *ledger.Members) error {
			if err := refuseKnown(l.Members, m, all); err != nil {
				return err
			}
			l.Members = append(l.Members, m)
			return nil
		})
	})
}

// refuseKnown refuses a key or a label that is a member's already, and an identifier that
// any list of members has given to another key.
func refuseKnown(members []blob.Member, m blob.Member, all *ledger.Members) error {
	for _, other := range (blob.MemberList{Members: members}).Everybody() {
		for _, id := range []string{keyID(other), signerID(other)} {
			switch id {
			case keyID(m):
				return fmt.Errorf("its key is that of the %s %q: %w", other.Role, other.Label, blob.ErrExists)
			case signerID(m):
				return fmt.Errorf("its signing key is that of the %s %q: %w", other.Role, other.Label, blob.ErrExists)
			}
		}
		if other.Label == m.Label && other.Role != blob.Custodian {
			return withFacts(fmt.Errorf("the label %q is that of another member: %w", m.Label, blob.ErrExists), ErrLabelTaken)
		}
	}
	if err := all.CheckIdentifiers(m); err != nil {
		return withFacts(err, ErrIdentifierTaken)
	}
	return nil
}

// RemoveMember records the next list of members, without a member. What the member has signed so
// far stays valid, as the state of the keyring names it. Blobs of an owner that the state does not
// name, as after two copies of a store were put together, are adopted first; those that cannot be
// are reported to skipped.
//
// The member can still open every version that was ever wrapped to it, also after a
// [Keyring.Rewrap]: see [Keyring.FormerHolders] and [Keyring.RotateFormer].
//
// It refuses with [blob.ErrNotFound] when nobody of that role has the label, or
// subject key identifier in hexadecimal, and with [ErrRole] when it is the pair's
// own or the last owner.
func (k *Keyring) RemoveMember(ctx context.Context, role blob.Role, label string, skipped func(error)) error {
	return k.recorder.changing(ctx, Use{Operation: OpRemoveMember, To: label}, "", func(ctx context.Context, i *intent) error {
		return k.removeMember(ctx, role, label, skipped, i)
	})
}

func (k *Keyring) removeMember(ctx context.Context, role blob.Role, label string, skipped func(error), i *intent) error {
	if err := k.refresh(ctx); err != nil {
		return err
	}
	m, err := k.MayRemove(role, label)
	if err != nil {
		return err
	}
	op := fmt.Sprintf("remove the %s %q", role, m.Label) // which label may not be
	i.about(Use{To: m.Label}, ledger.Point{})
	if role == blob.Owner {
		if err := k.adoptUnknown(ctx, signerID(m), skipped); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	return k.changeMembers(ctx, op, func(l *blob.MemberList, _ *ledger.Members) error {
		i, err := k.removable(l.Members, role, label)
		if err != nil {
			return err
		}
		l.Members = slices.Delete(l.Members, i, i+1)
		return nil
	})
}

// removable returns the index of the member that may be removed.
func (k *Keyring) removable(members []blob.Member, role blob.Role, label string) (int, error) {
	i := slices.IndexFunc(members, func(m blob.Member) bool {
		return m.Role == role && (m.Label == label || hex.EncodeToString([]byte(keyID(m))) == label)
	})
	switch {
	case i < 0:
		return 0, withFacts(fmt.Errorf("no %s has that label: %w", role, blob.ErrNotFound), &NoSuchMember{role})
	case role == blob.Owner && owners(members) == 1:
		return 0, withFacts(fmt.Errorf("it is the last owner: %w", ErrRole), ErrLastOwner)
	case keyID(members[i]) == string(k.self):
		return 0, withFacts(fmt.Errorf("it is this token's own pair: %w", ErrRole), ErrOwnPair)
	}
	return i, nil
}

func owners(members []blob.Member) (n int) {
	for _, m := range members {
		if m.Role == blob.Owner {
			n++
		}
	}
	return n
}

// changeMembers records the next list of members, or with [Options.Propose] proposes it. When somebody else has recorded one
// meanwhile, the change is made to that.
func (k *Keyring) changeMembers(ctx context.Context, op string, edit func(*blob.MemberList, *ledger.Members) error) error {
	if err := k.refresh(ctx); err != nil {
		return err
	}
	if err := k.mayChange(op); err != nil {
		return err
	}
	change := edit
	edit = func(l *blob.MemberList, all *ledger.Members) error {
		if err := change(l, all); err != nil {
			return err
		}
		if err := l.CheckPolicy(); err != nil {
			return err
		}
		return leavesRoom(*l)
	}
	if k.options.Propose != nil {
		if err := k.propose(ctx, edit); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
		return nil
	}
	err := k.recordOther(ctx, ledger.Proposal{List: func(l *ledger.Ledger) (*blob.MemberList, error) {
		next := l.NextList()
		return &next, edit(&next, l.Members())
	}}, onToken)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

// mayChange returns an error unless the pair is an owner's, and the policy lets it change members alone or
// the change is only proposed.
func (k *Keyring) mayChange(op string) error {
	if err := k.mustOwn(op); err != nil {
		return err
	}
	if k.Policy().SecondOwner && k.options.Propose == nil {
		return fmt.Errorf("%s: %w", op, ErrSecondOwner)
	}
	return nil
}

// Members returns the holders of the keys: owners and backup authorities.
func (k *Keyring) Members() []blob.Member { return k.members().List().Members }

// ListNumber returns the number of the list of members in force.
func (k *Keyring) ListNumber() int { return k.members().List().Number }

// Certificate returns the certificate by which the list of members knows the token's
// own pair.
func (k *Keyring) Certificate() (*x509.Certificate, error) {
	if k.pair == nil {
		return nil, errNoToken
	}
	return k.Self().Certificate, nil // opening insisted that it is there
}

// Self returns the member whose token this is.
func (k *Keyring) Self() blob.Member {
	m, _ := k.members().Member(string(k.self))
	return m
}

// Member returns the member, or the latest former member, with a role and label.
func (k *Keyring) Member(role blob.Role, label string) (blob.Member, error) {
	all := k.members()
	for number := all.List().Number; number >= 1; number-- {
		for _, m := range all.ListNumber(number).Members {
			if m.Role == role && m.Label == label {
				return m, nil
			}
		}
	}
	return blob.Member{}, fmt.Errorf("no %s has ever had the label %q: %w", role, label, blob.ErrNotFound)
}

// MemberWith returns the member, present or former, that has a certificate's key as its
// key exchange key or to sign.
func (k *Keyring) MemberWith(key crypto.PublicKey) (blob.Member, error) {
	id, err := blob.PublicKeyID(key)
	if err != nil {
		return blob.Member{}, err
	}
	for _, find := range []func(string) (blob.Member, bool){k.members().EverMember, k.members().EverSigner} {
		if m, ok := find(string(id)); ok {
			return m, nil
		}
	}
	return blob.Member{}, withFacts(fmt.Errorf("key %x is no member's, and never was: %w", id, blob.ErrNotFound), ErrNeverMember)
}

// MayRemove returns the member that [Keyring.RemoveMember] would remove, or the reason
// why it would refuse.
func (k *Keyring) MayRemove(role blob.Role, label string) (blob.Member, error) {
	op := fmt.Sprintf("remove the %s %q", role, label)
	if err := k.mustOwn(op); err != nil {
		return blob.Member{}, err
	}
	all := k.Members()
	i, err := k.removable(all, role, label)
	if err != nil {
		return blob.Member{}, fmt.Errorf("%s: %w", op, err)
	}
	rest := k.members().List()
	rest.Members = slices.Delete(rest.Members, i, i+1)
	if err := rest.CheckPolicy(); err != nil {
		return blob.Member{}, fmt.Errorf("%s: %w", op, err)
	}
	return all[i], nil
}

// LeftAt returns the number of the list of members that no longer names a member, or 0 for
// a member of today.
func (k *Keyring) LeftAt(m blob.Member) int {
	return k.members().LeftAt(keyID(m), keyID)
}

// FormerMembers returns the former members, sorted by label.
func (k *Keyring) FormerMembers() []blob.Member { return k.members().Former() }

func keyID(m blob.Member) string { return ledger.KeyID(m) }

func signerID(m blob.Member) string { return ledger.SignerID(m) }

// identifier returns how CMS names a member's key exchange key.
func identifier(m blob.Member) string {
	id, _ := blob.Identifier(m.Certificate) // of a list that was verified, so it has one
	return string(id)
}
