package softpair

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// rsaKey is an RSA key, to which session keys are encrypted (RFC 5652 §6.2.1).
type rsaKey struct{ *rsa.PrivateKey }

func (k rsaKey) scheme() keyspec.Scheme { return keyspec.RSAPSS }

func (k rsaKey) usage() x509.KeyUsage { return x509.KeyUsageKeyEncipherment }

func (k rsaKey) open(_ keyspec.Key, wrapped keyspec.Wrapped) ([]byte, error) {
	type opened struct {
		value []byte
		err   error
	}
	o := keyspec.Match(wrapped,
		func(t *keyspec.KeyTransport) opened {
			if len(t.EncryptedKey) != k.Size() || t.OAEPHash != crypto.SHA1 && t.OAEPHash != crypto.SHA256 {
				return opened{nil, fmt.Errorf("%d bytes with %v, for a key of %d bytes", len(t.EncryptedKey), t.OAEPHash, k.Size())}
			}
			value, err := rsa.DecryptOAEP(t.OAEPHash.New(), nil, k.PrivateKey, t.EncryptedKey, nil)
			return opened{value, err}
		},
		func(*keyspec.KeyAgreement) opened {
			return opened{nil, errors.New("wrapped to an EC key, and the pair is RSA")}
		})
	return o.value, o.err
}
