package token

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// A pair whose key exchange key may not sign, as on many cards, needs another on the same token that
// signs for it (PIV: 9D decrypts, 9C signs).

// SignWith sets another pair of the same token that signs for this one. It must be called before
// the pair is used.
func (p *KeyPair) SignWith(other *KeyPair) error {
	const op = "have another pair sign"
	switch {
	case other.token != p.token:
		return p.token.fail(op, errors.ErrUnsupported, errors.New("it is on another token"))
	case other.public.Equal(p.public):
		return p.token.fail(op, errors.ErrUnsupported, ErrSamePair)
	case !other.CanSign():
		return p.token.fail(op, errors.ErrUnsupported, errors.New("its private key may not sign (CKA_SIGN)"))
	}
	p.signing = other
	return nil
}

// Signing returns the pair that signs for this one: the pair itself unless [KeyPair.SignWith] set
// another.
func (p *KeyPair) Signing() *KeyPair {
	if p.signing != nil {
		return p.signing
	}
	return p
}

// Signer returns the private key that signs for the pair, and the scheme of its signatures.
func (p *KeyPair) Signer() (crypto.Signer, keyspec.Scheme) { return p.Signing(), p.Signing().Scheme() }

// SigningCertificate returns the certificate of the key that signs for the pair: its self-signed
// one, one that was issued for it, or a new one. It returns nil for a pair that signs
// itself.
func (p *KeyPair) SigningCertificate(ctx context.Context) (*x509.Certificate, error) {
	if p.signing == nil {
		return nil, nil
	}
	for _, get := range []func(context.Context) (*x509.Certificate, error){p.signing.Certificate, p.signing.IssuedCertificate} {
		if c, err := get(ctx); err != nil || c != nil {
			return c, err
		}
	}
	return p.signing.Certify(ctx, p.token.info.Label+" (signing)")
}
