package token

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"fmt"

	"github.com/miekg/pkcs11"
)

// RSAES is how CryptoAPI encrypts session keys (RFC 8017 §7).
type RSAES int

const (
	RSAESPKCS1v15 RSAES = iota + 1 // RSAES-PKCS1-v1_5
	RSAESOAEPSHA1                  // RSAES-OAEP with SHA-1 and an empty label, CRYPT_OAEP
)

// WrapFor wraps the key to an RSA public key of 2048 bits or more, for software that
// knows nothing newer (C_WrapKey).
func (k *tokenTransit) WrapFor(ctx context.Context, to *rsa.PublicKey, how RSAES) ([]byte, error) {
	if how == RSAESOAEPSHA1 {
		wrapped, err := k.wrapRSA(ctx, to, crypto.SHA1)
		return wrapped.Key, err
	}
	const op = "wrap session key"
	t := k.token
	public, err := t.importPublicKey(ctx, to)
	if err != nil {
		return nil, err
	}
	var wrapped []byte
	err = k.use(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) (err error) {
		wrapped, err = t.ctx.WrapKey(s, mechanism(pkcs11.CKM_RSA_PKCS, nil), public, key)
		return err
	})
	if err == nil && len(wrapped) != to.Size() {
		return nil, t.fail(op, ErrUnsafe, fmt.Errorf("%d bytes came back for a key of %d", len(wrapped), to.Size()))
	}
	if err != nil {
		return nil, t.fail(op, nil, err)
	}
	return wrapped, nil
}

// WrapFor is that of a key in memory.
func (k *memoryKey) WrapFor(ctx context.Context, to *rsa.PublicKey, how RSAES) (wrapped []byte, err error) {
	const op = "wrap session key"
	if err := checkRecipient(to, crypto.SHA1); err != nil {
		return nil, k.token.fail(op, ErrUnsupported, err)
	}
	err = k.use(ctx, op, func(value []byte) (err error) {
		if how == RSAESOAEPSHA1 {
			wrapped, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, to, value, nil)
		} else {
			//lint:ignore SA1019 the peer knows nothing newer, and the user asked for it
			wrapped, err = rsa.EncryptPKCS1v15(rand.Reader, to, value)
		}
		return err
	})
	return wrapped, err
}
