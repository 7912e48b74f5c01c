package blob

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A Recipient is a holder of the session key: its key exchange key, and the
// session key wrapped to that. Exactly one of Transport and Agreement is set.
type Recipient struct {
	SubjectKeyID []byte // 1..64 bytes, the [Identifier] of the holder's certificate
	Transport    *KeyTransport
	Agreement    *KeyAgreement
}

// A KeyTransport is a session key encrypted with RSAES-OAEP (RFC 8017 §7.1)
// under the holder's RSA key: KeyTransRecipientInfo (RFC 5652 §6.2.1).
type KeyTransport struct {
	// OAEPHash is both OAEP's hash and that of its MGF1: SHA-256, or SHA-1
	// where a token has no other. The label is empty.
	OAEPHash crypto.Hash
	// EncryptedKey is as long as the modulus, 256 to 2048 bytes.
	EncryptedKey []byte
}

// A KeyAgreement is a session key wrapped with AES-256 key wrap (RFC 3394)
// under a key from ephemeral-static ECDH with the holder's EC key:
// KeyAgreeRecipientInfo (RFC 5652 §6.2.2, RFC 5753 §3.1). The key derivation
// is X9.63 with the hash that fits the curve: P-256 SHA-256, P-384 SHA-384,
// P-521 SHA-512; its SharedInfo is ECC-CMS-SharedInfo (RFC 5753 §7.2) without
// entityUInfo.
type KeyAgreement struct {
	Ephemeral *ecdh.PublicKey
	// EncryptedKey is 8 bytes longer than the session key, which has 16 or more.
	EncryptedKey []byte
}

const (
	minEncryptedKey = minRSABits / 8
	maxEncryptedKey = 16384 / 8
	keyWrapOverhead = 8 // RFC 3394 §2.2.1: one more 64-bit block
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

// ecPublicKeyIdentifier is that of an ephemeral key. Its parameters are absent
// (RFC 5753 §3.1.1): the curve is the recipient's, and a second place to say so
// would be a place to contradict.
var ecPublicKeyIdentifier = algorithmIdentifier(oidECPublicKey)

func (r Recipient) validate(a keyspec.Algorithm) error {
	if n := len(r.SubjectKeyID); n < 1 || n > maxIdentifier {
		return fmt.Errorf("recipient's subject key identifier has %d bytes, not 1 to %d", n, maxIdentifier)
	}
	switch {
	case (r.Transport == nil) == (r.Agreement == nil):
		return fmt.Errorf("recipient %x has not exactly one of key transport and key agreement", r.SubjectKeyID)
	case r.Transport != nil:
		if n := len(r.Transport.EncryptedKey); n < minEncryptedKey || n > maxEncryptedKey {
			return fmt.Errorf("recipient %x: RSA encrypted key has %d bytes, not %d to %d", r.SubjectKeyID, n, minEncryptedKey, maxEncryptedKey)
		}
	default:
		switch n, want := len(r.Agreement.EncryptedKey), a.KeySize()+keyWrapOverhead; {
		case a.IsLegacy(): // whose size is in the descriptor; RFC 3394 §2 wraps 16 bytes or more
			if n < 16+keyWrapOverhead || n%8 != 0 {
				return fmt.Errorf("recipient %x: wrapped %v key has %d bytes", r.SubjectKeyID, a, n)
			}
		case n != want:
			return fmt.Errorf("recipient %x: wrapped %v key has %d bytes, not %d", r.SubjectKeyID, a, n, want)
		}
	}
	return nil
}

// clone gives a copy that shares no memory.
func (r Recipient) clone() Recipient {
	r.SubjectKeyID = bytes.Clone(r.SubjectKeyID)
	if r.Transport != nil {
		r.Transport = &KeyTransport{r.Transport.OAEPHash, bytes.Clone(r.Transport.EncryptedKey)}
	}
	if r.Agreement != nil {
		r.Agreement = &KeyAgreement{r.Agreement.Ephemeral, bytes.Clone(r.Agreement.EncryptedKey)}
	}
	return r
}

func (r Recipient) marshal() ([]byte, error) {
	if r.Transport != nil {
		return r.Transport.marshal(r.SubjectKeyID)
	}
	return r.Agreement.marshal(r.SubjectKeyID)
}

func (t *KeyTransport) marshal(keyID []byte) ([]byte, error) {
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

func (a *KeyAgreement) marshal(keyID []byte) ([]byte, error) {
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

// recipient takes one RecipientInfo: ktri or kari, the other choices are
// refused.
func (d *decoder) recipient() Recipient {
	switch {
	case d.next(cryptobyte_asn1.SEQUENCE):
		return d.keyTransport()
	case d.next(tagged(1).Constructed()):
		return d.keyAgreement()
	}
	d.fail(fmt.Errorf("%w: %s has a recipient that is neither ktri nor kari", ErrUnknown, d.what))
	return Recipient{}
}

func (d *decoder) keyTransport() Recipient {
	ktri := d.sequence("ktri")
	ktri.version(2)
	keyID := ktri.identifier(tagged(0))
	suite := oaepSuites[ktri.algorithm("keyEncryptionAlgorithm", oaepSuites[0].identifier, oaepSuites[1].identifier)]
	key := ktri.octets("encryptedKey", cryptobyte_asn1.OCTET_STRING)
	ktri.end()
	return Recipient{SubjectKeyID: keyID, Transport: &KeyTransport{suite.hash, key}}
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
	return Recipient{SubjectKeyID: keyID, Agreement: &KeyAgreement{ephemeral, key}}
}
