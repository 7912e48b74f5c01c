package hsmkeys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token"
)

// ErrCertificate is the error for a certificate that no session key may be wrapped to, or whose
// key may not sign.
var ErrCertificate = errors.New("certificate refused")

// CheckRecipient returns an [ErrCertificate] unless session keys may be wrapped to a certificate:
// its key is RSA of at least 2048 bits (NIST SP 800-131A rev. 2 §6) or EC on P-256, P-384 or
// P-521; it is valid at the time now; and its key usage, if it has one, allows keyEncipherment, or
// for EC keyAgreement (RFC 5280 §4.2.1.3).
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

// CheckSigner returns an [ErrCertificate] unless a certificate can be that of a member's signing
// key: the key and the time are as for [CheckRecipient], and the key usage, if there is one, allows
// digitalSignature or nonRepudiation (RFC 5280 §4.2.1.3).
func CheckSigner(c *x509.Certificate, now time.Time) error {
	return checkCertificate(c, now, x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment, "signing (digitalSignature or nonRepudiation)", "sign")
}

// checkMember checks both certificates of a new member.
func checkMember(m blob.Member) error {
	if err := CheckRecipient(m.Certificate, time.Now()); err != nil || m.Signing == nil {
		return err
	}
	if err := CheckSigner(m.Signing, time.Now()); err != nil {
		return fmt.Errorf("signing key: %w", err)
	}
	if signerID(m) == keyID(m) {
		return withFacts(fmt.Errorf("signing key: %w: it is the key exchange key", ErrCertificate), ErrSameKeys)
	}
	return nil
}

// checkCertificate checks what every certificate must have, and that it allows a usage.
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

// CertificateOf returns the certificate of a pair, which must be a [Certifier]: the one that it has
// signed itself, else one that was issued for it and that [CheckRecipient] accepts, else a new one
// with the label as its common name. It refuses a pair that opens nothing, see [Pair.CheckOpens]:
// what is wrapped to it would be lost.
func CertificateOf(ctx context.Context, pair Pair, label string) (*x509.Certificate, error) {
	if err := pair.CheckOpens(ctx); err != nil {
		return nil, err
	}
	certifier, err := certifierOf(pair)
	if err != nil {
		return nil, err
	}
	if c, err := certifier.Certificate(ctx); err != nil || c != nil {
		return c, err
	}
	issued, err := certifier.IssuedCertificate(ctx)
	if err != nil {
		return nil, err
	}
	if issued != nil && CheckRecipient(issued, time.Now()) == nil {
		// Anybody can have written it to the token: if it had the wrong OAEP hash, nobody could
		// open what is wrapped to it.
		takes, err := certifier.TakesOAEP(ctx, token.CertifiedOAEPHash(issued))
		if err != nil {
			return nil, err
		}
		if takes {
			return issued, nil
		}
	}
	return certifier.Certify(ctx, label)
}

func certifierOf(pair Pair) (Certifier, error) {
	if c, ok := pair.(Certifier); ok {
		return c, nil
	}
	return nil, fmt.Errorf("get the certificate of the pair: %w", errors.ErrUnsupported)
}

// signingCertificateOf returns the certificate of the key that signs for the pair, or nil for a
// pair that signs itself.
func signingCertificateOf(ctx context.Context, pair Pair) (*x509.Certificate, error) {
	key, _ := pair.Signer()
	signing := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if signing.Equal(pair.Public()) {
		return nil, nil
	}
	certifier, err := certifierOf(pair)
	if err != nil {
		return nil, err
	}
	c, err := certifier.SigningCertificate(ctx)
	switch {
	case err != nil:
		return nil, err
	case c == nil || !signing.Equal(c.PublicKey): // or nobody would know the key that signs
		return nil, fmt.Errorf("%w: the token has none for its signing key", ErrCertificate)
	}
	if err := CheckSigner(c, time.Now()); err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return c, nil
}
