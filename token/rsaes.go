package token

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// UnwrapRSAES unwraps a session key that was encrypted to the pair, which is RSA, by such
// software, so that it can be wrapped to others: an AES key in the token (C_UnwrapKey)
// where keys live there, else into memory (C_Decrypt). The keys of legacy ciphers always
// pass through memory: tokens do not tell how long what they have unwrapped is, and
// SoftHSM takes a key of 15 bytes for one of 16.
//
// Whatever is wrong with what was encrypted, its padding or its length, the error is an
// [ErrWrapped] that says nothing else: told apart, the two decrypt anything that was ever
// encrypted to the pair for who may ask often enough (Bleichenbacher, CRYPTO '98; RFC
// 3218). It may still come sooner for the one than for the other, which the caller has to
// level; and that it worked is told all the same.
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
		return nil, t.fail(op, errors.ErrUnsupported, errUse)
	}
	wrapped := &rsaWrapped{encrypted: encrypted, pkcs1v15: how == keyspec.RSAESPKCS1v15}
	if how == keyspec.RSAESOAEPSHA1 {
		wrapped.hash = crypto.SHA1
	}
	if err := wrapped.check(p, spec); err != nil {
		return nil, t.fail(op, ErrWrapped, err) // no secret: anybody can count the bytes
	}
	key, err := p.unwrapRSAES(ctx, spec, wrapped)
	return key, p.hideCause(op, err)
}

func (p *KeyPair) unwrapRSAES(ctx context.Context, spec keyspec.Key, wrapped *rsaWrapped) (keyspec.Transit, error) {
	if spec.Algorithm.IsLegacy() {
		if p.token.cfg.RequireToken {
			return nil, p.refuseMemory(errors.New("a key of a legacy cipher passes through the memory of this program, or its length would not be known"))
		}
		value, err := wrapped.open(ctx, p)
		if err != nil {
			return nil, err
		}
		return asTransit(p.token.newMemoryKey(spec, value))
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

// checkSize finds out whether an AES key that the token has unwrapped has the size that it
// should have: the padding alone said how long it is. A key that encrypts has one of the
// three sizes, and wrapped under another key it is 8 bytes longer.
func (k *tokenTransit) checkSize(ctx context.Context) error {
	err := k.use(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) error {
		_, err := k.computeCheckValue(s, key)
		return err
	})
	if err == nil {
		_, err = k.fingerprint(ctx)
	}
	// SoftHSM answers CKR_MECHANISM_INVALID to a key of a wrong size.
	if err != nil && !aboutToken(err) {
		return ErrWrapped
	}
	return err
}

// aboutToken says whether an error can have nothing to do with what was unwrapped.
func aboutToken(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrLost) || errors.Is(err, ErrClosed)
}

// hideCause keeps what is about the token of an error, and nothing of what is about the key.
// Tokens have many codes for a padding that does not hold, so those that can have nothing
// to do with it are named.
func (p *KeyPair) hideCause(op string, err error) error {
	switch {
	case err == nil, aboutToken(err), errors.Is(err, ErrResidence),
		is(err, pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_FUNCTION_NOT_SUPPORTED, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED,
			pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LOCKED):
		return err
	}
	return &Error{Op: op, Token: p.token.info.Label, Kind: ErrWrapped}
}

// WrapFor wraps the key to an RSA public key of 2048 bits or more, for software that
// knows nothing newer (C_WrapKey).
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

// WrapFor is that of a key in memory.
func (k *memoryKey) WrapFor(ctx context.Context, to *rsa.PublicKey, how keyspec.RSAES) (wrapped []byte, err error) {
	const op = "wrap session key"
	if err := checkRecipient(to, crypto.SHA1); err != nil {
		return nil, k.token.fail(op, errors.ErrUnsupported, err)
	}
	err = k.use(ctx, op, func(value []byte) (err error) {
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
