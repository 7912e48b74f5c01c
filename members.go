package hsmkeys

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/token"
)

// ErrCertificate is for a certificate to which no session key should be wrapped, or by
// whose key nobody should sign.
var ErrCertificate = errors.New("certificate refused")

// CheckRecipient says whether session keys may be wrapped to a certificate: RSA of at
// least 2048 bits (NIST SP 800-131A §6) or EC on P-256, P-384 or P-521, valid today,
// whose key usage, where it has one, allows keyEncipherment or for EC keyAgreement (RFC
// 5280 §4.2.1.3).
func CheckRecipient(c *x509.Certificate, now time.Time) error {
	usage, name := x509.KeyUsageKeyEncipherment, "encrypting keys (keyEncipherment)"
	if _, ok := c.PublicKey.(*ecdsa.PublicKey); ok {
		usage, name = x509.KeyUsageKeyAgreement, "agreeing on keys (keyAgreement)"
	}
	return checkCertificate(c, now, usage, name, "be wrapped to")
}

// CheckSigner says whether a certificate will do for a member's signing key: a key as
// for [CheckRecipient], valid today, whose key usage, where it has one, allows
// digitalSignature or nonRepudiation (RFC 5280 §4.2.1.3).
func CheckSigner(c *x509.Certificate, now time.Time) error {
	return checkCertificate(c, now, x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment, "signing (digitalSignature or nonRepudiation)", "sign")
}

// checkMember looks at both certificates of a member who is to come.
func checkMember(m blob.Member) error {
	if err := CheckRecipient(m.Certificate, time.Now()); err != nil || m.Signing == nil {
		return err
	}
	if err := CheckSigner(m.Signing, time.Now()); err != nil {
		return fmt.Errorf("signing key: %w", err)
	}
	if signerID(m) == keyID(m) {
		return hint(fmt.Errorf("signing key: %w: it is the key exchange key", ErrCertificate), "a signing certificate is for members who sign with another key")
	}
	return nil
}

// checkCertificate looks at what all certificates must be, and for the one usage.
func checkCertificate(c *x509.Certificate, now time.Time, usage x509.KeyUsage, name, can string) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrCertificate}, args...)...)
	}
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return refuse("RSA with %d bits is too weak, it needs 2048", key.N.BitLen())
		}
	case *ecdsa.PublicKey:
		if _, err := blob.SubjectKeyID(key); err != nil {
			return refuse("%w: EC on %s, and only P-256, P-384 and P-521 can %s", token.ErrUnsupported, key.Curve.Params().Name, can)
		}
	default:
		return refuse("%w: a %v key, and only RSA and EC can %s", token.ErrUnsupported, c.PublicKeyAlgorithm, can)
	}
	if _, err := blob.Identifier(c); err != nil {
		return refuse("%w", err)
	}
	switch {
	case restricted(c) && c.KeyUsage&usage == 0:
		return refuse("its key usage does not allow %s", name)
	case now.Before(c.NotBefore):
		return refuse("it is not valid before %s", c.NotBefore.UTC().Format(time.RFC3339))
	case now.After(c.NotAfter):
		return refuse("it expired on %s", c.NotAfter.UTC().Format(time.RFC3339))
	case len(c.UnhandledCriticalExtensions) > 0:
		return refuse("it has the critical extension %v, which is not known here", c.UnhandledCriticalExtensions[0])
	}
	return nil
}

// restricted reports whether a certificate has a key usage extension. One without any bits
// allows nothing.
func restricted(c *x509.Certificate) bool {
	return slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 15}) })
}

// AddMember writes the next list of members, with one member more, and gives the
// keyring under it. From then on every key is wrapped to the member; Rewrap brings
// it those that are there.
//
// It refuses with [blob.ErrExists] when one of its keys or the label is a member's, and
// with [ErrCertificate], see [CheckRecipient] and [CheckSigner].
func (k *Keyring) AddMember(ctx context.Context, m blob.Member) (*Keyring, error) {
	op := fmt.Sprintf("add the %s %q", m.Role, m.Label)
	if err := checkMember(m); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	return k.change(ctx, op, func(k *Keyring, l *blob.MemberList) error {
		if err := k.refuseKnown(l.Members, m); err != nil {
			return err
		}
		l.Members = append(l.Members, m)
		return nil
	})
}

