package main

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
)

// A ciphertext is
//
//	version, 1 byte: 1
//	data key, 32 bytes, wrapped with AES key wrap under the session key (RFC 3394), 40 bytes
//	nonce, 12 bytes
//	AES-256-GCM of the plaintext under the data key, with the key id as additional data
//	(NIST SP 800-38D): as long as the plaintext, and 16 bytes more
//
// so one of 512 bytes becomes 581, and the API server takes up to 1 kB.
const (
	ciphertextVersion = 1

	maxPlaintext = 512 // bytes; the API server sends 32
	dataKeySize  = 32
	wrappedSize  = dataKeySize + 8
	overhead     = 1 + wrappedSize + 12 + 16

	additionalPrefix = "hsmkeys-kms v1 "
)

var (
	errPlaintext  = fmt.Errorf("the plaintext has more than %d bytes: this plugin encrypts keys, as the API server of KMS v2 sends them", maxPlaintext)
	errCiphertext = errors.New("this is no ciphertext of hsmkeys-kms")
	errKeyID      = errors.New("this is no key id of hsmkeys-kms")
)

// seal encrypts under a data key, which was wrapped.
func seal(dataKey, wrapped, plaintext []byte, keyID string) ([]byte, error) {
	aead, err := newAEAD(dataKey)
	if err != nil {
		return nil, err
	}
	out := append([]byte{ciphertextVersion}, wrapped...)
	return aead.Seal(out, nil, plaintext, []byte(additionalPrefix+keyID)), nil
}

// split checks the form of a ciphertext, and returns the wrapped data key and the rest.
func split(ciphertext []byte) (wrapped, sealed []byte, err error) {
	if len(ciphertext) < overhead || len(ciphertext) > overhead+maxPlaintext || ciphertext[0] != ciphertextVersion {
		return nil, nil, errCiphertext
	}
	return ciphertext[1 : 1+wrappedSize], ciphertext[1+wrappedSize:], nil
}

// open decrypts what split returns.
func open(dataKey, sealed []byte, keyID string) ([]byte, error) {
	aead, err := newAEAD(dataKey)
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, nil, sealed, []byte(additionalPrefix+keyID))
}

// newAEAD returns AES-256-GCM with a random nonce that precedes the ciphertext.
func newAEAD(dataKey []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(dataKey)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// A keyID names the version of a key, as KEYRING/ID/NAME@VERSION. The API server keeps it beside what was
// encrypted, and sees from it that the key was rotated. It has less than 1 kB.
type keyID struct {
	keyring, id blob.ID
	ref         hsmkeys.Ref
}

func (id keyID) String() string { return fmt.Sprintf("%v/%v/%v", id.keyring, id.id, id.ref) }

// parseKeyID parses a key id, of which there is one form.
func parseKeyID(s string) (id keyID, err error) {
	keyring, rest, _ := strings.Cut(s, "/")
	key, name, _ := strings.Cut(rest, "/")
	if id.keyring, err = parseID(keyring); err == nil {
		if id.id, err = parseID(key); err == nil {
			id.ref, err = hsmkeys.ParseRef(name)
		}
	}
	if err != nil || id.ref.Version == 0 || id.String() != s {
		return keyID{}, errKeyID
	}
	return id, nil
}

func parseID(s string) (id blob.ID, err error) {
	if len(s) != hex.EncodedLen(len(id)) {
		return id, errKeyID
	}
	_, err = hex.Decode(id[:], []byte(s))
	return id, err
}
