package keyspec

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// MinRSABits and MaxRSABits bound the modulus of an RSA key that session keys are wrapped to or
// that signs. Shorter ones are disallowed (NIST SP 800-131A rev. 2 §3); longer ones cost more
// than they gain, and keep others from making a reader compute for hours.
const (
	MinRSABits = 2048
	MaxRSABits = 16384
)

// MatchPublic calls the function for the kind of a public key, and returns its result. The kinds
// are those of a key exchange pair: a new one is a new argument, and the compiler names the
// callers that lack it. The error is for a public key of no such kind.
func MatchPublic[T any](pub crypto.PublicKey, rsaKey func(*rsa.PublicKey) T, ecKey func(*ecdsa.PublicKey) T) (T, error) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if pub != nil && pub.N != nil {
			return rsaKey(pub), nil
		}
	case *ecdsa.PublicKey:
		if pub != nil && pub.Curve != nil {
			return ecKey(pub), nil
		}
	}
	var none T
	return none, fmt.Errorf("%w: %T", errNoKind, pub)
}

var errNoKind = errors.New("a public key that is neither RSA nor EC")

// SubjectKeyID returns the 20 bytes that name a public key in this program: the leftmost 160
// bits of the SHA-256 of its BIT STRING subjectPublicKey, without tag, length and unused bits
// (RFC 7093 §2, method 1). Trust, pins and paths go by it, and CKA_ID of a pair that was made
// here is it.
//
// pub is an *rsa.PublicKey of any size or an *ecdsa.PublicKey on P-256, P-384 or P-521; all else
// is an error.
func SubjectKeyID(pub crypto.PublicKey) ([]byte, error) {
	type encoded struct {
		bits []byte
		err  error
	}
	key, err := MatchPublic(pub,
		func(pub *rsa.PublicKey) encoded { // RSAPublicKey, RFC 8017 §A.1.1
			// It is asked for with every signature: crypto/x509 takes ten times as long.
			b := cryptobyte.NewBuilder(make([]byte, 0, pub.N.BitLen()/8+32))
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1BigInt(pub.N)
				b.AddASN1Int64(int64(pub.E))
			})
			bits, err := b.Bytes()
			return encoded{bits, err}
		},
		func(pub *ecdsa.PublicKey) encoded { // an uncompressed point, RFC 5480 §2.2
			if pub.Curve != elliptic.P256() && pub.Curve != elliptic.P384() && pub.Curve != elliptic.P521() {
				return encoded{nil, errors.New("an EC key on another curve than P-256, P-384 and P-521")}
			}
			point, err := pub.Bytes()
			return encoded{point, err}
		})
	if err = errors.Join(err, key.err); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(key.bits)
	return sum[:20], nil
}
