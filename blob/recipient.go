package blob

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A Recipient is a holder of the session key: its key exchange key, and the session key wrapped
// to that.
type Recipient struct {
	Identifier []byte          // 1..64 bytes, the [Identifier] of the holder's certificate
	Key        keyspec.Wrapped // the session key
}

// A recipientInfo is a wrapped session key as CMS encodes it: one of the kinds of RecipientInfo
// (RFC 5652 §6.2).
type recipientInfo interface {
	// validate returns an error if keys of an algorithm are not wrapped like this.
	validate(keyspec.Algorithm) error
	// fitsSize returns an error if keys of size bytes are not wrapped like this.
	fitsSize(of keyspec.Algorithm, size int) error
	// clone returns a copy that shares no memory.
	clone() keyspec.Wrapped
	marshal(identifier []byte) ([]byte, error)
}

func (r Recipient) info() recipientInfo {
	return keyspec.Match(r.Key,
		func(t *keyspec.KeyTransport) recipientInfo { return keyTransport{t} },
		func(a *keyspec.KeyAgreement) recipientInfo { return keyAgreement{a} })
}

func (r Recipient) validate(a keyspec.Algorithm) error {
	if n := len(r.Identifier); n < 1 || n > maxIdentifier {
		return fmt.Errorf("recipient's subject key identifier has %d bytes, not 1 to %d", n, maxIdentifier)
	}
	err := errors.New("no key")
	if r.Key != nil {
		err = r.info().validate(a)
	}
	return r.fail(err)
}

// fitsSize returns an error if no key of size bytes is wrapped to the recipient.
func (r Recipient) fitsSize(of keyspec.Algorithm, size int) error {
	return r.fail(r.info().fitsSize(of, size))
}

func (r Recipient) fail(err error) error {
	if err != nil {
		return fmt.Errorf("recipient %x: %w", r.Identifier, err)
	}
	return nil
}

// clone returns a copy that shares no memory.
func (r Recipient) clone() Recipient {
	return Recipient{bytes.Clone(r.Identifier), r.info().clone()}
}

func (r Recipient) marshal() ([]byte, error) { return r.info().marshal(r.Identifier) }

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
