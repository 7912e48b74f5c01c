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
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// ErrCertificate is for a certificate to which no session key should be wrapped, or by
// whose key nobody should sign.
var ErrCertificate = errors.New("certificate refused")

// CheckRecipient says whether session keys may be wrapped to a certificate: RSA of at
// least 2048 bits (NIST SP 800-131A §6) or EC on P-256, P-384 or P-521, valid today,
// whose key usage, where it has one, allows keyEncipherment or for EC keyAgreement (RFC
// 5280 §4.2.1.3).
func CheckRecipient(c *x509.Certificate, now time.Time) error {
	var usage x509.KeyUsage
	var name string
	switch c.PublicKey.(type) { // checkCertificate refuses all others
	case *rsa.PublicKey:
		usage, name = x509.KeyUsageKeyEncipherment, "encrypting keys (keyEncipherment)"
	case *ecdsa.PublicKey:
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
		if key.N.BitLen() < keyspec.MinRSABits {
			return refuse("RSA with %d bits is too weak, it needs %d", key.N.BitLen(), keyspec.MinRSABits)
		}
	case *ecdsa.PublicKey:
		if _, err := blob.PublicKeyID(key); err != nil {
			return refuse("%w: EC on %s, and only P-256, P-384 and P-521 can %s", errors.ErrUnsupported, key.Curve.Params().Name, can)
		}
	default:
		return refuse("%w: a %v key, and only RSA and EC can %s", errors.ErrUnsupported, c.PublicKeyAlgorithm, can)
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

// AddMember records the next list of members, with one member more. From then on every
// key is wrapped to the member; Rewrap brings it those that are there.
//
// It refuses with [blob.ErrExists] when one of its keys or the label is a member's, and
// with [ErrCertificate], see [CheckRecipient] and [CheckSigner].
func (k *Keyring) AddMember(ctx context.Context, m blob.Member) error {
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
}

// refuseKnown refuses a key or a label that is a member's already, and an identifier that
// any list of members has given to another key.
func refuseKnown(members []blob.Member, m blob.Member, all *ledger.Members) error {
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
	if err := all.Taken(m); err != nil {
		return hint(err, "have a certificate issued with the identifier of its own key")
	}
	return nil
}

// RemoveMember records the next list of members, without a member. What the member has
// signed so far stays valid, as the state of the keyring names it. Blobs of an owner that
// the state does not name, as after two copies of a store were put together, are adopted
// first; those that cannot be are told of through skipped.
//
// The member can still open every version that was ever wrapped to it, also after a
// [Keyring.Rewrap]: see [Keyring.FormerHolders] and [Keyring.RotateFormer].
//
// It refuses with [blob.ErrNotFound] when nobody of that role has the label, or
// subject key identifier in hexadecimal, and with [ErrRole] when it is the pair's
// own or the last owner.
func (k *Keyring) RemoveMember(ctx context.Context, role blob.Role, label string, skipped func(error)) error {
	op := fmt.Sprintf("remove the %s %q", role, label)
	if err := k.refresh(ctx); err != nil {
		return err
	}
	m, err := k.MayRemove(role, label)
	if err != nil {
		return err
	}
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
		return 0, hint(fmt.Errorf("no %s has that label: %w", role, blob.ErrNotFound), fmt.Sprintf("hsmkeys %s list shows them", role))
	case role == blob.Owner && owners(members) == 1:
		return 0, hint(fmt.Errorf("it is the last owner: %w", ErrRole), "nobody could sign any more; add another owner first")
	case keyID(members[i]) == string(k.self):
		return 0, hint(fmt.Errorf("it is this token's own pair: %w", ErrRole), "another owner removes it")
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

// changeMembers records the next list of members. When somebody else has recorded one
// meanwhile, the change is made to that.
func (k *Keyring) changeMembers(ctx context.Context, op string, edit func(*blob.MemberList, *ledger.Members) error) error {
	if err := k.refresh(ctx); err != nil {
		return err
	}
	if err := k.mustOwn(op); err != nil {
		return err
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
