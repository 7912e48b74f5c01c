package blob

import (
	"crypto"
	"crypto/rsa"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// keyIDSize is the size of a key's own identifier in bytes.
const keyIDSize = 20

// maxIdentifier is the length of the longest identifier in a certificate that is
// accepted. RFC 5280 §4.2.1.2 makes them of 8 or 20 bytes, others use whole SHA-512
// sums; every blob and every signature carries them.
const maxIdentifier = 64

// PublicKeyID returns the [keyspec.SubjectKeyID] of a public key that may sign, or that session
// keys may be wrapped to: RSA of at least [keyspec.MinRSABits] or ECDSA on P-256, P-384 or P-521.
// The error is an [ErrUnknown] for all others. Inside CMS a key goes by its [Identifier].
func PublicKeyID(pub crypto.PublicKey) ([]byte, error) {
	if pub, ok := pub.(*rsa.PublicKey); ok && pub != nil && pub.N != nil && pub.N.BitLen() < keyspec.MinRSABits {
		return nil, fmt.Errorf("%w: RSA key of less than %d bits", ErrUnknown, keyspec.MinRSABits)
	}
	id, err := keyspec.SubjectKeyID(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return id, nil
}
