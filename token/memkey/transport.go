package memkey

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// WrapRSA wraps a session key's value to an RSA public key in this process.
func WrapRSA(to *rsa.PublicKey, hash crypto.Hash, value []byte) (*keyspec.KeyTransport, error) {
	encrypted, err := rsa.EncryptOAEP(hash.New(), rand.Reader, to, value, nil)
	return &keyspec.KeyTransport{OAEPHash: hash, EncryptedKey: encrypted}, err
}

// CheckRSA returns an error for an RSA public key that nothing should be encrypted to.
func CheckRSA(key *rsa.PublicKey) error {
	if bits := key.N.BitLen(); bits < keyspec.MinRSABits || bits > keyspec.MaxRSABits || key.E < 3 || key.E%2 == 0 {
		return fmt.Errorf("RSA with %d bits and exponent %d", bits, key.E)
	}
	return nil
}

// checkRecipient returns an error for a public key to which no session key should be wrapped.
func checkRecipient(to crypto.PublicKey, hash crypto.Hash) error {
	return MatchPublic(to,
		func(to *rsa.PublicKey) error {
			if hash != crypto.SHA256 && hash != crypto.SHA1 {
				return fmt.Errorf("OAEP with %v", hash)
			}
			return CheckRSA(to)
		},
		func(to *ecdsa.PublicKey) error {
			_, err := to.ECDH()
			return err
		})
}

// WrapFor wraps the key to an RSA public key as CryptoAPI does.
func (k *Key) WrapFor(ctx context.Context, to *rsa.PublicKey, how keyspec.RSAES) (wrapped []byte, err error) {
	const op = "wrap session key"
	if err := checkRecipient(to, crypto.SHA1); err != nil {
		return nil, k.fail(op, errors.ErrUnsupported, err)
	}
	err = k.Do(ctx, op, func(value []byte) (err error) {
		if how == keyspec.RSAESOAEPSHA1 {
			wrapped, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, to, value, nil)
		} else {
			//lint:ignore SA1019 the peer knows nothing newer, and the user asked for it
			wrapped, err = rsa.EncryptPKCS1v15(rand.Reader, to, value)
		}
		return err
	})
	return wrapped, err
}

// MatchPublic is [keyspec.MatchPublic] for functions that return an error.
func MatchPublic(pub crypto.PublicKey, rsaKey func(*rsa.PublicKey) error, ecKey func(*ecdsa.PublicKey) error) error {
	failed, unknown := keyspec.MatchPublic(pub, rsaKey, ecKey)
	if unknown != nil {
		return unknown
	}
	return failed
}
