package token

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// UnwrapRSAES unwraps a session key that CryptoAPI has encrypted to the pair, which must be RSA,
// so that it can be wrapped to others: an AES key on the token (C_UnwrapKey) if keys live there,
// else into memory (C_Decrypt). Keys of legacy ciphers always pass through memory: a token does
// not tell the length of what it has unwrapped, and SoftHSM accepts a key of 15 bytes as one of
// 16.
//
// Whatever is wrong with the ciphertext, its padding or the length of the key, the error is the
// same [ErrWrapped]: if the two could be told apart, anybody who may try often enough could
// decrypt whatever was encrypted to the pair (Bleichenbacher, CRYPTO '98; RFC 3218). One may still
// fail sooner than the other, which the caller must hide; and success is visible in any case.
func (p *KeyPair) UnwrapRSAES(ctx context.Context, spec keyspec.Key, encrypted []byte, how keyspec.RSAES) (keyspec.Transit, error) {
	const op = "unwrap session key"
	t := p.token
	_, isRSA := p.public.(*rsa.PublicKey)
	switch err := spec.Check(); {
	case !isRSA:
		return nil, t.fail(op, errors.ErrUnsupported, errors.New("the pair is not RSA"))
	case err != nil:
		return nil, t.fail(op, errors.ErrUnsupported, err)
	case spec.Purpose == keyspec.Authenticate:
		return nil, t.fail(op, errors.ErrUnsupported, memkey.ErrPurpose)
	}
	wrapped := &rsaWrapped{encrypted: encrypted, pkcs1v15: how == keyspec.RSAESPKCS1v15}
	if how == keyspec.RSAESOAEPSHA1 {
		wrapped.hash = crypto.SHA1
	}
	if err := wrapped.check(p, spec); err != nil {
		return nil, t.fail(op, ErrWrapped, err) // not secret: anybody can count the bytes
	}
	key, err := p.unwrapRSAES(ctx, spec, wrapped)
	return key, p.hideCause(op, err)
}

func (p *KeyPair) unwrapRSAES(ctx context.Context, spec keyspec.Key, wrapped *rsaWrapped) (keyspec.Transit, error) {
	if spec.Algorithm.IsLegacy() {
		if p.token.cfg.RequireToken {
			return nil, p.refuseMemory(errors.New("a key of a legacy cipher passes through the memory of this program, as its length would not be known otherwise"))
		}
		value, err := wrapped.open(ctx, p)
		if err != nil {
			return nil, err
		}
		return asTransit(memkey.New(spec, value, p.token.fail))
	}
	key, err := p.unwrapTransit(ctx, opening{spec: spec, wrapped: wrapped})
	if err != nil {
		return nil, err
	}
	if inToken, ok := key.(*tokenTransit); ok {
		if err := inToken.checkSize(ctx); err != nil {
			return nil, also(err, key.Close())
		}
	}
	return key, nil
}

// checkSize returns an error if an AES key that the token has unwrapped does not have the size
// that it should have, which only the padding determined. A key that encrypts has one of the three
// sizes of AES, and wrapped under another key it is 8 bytes longer.
func (k *tokenTransit) checkSize(ctx context.Context) error {
	err := k.use(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) error {
		_, err := k.computeCheckValue(s, key)
		return err
	})
	if err == nil {
		_, err = k.fingerprint(ctx)
	}
	// SoftHSM returns CKR_MECHANISM_INVALID for a key of a wrong size.
	if err != nil && !aboutToken(err) {
		return ErrWrapped
	}
	return err
}

// aboutToken reports whether an error cannot have anything to do with what was unwrapped.
func aboutToken(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrLost) || errors.Is(err, ErrClosed)
}

// hideCause returns err if it is about the token, and an error without a cause if it may be about
// the key. Tokens have many return values for invalid padding, so those that cannot be about it
// are listed.
func (p *KeyPair) hideCause(op string, err error) error {
	switch {
	case err == nil, aboutToken(err), errors.Is(err, ErrResidence),
		is(err, pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_FUNCTION_NOT_SUPPORTED, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED,
			pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LOCKED):
		return err
	}
	return &Error{Op: op, Token: p.token.info.Label, Kind: ErrWrapped}
}

// WrapFor wraps the key to an RSA public key as CryptoAPI does (C_WrapKey).
func (k *tokenTransit) WrapFor(ctx context.Context, to *rsa.PublicKey, how keyspec.RSAES) ([]byte, error) {
	if how == keyspec.RSAESOAEPSHA1 {
		wrapped, err := k.wrapRSA(ctx, to, crypto.SHA1)
		if err != nil {
			return nil, err
		}
		return wrapped.EncryptedKey, nil
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
