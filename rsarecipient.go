package hsmkeys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// A file to an RSA key exchange pair has this stanza:
//
//	-> hsmkeys-rsa TAG ENC
//	ChaCha20-Poly1305(key, file key)
//
// ENC is a secret of 40 random bytes, encrypted to the public key with RSAES-OAEP. It is not the
// file key itself, and no session key has its length: a wrapped key of a blob is never taken for a
// stanza, nor the other way round, whatever labels a token supports. The key comes from the secret,
// ENC and the public key.
//
// OAEP uses SHA-1 and an empty label because every token supports them: SoftHSM 2.6 supports
// neither SHA-256 nor labels, and the sender cannot ask the token. OAEP needs no collision
// resistance (RFC 8017 §7.1).
//
// TAG tells which pair the stanza is for to somebody who knows the pair, and nothing to others. So
// the token and the PIN are needed only for the pair's own stanzas.
const (
	rsaStanza     = "hsmkeys-rsa"
	rsaSecretSize = 40
	rsaLabel      = "hsmkeys-rsa v1 key"
	rsaTagLabel   = "hsmkeys-rsa v1 tag"
	tagSize       = 4
)

// An An RSARecipient lets age encrypt to an RSA key exchange pair, without its token.
type RSARecipient struct {
	key *rsa.PublicKey
	id  []byte // its subject key identifier
}

// NewRSARecipient returns the recipient of the pair with a public key of 2048 to 16384 bits.
func NewRSARecipient(key *rsa.PublicKey) (*RSARecipient, error) {
	id, err := blob.PublicKeyID(key)
	if err != nil {
		return nil, err
	}
	if bits := key.N.BitLen(); bits > keyspec.MaxRSABits || key.N.Bit(0) == 0 || key.E < 3 || key.E%2 == 0 {
		return nil, fmt.Errorf("RSA with %d bits and exponent %d is no key to encrypt to: %w", bits, key.E, blob.ErrUnknown)
	}
	return &RSARecipient{key, id}, nil
}

// Wrap makes the stanza.
func (r *RSARecipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	secret := make([]byte, rsaSecretSize)
	defer clear(secret)
	_, _ = rand.Read(secret) // never fails
	enc, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, r.key, secret, nil)
	if err != nil {
		return nil, err
	}
	tag, err := rsaTag(enc, r.id)
	if err != nil {
		return nil, err
	}
	aead, err := rsaAEAD(secret, enc, r.id)
	if err != nil {
		return nil, err
	}
	// The key is for this one message, so the nonce can be constant.
	body := aead.Seal(nil, make([]byte, aead.NonceSize()), fileKey, nil)
	return []*age.Stanza{{Type: rsaStanza, Args: []string{encode64(tag), encode64(enc)}, Body: body}}, nil
}

// unwrapRSA opens a stanza for the pair. The error is an [blob.ErrIntegrity] that does not say what
// failed: somebody who sends many such files must not learn from it whether the padding was right.
func unwrapRSA(ctx context.Context, pair Decrypter, id []byte, s *age.Stanza) ([]byte, error) {
	_, enc, err := parsePairStanza(s)
	if err != nil {
		return nil, err
	}
	secret, err := pair.Decrypt(ctx, enc, crypto.SHA1)
	defer clear(secret)
	if err != nil && !errors.Is(err, keyspec.ErrWrapped) {
		return nil, err
	}
	if err != nil || len(secret) != rsaSecretSize { // a session key, perhaps
		return nil, errDamagedStanza
	}
	aead, err := rsaAEAD(secret, enc, id)
	if err != nil {
		return nil, err
	}
	fileKey, err := aead.Open(nil, make([]byte, aead.NonceSize()), s.Body, nil)
	if err != nil {
		return nil, errDamagedStanza
	}
	return fileKey, nil
}

func rsaAEAD(secret, enc, id []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, bytes.Join([][]byte{enc, id}, nil), rsaLabel, chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return chacha20poly1305.New(key)
}

// rsaTag returns the tag of a stanza, which is computed as in age's own p256tag.
func rsaTag(enc, id []byte) ([]byte, error) {
	tag, err := hkdf.Extract(sha256.New, bytes.Join([][]byte{enc, id}, nil), []byte(rsaTagLabel))
	if err != nil {
		return nil, err
	}
	return tag[:tagSize], nil
}
