package blob

import (
	"bytes"
	"crypto/aes"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A Sealed is a short secret for one recipient: a CMS EnvelopedData (RFC 5652 §6.1) whose content is
// encrypted with AES-256 in CBC mode (RFC 3565 §2.1), under a key that is wrapped to the recipient. It
// proves nothing by itself: whoever opens it must have something to hold the content against.
type Sealed struct {
	Recipient Recipient // of an AES-256 key
	IV        [16]byte
	Content   []byte // ciphertext, 1..MaxSealed/16 blocks
}

// MaxSealed is the highest size of an encrypted content in bytes.
const MaxSealed = 256

// Marshal encodes a Sealed as a ContentInfo.
func (s Sealed) Marshal() ([]byte, error) {
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("sealed secret: %w", err)
	}
	return s.marshal()
}

// ParseSealed reads a Sealed, which must be in its one encoding. The error is an [ErrMalformed],
// [ErrTooLarge] or [ErrUnknown].
func ParseSealed(der []byte) (Sealed, error) {
	if len(der) > MaxSize {
		return Sealed{}, fmt.Errorf("%w: sealed secret of %d bytes", ErrTooLarge, len(der))
	}
	top := decode("sealed secret", bytes.Clone(der))
	s := top.sealed()
	if err := top.end(); err != nil {
		return Sealed{}, err
	}
	return s, canonical(top.what, der, s.validate, s.marshal)
}

func (s Sealed) validate() error {
	if n := len(s.Content); n < 1 || n > MaxSealed || n%aes.BlockSize != 0 {
		return fmt.Errorf("content of %d bytes, not 1 to %d blocks", n, MaxSealed/aes.BlockSize)
	}
	return s.Recipient.validate(keyspec.AES256)
}

func (s Sealed) marshal() ([]byte, error) {
	recipient, err := s.Recipient.marshal()
	if err != nil {
		return nil, err
	}
	return encodeIn(len(recipient)+len(s.Content)+256, func(b *cryptobyte.Builder) {
		addSequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidEnvelopedData)
			b.AddASN1(tagged(0).Constructed(), func(b *cryptobyte.Builder) {
				addSequence(b, func(b *cryptobyte.Builder) {
					b.AddASN1Int64(2) // as no recipient is of version 0
					addSetOf(b, cryptobyte_asn1.SET, [][]byte{recipient})
					addSequence(b, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(oidData)
						addSequence(b, func(b *cryptobyte.Builder) {
							b.AddASN1ObjectIdentifier(oidAES256CBC)
							b.AddASN1OctetString(s.IV[:])
						})
						addOctets(b, tagged(0), s.Content)
					})
				})
			})
		})
	})
}

// sealed takes a ContentInfo.
func (d *decoder) sealed() (s Sealed) {
	info := d.sequence("contentInfo")
	info.oidIs("contentType", oidEnvelopedData)
	explicit := info.part("content", tagged(0).Constructed())
	body := explicit.sequence("envelopedData")
	body.version(2)
	body.refuse("originatorInfo", tagged(0).Constructed())
	recipients := body.part("recipientInfos", cryptobyte_asn1.SET)
	s.Recipient = recipients.recipient()
	recipients.end()
	encrypted := body.sequence("encryptedContentInfo")
	encrypted.oidIs("contentType", oidData)
	algorithm := encrypted.sequence("contentEncryptionAlgorithm")
	algorithm.oidIs("algorithm", oidAES256CBC)
	copy(s.IV[:], algorithm.octetsOf("iv", cryptobyte_asn1.OCTET_STRING, len(s.IV)))
	algorithm.end()
	s.Content = encrypted.octets("encryptedContent", tagged(0))
	encrypted.end()
	body.refuse("unprotectedAttrs", tagged(1).Constructed())
	body.end()
	explicit.end()
	info.end()
	return s
}
