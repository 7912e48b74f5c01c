package blob

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// A signedKey is what the signature of a key blob covers.
type signedKey struct {
	descriptor Descriptor
	content    Content
}

var keyBlob = keyKind("key blob", oidContentInfo, Content.marshal, parseContent)

// keyKind returns a kind of key blob. Kinds differ in their content.
func keyKind(what string, contentType asn1.ObjectIdentifier, marshal func(Content) ([]byte, error), parse func([]byte) (Content, error)) kind[signedKey] {
	return kind[signedKey]{
		profile: profile{
			what:        what,
			contentType: contentType,
			attributes:  []asn1.ObjectIdentifier{oidContentType, oidMessageDigest, oidSigningTime, oidKeyDescriptor},
		},
		marshal: func(k signedKey) ([]byte, []attribute, error) {
			descriptor, err := k.descriptor.marshal()
			if err != nil {
				return nil, nil, err
			}
			content, err := marshal(k.content)
			return content, []attribute{newAttribute(oidKeyDescriptor, descriptor)}, err
		},
		parse: func(s *signedData) (signedKey, error) {
			d, err := parseDescriptor(s.attribute(oidKeyDescriptor))
			if err != nil {
				return signedKey{}, fmt.Errorf("%s: %w", what, err)
			}
			c, err := parse(s.content)
			if err != nil {
				return signedKey{}, fmt.Errorf("%s: %w", what, err)
			}
			if err := d.fits(c); err != nil {
				return signedKey{}, fmt.Errorf("%w: %s %v: %w", ErrMalformed, what, d.Place(), err)
			}
			return signedKey{d, c}, nil
		},
	}
}

// Sign makes a key blob: DER, at most [MaxSize] bytes. The signer's scheme must fit its
// key. Times are cut to whole seconds, recipients are sorted.
//
// What the signer returns is verified before Sign returns it; if it does not
// hold, the error is an [ErrSignature]. A signature may take a token seconds,
// and crypto.Signer knows no context: cancel before, or after.
func Sign(d Descriptor, c Content, signer Signer, signingTime time.Time) (*Blob, error) {
	if err := d.validate(); err != nil {
		return nil, err
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("key %q: %w", d.Name, err)
	}
	if err := d.fits(c); err != nil {
		return nil, fmt.Errorf("key %q: %w", d.Name, err)
	}
	k := keyBlob
	if c.Derivation != nil {
		k = derived
	}
	v, err := k.sign(signedKey{d, c}, signer, signingTime)
	if err != nil {
		return nil, err
	}
	return &Blob{v}, nil
}

// An Unverified is a key blob, or a derivation record, as it came from storage.
// Anybody can have made it.
type Unverified struct{ unverified[signedKey] }

// Parse reads the outer structure of a key blob, strictly. Nothing that it
// contains is known to be true before [Unverified.Verify]. The error is an
// [ErrMalformed], [ErrTooLarge] or [ErrUnknown].
func Parse(der []byte) (*Unverified, error) {
	k := keyBlob
	if len(der) <= MaxSize && isDerived(der) {
		k = derived
	}
	u, err := k.read(der)
	if err != nil {
		return nil, err
	}
	return &Unverified{u}, nil
}

// Verify checks, in this order: the signer is one of trusted; algorithms fit
// its key; content type and digest of the content are those that were signed;
// the signature; then that what was signed is well-formed and belongs at the
// place where it was found.
//
// The error is an [ErrUntrusted], [ErrSignature] or [ErrMisplaced], or one of
// those of [Parse] where the signer itself made what we cannot accept.
func (u *Unverified) Verify(trusted []Party, at Place) (*Blob, error) {
	v, err := u.verify(trusted)
	if err != nil {
		return nil, err
	}
	if signed := v.value.descriptor.Place(); signed != at {
		return nil, fmt.Errorf("%w: key blob signed as %v, found as %v", ErrMisplaced, signed, at)
	}
	return &Blob{v}, nil
}

// A Blob is a verified key blob: what it says was said by a trusted signer,
// for the place where it was found. It cannot be changed; accessors copy.
type Blob struct{ verified[signedKey] }

// Descriptor returns what the blob says about the key.
func (b *Blob) Descriptor() Descriptor {
	d := b.value.descriptor
	d.CheckValue, d.Confirmation, d.Replaces = bytes.Clone(d.CheckValue), bytes.Clone(d.Confirmation), bytes.Clone(d.Replaces)
	d.Recovery, d.Legacy = d.Recovery.clone(), d.Legacy.clone()
	return d
}

// Algorithm returns the session key's algorithm.
func (b *Blob) Algorithm() keyspec.Algorithm { return b.value.content.Algorithm }

// Key returns what the session key is.
func (b *Blob) Key() keyspec.Key { return b.value.descriptor.Key(b.value.content.Algorithm) }

// KeySize returns the length of the session key in bytes, 5 to 64.
func (b *Blob) KeySize() int { return b.Key().Size }

// Derivation returns how the key is made from a password; false for a key that is
// wrapped to recipients.
func (b *Blob) Derivation() (Derivation, bool) {
	if b.value.content.Derivation == nil {
		return Derivation{}, false
	}
	return *b.value.content.Derivation, true
}

// WithCertificate returns the same signed object with its signer's certificate put in
// (SignedData.certificates, RFC 5652 §5.1), for tools that want to find it there. No
// signature covers the certificate, so it is nothing that a store may hold: [Parse]
// refuses it.
func (b *Blob) WithCertificate(signer *x509.Certificate) ([]byte, error) {
	id, err := PublicKeyID(signer.PublicKey)
	if err != nil {
		return nil, err
	}
	name, err := Identifier(signer)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(id, b.signerKeyID) || !bytes.Equal(name, b.signerID) {
		return nil, fmt.Errorf("%w: the certificate is that of %x (key %x), the signer is %x (key %x)", ErrUntrusted, name, id, b.signerID, b.signerKeyID)
	}
	k := keyBlob
	if b.value.content.Derivation != nil {
		k = derived
	}
	s, err := parseSignedData(k.profile, b.raw)
	if err != nil {
		return nil, err
	}
	return s.marshalWith(signer.Raw)
}

// Recipients returns all holders, in the order of the encoding.
func (b *Blob) Recipients() []Recipient {
	out := make([]Recipient, len(b.value.content.Recipients))
	for i, r := range b.value.content.Recipients {
		out[i] = r.clone()
	}
	return out
}

// Recipient returns the holder with this [Identifier].
func (b *Blob) Recipient(subjectKeyID []byte) (Recipient, bool) {
	for _, r := range b.value.content.Recipients {
		if bytes.Equal(r.Identifier, subjectKeyID) {
			return r.clone(), true
		}
	}
	return Recipient{}, false
}
