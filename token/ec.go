package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// ecPair is the [pairKind] of EC.
type ecPair struct{ key *ecdsa.PublicKey }

func (k ecPair) keyType() KeyType                 { return KeyType(k.key.Curve.Params().BitSize) }
func (k ecPair) objectType() uint                 { return pkcs11.CKK_EC }
func (k ecPair) scheme(Mechanisms) keyspec.Scheme { return keyspec.ECDSA }
func (k ecPair) usage() x509.KeyUsage             { return x509.KeyUsageKeyAgreement }
func (k ecPair) oaepHashes() []crypto.Hash        { return []crypto.Hash{0} }
func (k ecPair) verifies(digest, signature []byte, _ crypto.SignerOpts) bool {
	return ecdsa.VerifyASN1(k.key, digest, signature)
}

func (k ecPair) check() error {
	_, err := k.curve()
	return err
}

func (k ecPair) curve() (curve, error) {
	for _, c := range curves {
		if c.curve == k.key.Curve {
			return c, nil
		}
	}
	return curve{}, errors.New("its curve is none of P-256, P-384 and P-521")
}

// values returns CKA_KEY_TYPE, CKA_EC_PARAMS and CKA_EC_POINT (PKCS #11 current mechanisms
// §2.3.3).
func (k ecPair) values() ([]*pkcs11.Attribute, error) {
	c, err := k.curve()
	if err != nil {
		return nil, err
	}
	point, err := k.point()
	if err != nil {
		return nil, err
	}
	params, err := asn1.Marshal(c.oid)
	return []*pkcs11.Attribute{attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC), attr(pkcs11.CKA_EC_PARAMS, params), attr(pkcs11.CKA_EC_POINT, point)}, err
}

// point returns the uncompressed point in an OCTET STRING.
func (k ecPair) point() ([]byte, error) {
	point, err := k.key.Bytes()
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(point)
}

func (k ecPair) finds([]byte) *pkcs11.Attribute {
	point, _ := k.point()
	return attr(pkcs11.CKA_EC_POINT, point)
}

func (k ecPair) certifies() x509.SignatureAlgorithm {
	c, _ := k.curve()
	switch c.hash {
	case crypto.SHA384:
		return x509.ECDSAWithSHA384
	case crypto.SHA512:
		return x509.ECDSAWithSHA512
	}
	return x509.ECDSAWithSHA256
}

func (k ecPair) mayNotOpen(private privateKey) string {
	if !private.derive {
		return "derive (CKA_DERIVE is false)"
	}
	return ""
}

func (k ecPair) whyMemory(_ privateKey, has Mechanisms) string {
	if !has.DeriveECDH {
		return "the token does not agree on keys (CKM_ECDH1_DERIVE)"
	}
	return ""
}

func (k ecPair) signMechanism(_ crypto.Hash, digest []byte, opts crypto.SignerOpts) ([]*pkcs11.Mechanism, []byte, error) {
	if _, isPSS := opts.(*rsa.PSSOptions); isPSS {
		return nil, nil, errors.New("an EC key has no PSS")
	}
	return mechanism(pkcs11.CKM_ECDSA, nil), digest, nil
}

// signature makes an Ecdsa-Sig-Value (RFC 3279 §2.2.3) of r and s side by side, as PKCS #11 has
// them (§2.3.1).
func (k ecPair) signature(raw []byte) ([]byte, error) {
	if len(raw) == 0 || len(raw)%2 != 0 {
		return nil, fmt.Errorf("the token returned an ECDSA signature of %d bytes", len(raw))
	}
	half := len(raw) / 2
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
}

// opens agrees on a secret of its own, whatever the caller's.
func (k ecPair) opens(ctx context.Context, p *KeyPair, _ []byte) (bool, error) {
	ephemeral, secret, err := memkey.Agree(k.key)
	if err != nil {
		return false, err
	}
	defer clear(secret)
	got, err := p.agreeRaw(ctx, ephemeral)
	defer clear(got)
	return err == nil && subtle.ConstantTimeCompare(got, secret) == 1, err
}

// ecMaker is the [pairMaker] of EC on a curve.
type ecMaker struct{ curve elliptic.Curve }

func (m ecMaker) missing(has Mechanisms) error {
	if !has.GenerateEC || !has.DeriveECDH || !has.SignECDSA {
		return errors.New("the token makes no EC pairs that agree and sign (CKM_EC_KEY_PAIR_GEN, CKM_ECDH1_DERIVE, CKM_ECDSA)")
	}
	return nil
}

func (m ecMaker) mechanism() (uint, *pkcs11.Attribute, error) {
	c, err := ecPair{&ecdsa.PublicKey{Curve: m.curve}}.curve()
	if err != nil {
		return 0, nil, err
	}
	params, err := asn1.Marshal(c.oid)
	return pkcs11.CKM_EC_KEY_PAIR_GEN, attr(pkcs11.CKA_EC_PARAMS, params), err
}
