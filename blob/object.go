package blob

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// sign makes a signed object of content, which is of p's type, and reads it back: what
// the signer returned is verified before it counts. extra are signed attributes beside
// those that every object has.
func sign[V any](p profile, content []byte, extra []attribute, signer Signer, signingTime time.Time, read func(der []byte, trusted []Party) (*V, error)) (*V, error) {
	der, err := signContent(p, content, extra, signer, signingTime)
	if err != nil {
		return nil, err
	}
	v, err := read(der, []Party{signer.party()})
	if err != nil {
		return nil, fmt.Errorf("new %w", err)
	}
	return v, nil
}

// unverified is what every kind of signed object is as it came from storage.
type unverified struct {
	raw    []byte
	signed *signedData
}

// parseObject reads the outer structure, out of a copy: what is verified later
// must be what was read.
func parseObject(p profile, der []byte) (unverified, error) {
	raw := bytes.Clone(der[:min(len(der), MaxSize+1)])
	s, err := parseSignedData(p, raw)
	return unverified{raw, s}, err
}

// SignerIdentifier returns the [Identifier], 1 to 64 bytes, of whoever is claimed to have
// signed. It serves to choose a key to trust, not to trust one.
func (u *unverified) SignerIdentifier() []byte { return bytes.Clone(u.signed.signerID) }

// verify checks the signature, and not yet what was signed.
func (u *unverified) verify(p profile, trusted []Party) (verified, error) {
	key, signingTime, err := u.signed.verify(p, trusted)
	if err != nil {
		return verified{}, err
	}
	keyID, err := PublicKeyID(key)
	return u.signedBy(keyID, signingTime), err
}

func (u *unverified) signedBy(keyID []byte, signingTime time.Time) verified {
	return verified{u.raw, keyID, u.signed.signerID, u.signed.suite.scheme, signingTime}
}

// verified is what every kind of verified object says of its signature.
type verified struct {
	raw         []byte
	signerKeyID []byte
	signerID    []byte
	scheme      keyspec.Scheme
	signingTime time.Time
}

// SignerKeyID returns the [keyspec.SubjectKeyID] of the key by which the signature holds, 20
// bytes; nil for a checkpoint that was verified by its digest alone.
func (v *verified) SignerKeyID() []byte { return bytes.Clone(v.signerKeyID) }

// SignerIdentifier returns the [Identifier] by which the object names its signer.
func (v *verified) SignerIdentifier() []byte { return bytes.Clone(v.signerID) }

// SignatureScheme returns how the object was signed.
func (v *verified) SignatureScheme() keyspec.Scheme { return v.scheme }

// SigningTime returns when, by the signer's own clock, it was signed.
func (v *verified) SigningTime() time.Time { return v.signingTime }

// Digest returns the SHA-256 of the whole object. There is one encoding of an
// object, so this names it.
func (v *verified) Digest() [32]byte { return sha256.Sum256(v.raw) }

// Bytes returns the DER that was parsed.
func (v *verified) Bytes() []byte { return bytes.Clone(v.raw) }
