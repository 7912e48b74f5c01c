package blob

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// keyTransport encodes a session key that is encrypted to an RSA key, as
// KeyTransRecipientInfo (RFC 5652 §6.2.1).
type keyTransport struct{ *keyspec.KeyTransport }

const (
	minEncryptedKey = keyspec.MinRSABits / 8
	maxEncryptedKey = keyspec.MaxRSABits / 8
)

// oaepSuites are the identifiers of RSAES-OAEP with explicit parameters (RFC
// 4055 §4.1). SHA-1 is the default of every field, and DER leaves defaults out.
var oaepSuites = []struct {
	hash       crypto.Hash
	identifier []byte
}{
	{crypto.SHA256, algorithmIdentifier(oidRSAESOAEP, oaepSHA256Parameters)},
	{crypto.SHA1, algorithmIdentifier(oidRSAESOAEP, []byte{0x30, 0x00})},
}

var oaepSHA256Parameters = mustEncode(func(b *cryptobyte.Builder) {
	addSequence(b, func(b *cryptobyte.Builder) {
		addOctets(b, tagged(0).Constructed(), sha256Identifier)
		addOctets(b, tagged(1).Constructed(), mgf1Identifier)
	})
})

func (t keyTransport) validate(keyspec.Algorithm) error {
	if t.KeyTransport == nil {
		return errors.New("no key")
	}
	if n := len(t.EncryptedKey); n < minEncryptedKey || n > maxEncryptedKey {
		return fmt.Errorf("RSA encrypted key has %d bytes, not %d to %d", n, minEncryptedKey, maxEncryptedKey)
	}
	return nil
}

// fitsSize accepts every size: the encrypted key is as long as the modulus.
func (t keyTransport) fitsSize(keyspec.Algorithm, int) error { return nil }

func (t keyTransport) clone() keyspec.Wrapped {
	return &keyspec.KeyTransport{OAEPHash: t.OAEPHash, EncryptedKey: bytes.Clone(t.EncryptedKey)}
}

func (t keyTransport) marshal(keyID []byte) ([]byte, error) {
	for _, s := range oaepSuites {
		if s.hash == t.OAEPHash {
			return encodeIn(len(t.EncryptedKey)+256, func(b *cryptobyte.Builder) {
				addSequence(b, func(b *cryptobyte.Builder) {
					b.AddASN1Int64(2) // the recipient is named by its key identifier
					addOctets(b, tagged(0), keyID)
					b.AddBytes(s.identifier)
					b.AddASN1OctetString(t.EncryptedKey)
				})
			})
		}
	}
	return nil, fmt.Errorf("%w: recipient %x: OAEP with %v", ErrUnknown, keyID, t.OAEPHash)
}

func (d *decoder) keyTransport() Recipient {
	ktri := d.sequence("ktri")
	ktri.version(2)
	keyID := ktri.identifier(tagged(0))
	suite := oaepSuites[ktri.algorithm("keyEncryptionAlgorithm", oaepSuites[0].identifier, oaepSuites[1].identifier)]
	key := ktri.octets("encryptedKey", cryptobyte_asn1.OCTET_STRING)
	ktri.end()
	return Recipient{Identifier: keyID, Key: &keyspec.KeyTransport{OAEPHash: suite.hash, EncryptedKey: key}}
}
