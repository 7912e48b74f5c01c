package wire

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// FromKey returns the message for what a session key is.
func FromKey(k keyspec.Key) *Key {
	return &Key{Algorithm: int32(k.Algorithm), Purpose: int32(k.Purpose), Size: int32(k.Size)}
}

// Spec returns what a session key is. The error is for one that cannot exist.
func (k *Key) Spec() (keyspec.Key, error) {
	spec := keyspec.Key{Algorithm: keyspec.Algorithm(k.GetAlgorithm()), Purpose: keyspec.Purpose(k.GetPurpose()), Size: int(k.GetSize())}
	return spec, spec.Check()
}

// FromWrapped returns the message for a wrapped session key.
func FromWrapped(w keyspec.WrappedKey) (*WrappedKey, error) {
	m := &WrappedKey{Key: FromKey(w.Key), Confirmation: w.Confirmation}
	err := keyspec.Match(w.Wrapped,
		func(t *keyspec.KeyTransport) error {
			m.OaepHash, m.EncryptedKey = int32(t.OAEPHash), t.EncryptedKey
			return nil
		},
		func(a *keyspec.KeyAgreement) (err error) {
			m.EncryptedKey = a.EncryptedKey
			m.Ephemeral, err = x509.MarshalPKIXPublicKey(a.Ephemeral)
			return err
		})
	return m, err
}

// Spec returns a wrapped session key.
func (m *WrappedKey) Spec() (keyspec.WrappedKey, error) {
	key, err := m.GetKey().Spec()
	w := keyspec.WrappedKey{Key: key, Confirmation: m.GetConfirmation()}
	if err == nil {
		w.Wrapped, err = m.Wrapped()
	}
	return w, err
}

// Wrapped returns how a session key is wrapped, and nothing of what the key is.
func (m *WrappedKey) Wrapped() (keyspec.Wrapped, error) {
	if len(m.GetEphemeral()) == 0 {
		hash := crypto.Hash(m.GetOaepHash())
		if hash != crypto.SHA1 && hash != crypto.SHA256 {
			return nil, errHash
		}
		return &keyspec.KeyTransport{OAEPHash: hash, EncryptedKey: m.GetEncryptedKey()}, nil
	}
	public, err := x509.ParsePKIXPublicKey(m.Ephemeral)
	if err != nil {
		return nil, err
	}
	ec, ok := public.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("the ephemeral key is not an EC key")
	}
	ephemeral, err := ec.ECDH()
	return &keyspec.KeyAgreement{Ephemeral: ephemeral, EncryptedKey: m.GetEncryptedKey()}, err
}

var errHash = errors.New("an unknown hash function")

// Hash returns a hash function that signatures and OAEP use.
func Hash(id int32) (crypto.Hash, error) {
	switch h := crypto.Hash(id); h {
	case crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512:
		return h, nil
	}
	return 0, errHash
}

// FromPublic returns the SubjectPublicKeyInfo of a public key.
func FromPublic(public crypto.PublicKey) ([]byte, error) { return x509.MarshalPKIXPublicKey(public) }

// Public parses the SubjectPublicKeyInfo of an RSA or EC key.
func Public(spki []byte) (crypto.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, err
	}
	return keyspec.MatchPublic(public,
		func(p *rsa.PublicKey) crypto.PublicKey { return p },
		func(p *ecdsa.PublicKey) crypto.PublicKey { return p })
}

// PublicRSA parses the SubjectPublicKeyInfo of an RSA key.
func PublicRSA(spki []byte) (*rsa.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, err
	}
	if p, ok := public.(*rsa.PublicKey); ok {
		return p, nil
	}
	return nil, errors.New("the public key is not an RSA key")
}

// PublicECDH parses the SubjectPublicKeyInfo of an EC key for a key agreement.
func PublicECDH(spki []byte) (*ecdh.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, err
	}
	if p, ok := public.(*ecdsa.PublicKey); ok {
		return p.ECDH()
	}
	return nil, errors.New("the public key is not an EC key")
}
