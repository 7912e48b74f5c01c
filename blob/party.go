package blob

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Identifier returns the bytes by which CMS names the holder of a certificate as a
// signer or recipient (RFC 5652 §5.3, §6.2.1): the certificate's subjectKeyIdentifier
// extension. Whoever issued the certificate has chosen it, so it names a key and proves
// nothing about it.
//
// A certificate without the extension has the [keyspec.SubjectKeyID] of its key. RFC 5652 would
// name such a certificate by issuer and serial number; but then a key that gets a new
// certificate would get another name, and a blob could be read by the holder of that one
// certificate alone.
//
// An extension that is empty or has more than 64 bytes is an [ErrUnknown].
func Identifier(c *x509.Certificate) ([]byte, error) {
	if c.SubjectKeyId == nil {
		return PublicKeyID(c.PublicKey)
	}
	if n := len(c.SubjectKeyId); n < 1 || n > maxIdentifier {
		return nil, fmt.Errorf("%w: the certificate's subjectKeyIdentifier has %d bytes, not 1 to %d", ErrUnknown, n, maxIdentifier)
	}
	return bytes.Clone(c.SubjectKeyId), nil
}

// A Party is a public key, and the [Identifier] by which CMS objects name it. Without an
// ID it goes by its [keyspec.SubjectKeyID].
type Party struct {
	Key crypto.PublicKey
	ID  []byte
}

// PartyOf returns the holder of a certificate.
func PartyOf(c *x509.Certificate) (Party, error) {
	id, err := Identifier(c)
	return Party{c.PublicKey, id}, err
}

func (p Party) identifier() ([]byte, error) {
	id, err := PublicKeyID(p.Key) // refuses keys that cannot sign, whatever their name
	if err != nil || p.ID == nil {
		return id, err
	}
	if len(p.ID) < 1 || len(p.ID) > maxIdentifier {
		return nil, fmt.Errorf("%w: identifier of %d bytes, not 1 to %d", ErrUnknown, len(p.ID), maxIdentifier)
	}
	return p.ID, nil
}

// A Signer makes signatures, under the identifier by which others will look for its
// certificate.
type Signer struct {
	Key    crypto.Signer // RSA of at least 2048 bits, or ECDSA on P-256, P-384 or P-521
	Scheme keyspec.Scheme
	ID     []byte // see [Party]
}

func (s Signer) party() Party { return Party{s.Key.Public(), s.ID} }
