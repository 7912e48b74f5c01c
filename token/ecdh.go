package token

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// Key agreement as in CMS: ephemeral-static ECDH, the X9.63 key derivation
// function with the hash of the curve, AES-256 key wrap (RFC 5753 §3.1 and §7.1.4:
// dhSinglePass-stdDH-sha256kdf-scheme and its siblings).

// ECDH has the token agree with a public key on the pair's curve (SP 800-56A §5.7.1.2), and
// returns the shared secret, which is as long as the field. The caller must overwrite it.
func (p *KeyPair) ECDH(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	if !p.sameCurve(peer) {
		return nil, p.token.fail("agree on a secret", ErrWrapped, errors.New("the other public key is not of the pair's curve"))
	}
	return p.agreeRaw(ctx, peer)
}

// ecdhWrapped is a session key that was wrapped to an EC pair.
type ecdhWrapped struct{ *keyspec.KeyAgreement }

func (w ecdhWrapped) check(p *KeyPair, spec keyspec.Key) error {
	if !p.sameCurve(w.Ephemeral) || len(w.EncryptedKey) != spec.Size+8 {
		return fmt.Errorf("%d bytes with another ephemeral key than one of the pair's curve", len(w.EncryptedKey))
	}
	return nil
}

func (w ecdhWrapped) unwrap(p *KeyPair, s pkcs11.SessionHandle, private pkcs11.ObjectHandle, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	t := p.token
	kek, err := p.deriveKEK(s, private, w.Ephemeral)
	if err != nil {
		return 0, err
	}
	defer func() { _ = t.ctx.DestroyObject(s, kek) }()
	return t.ctx.UnwrapKey(s, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), kek, w.EncryptedKey, template)
}

func (w ecdhWrapped) refused(error) bool { return false }

// open agrees in the token on the secret, and unwraps in this process.
func (w ecdhWrapped) open(ctx context.Context, p *KeyPair) ([]byte, error) {
	const op = "open session key"
	secret, err := p.agreeRaw(ctx, w.Ephemeral)
	if err != nil {
		return nil, p.token.fail(op, nil, err)
	}
	defer clear(secret)
	kek, err := memkey.DeriveKEK(w.Ephemeral.Curve(), secret)
	if err != nil {
		return nil, p.token.fail(op, errors.ErrUnsupported, err)
	}
	defer clear(kek)
	value, err := memkey.KeyUnwrap(kek, w.EncryptedKey)
	if err != nil {
		return nil, p.token.fail(op, ErrWrapped, err)
	}
	return value, nil
}

// wrapEC has the token wrap the key under a key-encryption key that only the holder can agree on.
// That key is made in this process, from an ephemeral key, and is a session object only while it
// wraps: many tokens cannot make ephemeral pairs.
func (k *tokenTransit) wrapEC(ctx context.Context, to *ecdsa.PublicKey) (*keyspec.KeyAgreement, error) {
	const op = "wrap session key"
	t := k.token
	if !k.spec.WrapsInAES() {
		return nil, t.fail(op, errors.ErrUnsupported, memkey.ShortForEC(k.spec))
	}
	wrapped := new(keyspec.KeyAgreement)
	err := memkey.WithoutTrace(func() error {
		ephemeral, kek, err := memkey.AgreeKEK(to)
		if err != nil {
			return t.fail(op, errors.ErrUnsupported, err)
		}
		defer clear(kek)
		wrapped.Ephemeral = ephemeral
		return k.use(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) error {
			handle, err := t.ctx.CreateObject(s, append(wrappingKEK(), attr(pkcs11.CKA_VALUE, kek)))
			if err != nil {
				return err
			}
			wrapped.EncryptedKey, err = t.ctx.WrapKey(s, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), handle, key)
			return also(err, t.ctx.DestroyObject(s, handle))
		})
	})
	if err != nil {
		return nil, t.fail(op, nil, err)
	}
	if len(wrapped.EncryptedKey) != k.spec.Size+8 {
		return nil, t.fail(op, ErrUnsafe, fmt.Errorf("%d bytes came back for a key of %d", len(wrapped.EncryptedKey), k.spec.Size))
	}
	return wrapped, nil
}

// agreeRaw has the token agree with an ephemeral key, and reads the secret. The caller must
// overwrite it.
func (p *KeyPair) agreeRaw(ctx context.Context, ephemeral *ecdh.PublicKey) ([]byte, error) {
	const op = "agree on a secret"
	t := p.token
	if !p.private.derive {
		return nil, t.fail(op, errors.ErrUnsupported, errors.New("the pair may not derive (CKA_DERIVE)"))
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

// deriveKEK has the token agree on a secret and derive the key-encryption key from it, which stays
// on the token.
func (p *KeyPair) deriveKEK(s pkcs11.SessionHandle, key pkcs11.ObjectHandle, ephemeral *ecdh.PublicKey) (pkcs11.ObjectHandle, error) {
	for _, c := range curves {
		if c.ecdh == ephemeral.Curve() {
			how := mechanism(pkcs11.CKM_ECDH1_DERIVE, pkcs11.NewECDH1DeriveParams(c.kdf, memkey.SharedInfo, ephemeral.Bytes()))
			return p.token.ctx.DeriveKey(s, how, key, unwrappingKEK())
		}
	}
	return 0, errors.ErrUnsupported
}

// sameCurve reports whether a public key is on the pair's curve.
func (p *KeyPair) sameCurve(ephemeral *ecdh.PublicKey) bool {
	own, ok := p.public.(*ecdsa.PublicKey)
	if !ok || ephemeral == nil {
		return false
	}
	public, err := own.ECDH()
	return err == nil && public.Curve() == ephemeral.Curve()
}
