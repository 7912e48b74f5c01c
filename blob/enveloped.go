package blob

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxRecipients is the highest number of holders of a key.
const MaxRecipients = 64

// A Content is the session key: its algorithm, and the recipients to whom it is wrapped or how it
// is made from a password.
type Content struct {
	Algorithm  keyspec.Algorithm
	Recipients []Recipient // 1..MaxRecipients, each subject key identifier once
	Derivation *Derivation // in place of Recipients
}

func (c Content) validate() error {
	if !c.Algorithm.Valid() {
		return fmt.Errorf("unknown algorithm %d", int(c.Algorithm))
	}
	if c.Derivation != nil {
		if len(c.Recipients) > 0 {
			return fmt.Errorf("a derived key has no recipients")
		}
		if c.Algorithm.IsLegacy() {
			return fmt.Errorf("no %v key is derived", c.Algorithm)
		}
		return c.Derivation.validate()
	}
	if n := len(c.Recipients); n < 1 || n > MaxRecipients {
		return fmt.Errorf("%d recipients, not 1 to %d", n, MaxRecipients)
	}
	seen := make(map[string]bool)
	for _, r := range c.Recipients {
		if err := r.validate(c.Algorithm); err != nil {
			return err
		}
		// Two entries for one holder could hold two keys, and which of them is
		// used would be the reader's choice.
		if seen[string(r.Identifier)] {
			return fmt.Errorf("recipient %x is there twice", r.Identifier)
		}
		seen[string(r.Identifier)] = true
	}
	return nil
}

// marshal returns a ContentInfo with an EnvelopedData (RFC 5652 §6.1). Its version is 2, as no
// recipient is of version 0. The content is absent: the session key is used elsewhere.
func (c Content) marshal() ([]byte, error) {
	var recipients [][]byte
	for _, r := range c.Recipients {
		der, err := r.marshal()
		if err != nil {
			return nil, err
		}
		recipients = append(recipients, der)
	}
	return encodeIn(len(c.Recipients)*768+256, func(b *cryptobyte.Builder) { // 768 holds RSA keys of 4096 bits
		addSequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidEnvelopedData)
			b.AddASN1(tagged(0).Constructed(), func(b *cryptobyte.Builder) {
				addSequence(b, func(b *cryptobyte.Builder) {
					b.AddASN1Int64(2)
					addSetOf(b, cryptobyte_asn1.SET, recipients)
					addSequence(b, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(oidData)
						b.AddBytes(algorithmIdentifiers[c.Algorithm])
					})
				})
			})
		})
	})
}

// parseContent reads what was signed.
func parseContent(der []byte) (Content, error) {
	var c Content
	top := decode("content", der)
	info := top.sequence("contentInfo")
	info.oidIs("contentType", oidEnvelopedData)
	explicit := info.part("content", tagged(0).Constructed())
	body := explicit.sequence("envelopedData")
	body.version(2)
	body.refuse("originatorInfo", tagged(0).Constructed())
	recipients := body.part("recipientInfos", cryptobyte_asn1.SET)
	var elements [][]byte
	for recipients.more() && len(c.Recipients) <= MaxRecipients {
		before := recipients.in
		c.Recipients = append(c.Recipients, recipients.recipient())
		elements = append(elements, before[:len(before)-len(recipients.in)])
	}
	if len(c.Recipients) > MaxRecipients {
		recipients.malformed("recipientInfo", fmt.Sprintf("is not one of at most %d", MaxRecipients))
	}
	recipients.end()
	if !slices.IsSortedFunc(elements, bytes.Compare) {
		recipients.malformed("recipientInfo", "is not in the order of DER")
	}
	encrypted := body.sequence("encryptedContentInfo")
	encrypted.oidIs("contentType", oidData)
	identifier := encrypted.element("contentEncryptionAlgorithm", cryptobyte_asn1.SEQUENCE)
	encrypted.refuse("encryptedContent", tagged(0))
	encrypted.end()
	body.refuse("unprotectedAttrs", tagged(1).Constructed())
	body.end()
	explicit.end()
	info.end()
	if err := top.end(); err != nil {
		return Content{}, err
	}
	var known bool
	if c.Algorithm, known = algorithmFor(identifier); !known {
		return Content{}, fmt.Errorf("%w: content-encryption algorithm %x", ErrUnknown, identifier[:min(len(identifier), 64)])
	}
	return c, canonical(top.what, der, c.validate, c.marshal)
}
