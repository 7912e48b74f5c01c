package blob

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// keyIDSize is the size of a key's own identifier in bytes.
const keyIDSize = 20

// maxIdentifier is the length of the longest identifier in a certificate that is
// accepted. RFC 5280 §4.2.1.2 makes them of 8 or 20 bytes, others use whole SHA-512
// sums; every blob and every signature carries them.
const maxIdentifier = 64

// minRSABits is the shortest RSA modulus of a key that signs or that belongs
// to a member (NIST SP 800-131A rev. 2 §3: shorter is disallowed).
const minRSABits = 2048

// SubjectKeyID returns the 20 bytes that name a public key in this program: the
// leftmost 160 bits of the SHA-256 of its BIT STRING subjectPublicKey, without tag,
// length and unused bits (RFC 7093 §2, method 1). Trust, pins and paths go by it.
// Inside CMS a key goes by its [Identifier].
//
// pub must be an RSA key of at least 2048 bits or an ECDSA key on P-256, P-384
// or P-521; all else is an [ErrUnknown].
func SubjectKeyID(pub crypto.PublicKey) ([]byte, error) {
	key, err := subjectPublicKey(pub)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(key)
	return sum[:keyIDSize], nil
}

// subjectPublicKey gives the content of the BIT STRING: an RSAPublicKey (RFC 8017 A.1.1),
// or an uncompressed point (RFC 5480 §2.2). It is asked for with every signature, so it is
// encoded here: crypto/x509 takes ten times as long.
func subjectPublicKey(pub crypto.PublicKey) ([]byte, error) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if pub == nil || pub.N == nil || pub.N.BitLen() < minRSABits {
			return nil, fmt.Errorf("%w: RSA key of less than %d bits", ErrUnknown, minRSABits)
		}
		return encodeIn(pub.N.BitLen()/8+32, func(b *cryptobyte.Builder) {
			addSequence(b, func(b *cryptobyte.Builder) {
				b.AddASN1BigInt(pub.N)
				b.AddASN1Int64(int64(pub.E))
			})
		})
	case *ecdsa.PublicKey:
		if pub == nil || pub.Curve != elliptic.P256() && pub.Curve != elliptic.P384() && pub.Curve != elliptic.P521() {
			return nil, fmt.Errorf("%w: EC key on another curve than P-256, P-384 and P-521", ErrUnknown)
		}
		point, err := pub.Bytes()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		return point, nil
	}
	return nil, fmt.Errorf("%w: a public key that is neither RSA nor EC", ErrUnknown)
}