// refuseKnown refuses a key or a label that is a member's already, and an identifier that
// any list of members has given to another key.
func (k *Keyring) refuseKnown(members []blob.Member, m blob.Member) error {
	for _, other := range members {
		for _, id := range []string{keyID(other), signerID(other)} {
			switch id {
			case keyID(m):
				return fmt.Errorf("its key is that of the %s %q: %w", other.Role, other.Label, blob.ErrExists)
			case signerID(m):
				return fmt.Errorf("its signing key is that of the %s %q: %w", other.Role, other.Label, blob.ErrExists)
			}
		}
		if other.Label == m.Label {
			return hint(fmt.Errorf("the label %q is that of another member: %w", m.Label, blob.ErrExists), "choose another with --label")
		}
	}
	return k.chain.names.refuseTaken(m)
}

// RemoveMember writes the next list of members, without a member. What the member
// has signed so far stays valid, by an inventory that the list names; blobs that do
// not verify are left out of it and told of through skipped.
//
// The member can still open every version that was ever wrapped to it, also after a
// [Keyring.Rewrap]: see [Keyring.FormerHolders] and [Keyring.RotateFormer].
//
// It refuses with [blob.ErrNotFound] when nobody of that role has the label, or
// subject key identifier in hexadecimal, and with [ErrRole] when it is the pair's
// own or the last owner.
func (k *Keyring) RemoveMember(ctx context.Context, role blob.Role, label string, skipped func(error)) (*Keyring, error) {
	op := fmt.Sprintf("remove the %s %q", role, label)
	return k.change(ctx, op, func(k *Keyring, l *blob.MemberList) error {
		i, err := k.removable(l.Members, role, label)
		if err != nil {
			return err
		}
		signer := signerID(l.Members[i])
		l.Members = slices.Delete(l.Members, i, i+1)
		l.Inventory, err = k.takeInventory(ctx, func(b *blob.Blob) bool { return string(b.SignerKeyID()) == signer }, skipped)
		return err
	})
}

// removable returns the index of the member that may be removed.
func (k *Keyring) removable(members []blob.Member, role blob.Role, label string) (int, error) {
	i := slices.IndexFunc(members, func(m blob.Member) bool {
		return m.Role == role && (m.Label == label || hex.EncodeToString([]byte(keyID(m))) == label)
	})
	switch {
	case i < 0:
		return 0, hint(fmt.Errorf("no %s has that label: %w", role, blob.ErrNotFound), fmt.Sprintf("hsmkeys %s list shows them", role))
	case role == blob.Owner && len(parties(members, blob.Owner)) == 1:
		return 0, hint(fmt.Errorf("it is the last owner: %w", ErrRole), "nobody could sign any more; add another owner first")
	case keyID(members[i]) == string(k.self):
		return 0, hint(fmt.Errorf("it is this token's own pair: %w", ErrRole), "another owner removes it")
	}
	return i, nil
}

// change writes the next list of members. When somebody else has written one
// meanwhile, the change is made to that.
func (k *Keyring) change(ctx context.Context, op string, edit func(*Keyring, *blob.MemberList) error) (*Keyring, error) {
	for {
		if err := k.mustOwn(op); err != nil {
			return nil, err
		}
		l := k.nextList()
		if err := edit(k, &l); err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		next, err := k.putList(ctx, l)
		if err == nil {
			return next, nil
		}
		if !errors.Is(err, blob.ErrExists) {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		if k, err = k.reopen(ctx); err != nil {
			return nil, err
		}
	}
}

// nextList is the newest list under the next number, still to be changed.
func (k *Keyring) nextList() blob.MemberList {
	digest := k.chain.lists[len(k.chain.lists)-1].Digest()
	return blob.MemberList{
		KeyringID: k.ID(), Number: k.chain.newest.Number + 1, Previous: digest[:],
		Created: time.Now(), Members: k.Members(),
	}
}

// putList signs and stores a list, and opens the keyring under it, which pins it.
func (k *Keyring) putList(ctx context.Context, l blob.MemberList) (*Keyring, error) {
	der, err := blob.SignMembers(l, k.signs(), time.Now())
	if err != nil {
		return nil, err
	}
	if err := k.store.Put(ctx, blob.MembersPath(l.Number), der); err != nil {
		return nil, err
	}
	return k.reopen(ctx)
}

// reopen opens the keyring again, under the list that is the newest by now.
func (k *Keyring) reopen(ctx context.Context) (*Keyring, error) {
	next, err := OpenKeyring(ctx, k.token, k.pair, k.store, k.pins)
	if err != nil {
		return nil, err
	}
	next.settings = k.settings
	return next, nil
}
