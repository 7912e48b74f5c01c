package sharing

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// A Sealed is a secret that only the holder of one key exchange key opens: it is encrypted with AES-256 in
// CBC mode, padded as PKCS #7 (RFC 5652 §6.3), under a key that is wrapped to the holder. It does not
// prove where it comes from; a share is held against its commitments.
type Sealed struct {
	Key     keyspec.Wrapped
	IV      [aes.BlockSize]byte
	Content []byte
}

var sealing = keyspec.Key{Algorithm: keyspec.AES256, Purpose: keyspec.Encrypt, Size: 32}

// Seal seals a secret to a public key, with the hash of OAEP if that is RSA.
func Seal(ctx context.Context, secret []byte, to crypto.PublicKey, hash crypto.Hash) (Sealed, error) {
	var s Sealed
	value := make([]byte, sealing.Size)
	_, _ = rand.Read(value) // which never fails
	_, _ = rand.Read(s.IV[:])
	key, err := memkey.New(sealing, value, fail)
	if err != nil {
		return s, err
	}
	defer key.Close()
	if s.Key, err = key.Wrap(ctx, to, hash); err != nil {
		return s, err
	}
	padding := aes.BlockSize - len(secret)%aes.BlockSize
	s.Content = make([]byte, len(secret)+padding)
	copy(s.Content, secret)
	for i := len(secret); i < len(s.Content); i++ {
		s.Content[i] = byte(padding)
	}
	return s, key.Do(ctx, "seal a secret", func(value []byte) error {
		block, err := aes.NewCipher(value)
		if err == nil {
			cipher.NewCBCEncrypter(block, s.IV[:]).CryptBlocks(s.Content, s.Content)
		}
		return err
	})
}

// A Revealer is a key exchange pair that unwraps a session key and returns its value.
type Revealer interface {
	Reveal(context.Context, keyspec.WrappedKey) ([]byte, error)
}

// Open returns the secret, which the caller must overwrite. The error is a [keyspec.ErrWrapped] if it is
// not sealed to the pair, or damaged.
func Open(ctx context.Context, pair Revealer, s Sealed) ([]byte, error) {
	value, err := pair.Reveal(ctx, keyspec.WrappedKey{Key: sealing, Wrapped: s.Key})
	if err != nil {
		return nil, err
	}
	key, err := memkey.New(sealing, value, fail)
	if err != nil {
		return nil, err
	}
	defer key.Close()
	var secret []byte
	err = key.Do(ctx, "open a sealed secret", func(value []byte) error {
		block, err := aes.NewCipher(value)
		if err != nil {
			return err
		}
		if len(s.Content) == 0 || len(s.Content)%aes.BlockSize != 0 {
			return keyspec.ErrWrapped
		}
		plain := make([]byte, len(s.Content))
		defer clear(plain)
		cipher.NewCBCDecrypter(block, s.IV[:]).CryptBlocks(plain, s.Content)
		padding := int(plain[len(plain)-1])
		if padding < 1 || padding > aes.BlockSize {
			return fmt.Errorf("padding: %w", keyspec.ErrWrapped)
		}
		for _, b := range plain[len(plain)-padding:] {
			if int(b) != padding {
				return fmt.Errorf("padding: %w", keyspec.ErrWrapped)
			}
		}
		secret = append([]byte(nil), plain[:len(plain)-padding]...)
		return nil
	})
	return secret, err
}

// fail is the [memkey.Fail] of the keys in memory here.
func fail(op string, kind, err error) error {
	switch {
	case kind == nil && err == nil:
		return nil
	case kind == nil:
		return fmt.Errorf("%s: %w", op, err)
	case err == nil:
		return fmt.Errorf("%s: %w", op, kind)
	}
	return fmt.Errorf("%s: %w", op, errors.Join(kind, err))
}
