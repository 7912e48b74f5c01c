package blob

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// A kind is a kind of signed object, whose content is a T.
type kind[T any] struct {
	profile

	// marshal encodes what is signed: the content, and signed attributes beside those
	// that every object has.
	marshal func(T) (content []byte, extra []attribute, err error)

	// parse reads what was signed. It is called after the signature, or the digest of the
	// whole, was verified.
	parse func(*signedData) (T, error)
}

// sign makes a signed object and reads it back: what the signer returned is verified
// before it counts.
func (k kind[T]) sign(value T, signer Signer, signingTime time.Time) (verified[T], error) {
	encoded, extra, err := k.marshal(value)
	if err != nil {
		return verified[T]{}, err
	}
	der, err := signContent(k.profile, encoded, extra, signer, signingTime)
	if err != nil {
		return verified[T]{}, err
	}
	u, err := k.read(der)
	if err != nil {
		return verified[T]{}, fmt.Errorf("new %w", err)
	}
	v, err := u.verify([]Party{signer.party()})
	if err != nil {
		return verified[T]{}, fmt.Errorf("new %w", err)
	}
	return v, nil
}

// read reads the outer structure, out of a copy: what is verified later must be what was
// read.
func (k kind[T]) read(der []byte) (unverified[T], error) {
	raw := bytes.Clone(der[:min(len(der), MaxSize+1)])
	s, err := parseSignedData(k.profile, raw)
	return unverified[T]{k, raw, s}, err
}

// unverified is a signed object as it came from storage.
type unverified[T any] struct {
	kind   kind[T]
	raw    []byte
	signed *signedData
}

// SignerIdentifier returns the [Identifier], 1 to 64 bytes, of whoever is claimed to have
// signed. It serves to choose a key to trust, not to trust one.
func (u *unverified[T]) SignerIdentifier() []byte { return bytes.Clone(u.signed.signerID) }

// verify checks the signature, then reads what was signed.
func (u *unverified[T]) verify(trusted []Party) (verified[T], error) {
	key, signingTime, err := u.signed.verify(u.kind.profile, trusted)
	if err != nil {
		return verified[T]{}, err
	}
	keyID, err := PublicKeyID(key)
	if err != nil {
		return verified[T]{}, err
	}
	return u.accept(keyID, signingTime)
}

// accept reads what was signed, once the object was found genuine.
func (u *unverified[T]) accept(signerKeyID []byte, signingTime time.Time) (verified[T], error) {
	value, err := u.kind.parse(u.signed)
	if err != nil {
		return verified[T]{}, err
	}
	return verified[T]{u.raw, signerKeyID, u.signed.signerID, u.signed.suite.scheme, signingTime, value}, nil
}

// verified is a signed object that is genuine. It cannot be changed; accessors copy.
type verified[T any] struct {
	raw         []byte
	signerKeyID []byte
	signerID    []byte
	scheme      keyspec.Scheme
	signingTime time.Time
	value       T
}

// SignerKeyID returns the [keyspec.SubjectKeyID] of the key by which the signature holds, 20
// bytes; nil for a checkpoint that was verified by its digest alone.
func (v *verified[T]) SignerKeyID() []byte { return bytes.Clone(v.signerKeyID) }

// SignerIdentifier returns the [Identifier] by which the object names its signer.
func (v *verified[T]) SignerIdentifier() []byte { return bytes.Clone(v.signerID) }

// SignatureScheme returns how the object was signed.
func (v *verified[T]) SignatureScheme() keyspec.Scheme { return v.scheme }

// SigningTime returns when the object was signed, by the signer's own clock.
func (v *verified[T]) SigningTime() time.Time { return v.signingTime }

// Digest returns the SHA-256 of the whole object. There is one encoding of an
// object, so this names it.
func (v *verified[T]) Digest() [32]byte { return sha256.Sum256(v.raw) }

// Bytes returns the DER that was parsed.
func (v *verified[T]) Bytes() []byte { return bytes.Clone(v.raw) }
