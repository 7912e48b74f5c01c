package blob

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// keyAgreement encodes a session key that is wrapped under a key agreed on with an EC key, as
// KeyAgreeRecipientInfo (RFC 5652 §6.2.2, RFC 5753 §3.1).
type keyAgreement struct{ *keyspec.KeyAgreement }

const keyWrapOverhead = 8 // RFC 3394 §2.2.1: one more 64-bit block

// ecdhSuites are the identifiers of dhSinglePass-stdDH with the key derivation
// hash of each curve, and AES-256 key wrap as its parameter (RFC 5753 §7.1.4).
var ecdhSuites = []struct {
	curve      ecdh.Curve
	identifier []byte
}{
	{ecdh.P256(), algorithmIdentifier(oidECDHSHA256, aes256WrapIdentifier)},
	{ecdh.P384(), algorithmIdentifier(oidECDHSHA384, aes256WrapIdentifier)},
	{ecdh.P521(), algorithmIdentifier(oidECDHSHA512, aes256WrapIdentifier)},
}

var aes256WrapIdentifier = algorithmIdentifier(oidAES256Wrap)

// ecPublicKeyIdentifier is the AlgorithmIdentifier of an ephemeral key. Its parameters are absent
// (RFC 5753 §3.1.1): the curve is the recipient's, and naming it twice would allow contradictions.
var ecPublicKeyIdentifier = algorithmIdentifier(oidECPublicKey)

func (a keyAgreement) validate(of keyspec.Algorithm) error {
	if a.KeyAgreement == nil {
		return errors.New("no key")
	}
	n := len(a.EncryptedKey)
	if of.IsLegacy() { // whose size is in the descriptor; RFC 3394 §2 wraps 16 bytes or more
		if n < 16+keyWrapOverhead || n%8 != 0 {
			return fmt.Errorf("wrapped %v key has %d bytes", of, n)
		}
		return nil
	}
	return a.fitsSize(of, of.KeySize())
}

func (a keyAgreement) fitsSize(of keyspec.Algorithm, size int) error {
	if n := len(a.EncryptedKey); n != size+keyWrapOverhead {
		return fmt.Errorf("wrapped %v key has %d bytes, not %d", of, n, size+keyWrapOverhead)
	}
	return nil
}

func (a keyAgreement) clone() keyspec.Wrapped {
	return &keyspec.KeyAgreement{Ephemeral: a.Ephemeral, EncryptedKey: bytes.Clone(a.EncryptedKey)}
}

func (a keyAgreement) marshal(keyID []byte) ([]byte, error) {
	if a.Ephemeral == nil {
		return nil, fmt.Errorf("recipient %x: key agreement without an ephemeral key", keyID)
	}
	for _, s := range ecdhSuites {
		if s.curve == a.Ephemeral.Curve() {
			return encode(func(b *cryptobyte.Builder) {
				b.AddASN1(tagged(1).Constructed(), func(b *cryptobyte.Builder) {
					b.AddASN1Int64(3)
					b.AddASN1(tagged(0).Constructed(), func(b *cryptobyte.Builder) {
						b.AddASN1(tagged(1).Constructed(), func(b *cryptobyte.Builder) {
							b.AddBytes(ecPublicKeyIdentifier)
							b.AddASN1BitString(a.Ephemeral.Bytes())
						})
					})
					b.AddBytes(s.identifier)
					addSequence(b, func(b *cryptobyte.Builder) {
						addSequence(b, func(b *cryptobyte.Builder) {
							b.AddASN1(tagged(0).Constructed(), func(b *cryptobyte.Builder) { b.AddASN1OctetString(keyID) })
							b.AddASN1OctetString(a.EncryptedKey)
						})
					})
				})
			})
		}
	}
	return nil, fmt.Errorf("%w: recipient %x: ECDH on curve %v", ErrUnknown, keyID, a.Ephemeral.Curve())
}

func (d *decoder) keyAgreement() Recipient {
	kari := d.part("kari", tagged(1).Constructed())
	kari.version(3)
	originator := kari.part("originator", tagged(0).Constructed())
	originatorKey := originator.part("originatorKey", tagged(1).Constructed())
	originatorKey.algorithm("algorithm", ecPublicKeyIdentifier)
	bits := originatorKey.octets("publicKey", cryptobyte_asn1.BIT_STRING)
	originatorKey.end()
	originator.end()
	kari.refuse("ukm", tagged(1).Constructed())
	suite := ecdhSuites[kari.algorithm("keyEncryptionAlgorithm", ecdhSuites[0].identifier, ecdhSuites[1].identifier, ecdhSuites[2].identifier)]
	keys := kari.sequence("recipientEncryptedKeys")
	encrypted := keys.sequence("recipientEncryptedKey")
	rKeyID := encrypted.part("rKeyId", tagged(0).Constructed())
	keyID := rKeyID.identifier(cryptobyte_asn1.OCTET_STRING)
	rKeyID.end()
	key := encrypted.octets("encryptedKey", cryptobyte_asn1.OCTET_STRING)
	encrypted.end()
	keys.end()
	if kari.end() != nil {
		return Recipient{}
	}
	// A point off the curve would lead the holder's key into a small group
	// and leak it there; NewPublicKey refuses one, and all forms but
	// uncompressed.
	point, wholeBytes := bytes.CutPrefix(bits, []byte{0})
	ephemeral, err := suite.curve.NewPublicKey(point)
	if !wholeBytes || err != nil {
		kari.malformed("originatorKey", "is not an uncompressed point of the curve")
	}
	return Recipient{Identifier: keyID, Key: &keyspec.KeyAgreement{Ephemeral: ephemeral, EncryptedKey: key}}
}
