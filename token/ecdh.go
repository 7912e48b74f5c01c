package token

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// Key agreement, as CMS has it: ephemeral-static ECDH, the X9.63 key derivation
// function with the hash of the curve, AES-256 key wrap (RFC 5753 §3.1 and §7.1.4:
// dhSinglePass-stdDH-sha256kdf-scheme and its sisters).

// sharedInfo is the DER of ECC-CMS-SharedInfo (RFC 5753 §7.2): id-aes256-wrap, no
// entityUInfo, and the length of the key-encryption key, 256 bits.
var sharedInfo = []byte{
	0x30, 0x15, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2d,
	0xa2, 0x06, 0x04, 0x04, 0x00, 0x00, 0x01, 0x00,
}

// kekSize is that of the key-encryption key, in bytes.
const kekSize = 32

// agreeWith makes an ephemeral key and agrees with a public key on a secret.
func agreeWith(to *ecdsa.PublicKey) (ephemeral *ecdh.PublicKey, secret []byte, err error) {
	public, err := to.ECDH()
	if err != nil {
		return nil, nil, err
	}
	own, err := public.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	secret, err = own.ECDH(public)
	return own.PublicKey(), secret, err
}

// agreeKEK agrees with a public key on a key-encryption key. The caller overwrites it.
func agreeKEK(to *ecdsa.PublicKey) (ephemeral *ecdh.PublicKey, kek []byte, err error) {
	ephemeral, secret, err := agreeWith(to)
	if err != nil {
		return nil, nil, err
	}
	defer clear(secret)
	kek, err = deriveX963(ephemeral.Curve(), secret)
	return ephemeral, kek, err
}

// deriveX963 is the X9.63 key derivation function (SEC 1 §3.6.1). One block of every
// hash here is long enough.
func deriveX963(curve ecdh.Curve, secret []byte) ([]byte, error) {
	for _, c := range curves {
		if c.ecdh == curve {
			h := c.hash.New()
			defer wipe(h) // it still holds the secret
			h.Write(secret)
			h.Write([]byte{0, 0, 0, 1})
			h.Write(sharedInfo)
			return h.Sum(nil)[:kekSize], nil
		}
	}
	return nil, fmt.Errorf("%w: curve %v", errors.ErrUnsupported, curve)
}

// wrapECInMemory wraps a session key's value to an EC public key.
func wrapECInMemory(to *ecdsa.PublicKey, value []byte) (Wrapped, error) {
	ephemeral, kek, err := agreeKEK(to)
	if err != nil {
		return Wrapped{}, err
	}
	defer clear(kek)
	wrapped, err := keyWrap(kek, value)
	return Wrapped{Ephemeral: ephemeral, Key: wrapped}, err
}

// openEC agrees in the token on the secret, and unwraps in this process. The caller
// overwrites the value.
func (p *KeyPair) openEC(ctx context.Context, wrapped Wrapped) ([]byte, error) {
	const op = "open session key"
	secret, err := p.agreeRaw(ctx, wrapped.Ephemeral)
	if err != nil {
		return nil, p.token.fail(op, nil, err)
	}
	defer clear(secret)
	kek, err := deriveX963(wrapped.Ephemeral.Curve(), secret)
	if err != nil {
		return nil, p.token.fail(op, errors.ErrUnsupported, err)
	}
	defer clear(kek)
	value, err := keyUnwrap(kek, wrapped.Key)
	if err != nil {
		return nil, p.token.fail(op, ErrWrapped, err)
	}
	return value, nil
}

// agreeRaw has the token agree with an ephemeral key, and reads the secret. The
// caller overwrites it.
func (p *KeyPair) agreeRaw(ctx context.Context, ephemeral *ecdh.PublicKey) ([]byte, error) {
	const op = "agree on a secret"
	t := p.token
	if !p.private.derive {
		return nil, t.fail(op, errors.ErrUnsupported, errors.New("the pair must not derive (CKA_DERIVE)"))
	}
	size := (p.public.(*ecdsa.PublicKey).Curve.Params().BitSize + 7) / 8
	var secret []byte
	err := p.with(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) error {
		how := mechanism(pkcs11.CKM_ECDH1_DERIVE, pkcs11.NewECDH1DeriveParams(pkcs11.CKD_NULL, nil, ephemeral.Bytes()))
		handle, err := t.ctx.DeriveKey(s, how, key, agreedSecret(size))
		if err != nil {
			return err
		}
		secret, err = t.readValue(s, handle)
		return also(err, t.ctx.DestroyObject(s, handle))
	})
	if err != nil {
		clear(secret)
		return nil, t.fail(op, nil, err)
	}
	if len(secret) > size {
		return nil, t.fail(op, ErrUnsafe, fmt.Errorf("%d bytes came back, a secret of this curve has %d", len(secret), size))
	}
	// Some tokens leave out leading zeros.
	padded := make([]byte, size)
	copy(padded[size-len(secret):], secret)
	clear(secret)
	return padded, nil
}

// deriveKEK has the token agree on a secret and derive the key-encryption key from
// it, which stays there.
func (p *KeyPair) deriveKEK(s pkcs11.SessionHandle, key pkcs11.ObjectHandle, ephemeral *ecdh.PublicKey) (pkcs11.ObjectHandle, error) {
	for _, c := range curves {
		if c.ecdh == ephemeral.Curve() {
			how := mechanism(pkcs11.CKM_ECDH1_DERIVE, pkcs11.NewECDH1DeriveParams(c.kdf, sharedInfo, ephemeral.Bytes()))
			return p.token.ctx.DeriveKey(s, how, key, unwrappingKEK())
		}
	}
	return 0, errors.ErrUnsupported
}

// sameCurve says whether an ephemeral key is for this pair.
func (p *KeyPair) sameCurve(ephemeral *ecdh.PublicKey) bool {
	own, ok := p.public.(*ecdsa.PublicKey)
	if !ok || ephemeral == nil {
		return false
	}
	public, err := own.ECDH()
	return err == nil && public.Curve() == ephemeral.Curve()
}

// signatureHash is the hash that goes with the pair's key.
func (p *KeyPair) signatureHash() crypto.Hash {
	if own, ok := p.public.(*ecdsa.PublicKey); ok {
		for _, c := range curves {
			if c.curve == own.Curve {
				return c.hash
			}
		}
	}
	return crypto.SHA256
}
