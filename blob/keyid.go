package blob

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// keyIDSize is the size of a subject key identifier in bytes.
const keyIDSize = 20

// minRSABits is the shortest RSA modulus of a key that signs or that belongs
// to a member (NIST SP 800-131A rev. 2 §3: shorter is disallowed).
const minRSABits = 2048

// SubjectKeyID gives the 20 bytes that name a public key: the leftmost 160
// bits of the SHA-256 of its BIT STRING subjectPublicKey, without tag, length
// and unused bits (RFC 7093 §2, method 1).
//
// pub must be an RSA key of at least 2048 bits or an ECDSA key on P-256, P-384
// or P-521; all else is an [ErrUnsupported].
func SubjectKeyID(pub crypto.PublicKey) ([]byte, error) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if pub == nil || pub.N == nil || pub.N.BitLen() < minRSABits {
			return nil, fmt.Errorf("%w: RSA key of less than %d bits", ErrUnsupported, minRSABits)
		}
	case *ecdsa.PublicKey:
		if pub == nil || pub.Curve != elliptic.P256() && pub.Curve != elliptic.P384() && pub.Curve != elliptic.P521() {
			return nil, fmt.Errorf("%w: EC key on another curve than P-256, P-384 and P-521", ErrUnsupported)
		}
	default:
		return nil, fmt.Errorf("%w: public key of type %T", ErrUnsupported, pub)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	var info, key cryptobyte.String
	var unused uint8
	in := cryptobyte.String(der)
	if !in.ReadASN1(&info, cryptobyte_asn1.SEQUENCE) || !info.SkipASN1(cryptobyte_asn1.SEQUENCE) ||
		!info.ReadASN1(&key, cryptobyte_asn1.BIT_STRING) || !key.ReadUint8(&unused) {
		return nil, fmt.Errorf("%w: public key without a subjectPublicKey", ErrUnsupported)
	}
	sum := sha256.Sum256(key)
	return sum[:keyIDSize], nil
}
