package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// tokenTransit is a session key in transit on the token: only what is wrapped
// comes out.
type tokenTransit struct {
	object
	spec         Spec
	confirmation []byte // nil until it is known, see checkMade
}

func (k *tokenTransit) Residence() Residence { return InToken }

// Generate makes a session key on the token (C_GenerateKey), whatever pairs there
// are; see [KeyPair.Generate]. A key of another size, the same key as before, and one of
// zeros are an [ErrUnsafe].
func (t *Token) Generate(ctx context.Context, spec Spec) (Transit, error) {
	const op = "generate session key"
	if err := spec.check(); err != nil {
		return nil, t.fail(op, errors.ErrUnsupported, err)
	}
	var handle pkcs11.ObjectHandle
	var generation uint64
	err := t.with(ctx, func(s pkcs11.SessionHandle) (err error) {
		generation = t.generation.Load()
		t.objects.Store(true)
		handle, err = t.ctx.GenerateKey(s, mechanism(spec.generator(), nil),
			append(spec.inTransit(), attr(pkcs11.CKA_VALUE_LEN, spec.Size)))
		return err
	})
	if err != nil {
		return nil, t.fail(op, nil, err)
	}
	key := &tokenTransit{object: object{token: t, handle: handle, generation: generation}, spec: spec}
	if err := key.checkMade(ctx); err != nil {
		return nil, also(err, key.Close())
	}
	return key, nil
}

// CheckValue is the key's CKA_CHECK_VALUE, 3 bytes (PKCS #11 §4.10.2), or nil where
// the token has none for this key. Tokens have one for keys that they make, and
// some none for keys that they unwrap: then the token computes it as the standard
// says.
func (k *tokenTransit) CheckValue(ctx context.Context) ([]byte, error) {
	var value []byte
	err := k.use(ctx, func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
		attributes, err := k.token.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{attr(pkcs11.CKA_CHECK_VALUE, nil)})
		if err == nil && len(attributes[0].Value) == checkValueSize {
			value = attributes[0].Value
			return nil
		}
		if err != nil && !is(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID) {
			return err
		}
		value, err = k.computeCheckValue(s, handle)
		if gone(err) {
			return err
		}
		return nil // that the token does not do it is an answer
	})
	return value, k.token.fail("read the key check value", nil, err)
}

const checkValueSize = 3

// computeCheckValue encrypts one block of zeros (AES), or takes the SHA-1 of the
// value (generic secrets).
func (k *tokenTransit) computeCheckValue(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) ([]byte, error) {
	t := k.token
	var out []byte
	var err error
	if k.spec.keyType() == pkcs11.CKK_AES {
		if err = t.ctx.EncryptInit(s, mechanism(pkcs11.CKM_AES_ECB, nil), handle); err == nil {
			out, err = t.ctx.Encrypt(s, make([]byte, 16))
		}
	} else {
		if err = t.ctx.DigestInit(s, mechanism(pkcs11.CKM_SHA_1, nil)); err == nil {
			if err = t.ctx.DigestKey(s, handle); err == nil {
				out, err = t.ctx.DigestFinal(s)
			}
		}
	}
	if err != nil || len(out) < checkValueSize {
		return nil, err
	}
	return out[:checkValueSize], nil
}

func (k *tokenTransit) Wrap(ctx context.Context, to crypto.PublicKey, hash crypto.Hash) (Wrapped, error) {
	switch to := to.(type) {
	case *rsa.PublicKey:
		return k.wrapRSA(ctx, to, hash)
	case *ecdsa.PublicKey:
		return k.wrapEC(ctx, to)
	}
	return Wrapped{}, k.token.fail("wrap session key", errors.ErrUnsupported, fmt.Errorf("to a %T", to))
}

// wrapRSA has the token wrap the key to an RSA public key (C_WrapKey).
func (k *tokenTransit) wrapRSA(ctx context.Context, to *rsa.PublicKey, hash crypto.Hash) (Wrapped, error) {
	const op = "wrap session key"
	t := k.token
	if hash != crypto.SHA256 && hash != crypto.SHA1 {
		return Wrapped{}, t.fail(op, errors.ErrUnsupported, fmt.Errorf("OAEP with %v", hash))
	}
	if t.sha1Only.Load() {
		hash = crypto.SHA1
	}
	public, err := t.importPublicKey(ctx, to)
	if err != nil {
		return Wrapped{}, err
	}
	wrapped := Wrapped{Hash: hash}
	err = k.use(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) (err error) {
		wrapped.Key, err = t.ctx.WrapKey(s, oaep(wrapped.Hash), public, key)
		if wrapped.Hash == crypto.SHA1 || !refusesParameters(err) {
			return err
		}
		wrapped.Hash = crypto.SHA1
		if wrapped.Key, err = t.ctx.WrapKey(s, oaep(wrapped.Hash), public, key); err == nil {
			t.sha1Only.Store(true) // it was the hash and nothing else
		}
		return err
	})
	if err != nil {
		return Wrapped{}, t.fail(op, nil, err)
	}
	if len(wrapped.Key) != to.Size() {
		return Wrapped{}, t.fail(op, ErrUnsafe, fmt.Errorf("%d bytes came back for a key of %d", len(wrapped.Key), to.Size()))
	}
	return wrapped, nil
}

// wrapEC has the token wrap the key under a key-encryption key that only the
// holder can agree on. That key is made in our process, from an ephemeral key, and
// is a session object for the moment of wrapping: no token is asked to make
// ephemeral pairs, which many cannot.
func (k *tokenTransit) wrapEC(ctx context.Context, to *ecdsa.PublicKey) (Wrapped, error) {
	const op = "wrap session key"
	t := k.token
	if !k.spec.wrapsInAES() {
		return Wrapped{}, t.fail(op, errors.ErrUnsupported, errShortForEC(k.spec))
	}
	var wrapped Wrapped
	err := withoutTrace(func() error {
		ephemeral, kek, err := agreeKEK(to)
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
			wrapped.Key, err = t.ctx.WrapKey(s, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), handle, key)
			return also(err, t.ctx.DestroyObject(s, handle))
		})
	})
	if err != nil {
		return Wrapped{}, t.fail(op, nil, err)
	}
	if len(wrapped.Key) != k.spec.Size+8 {
		return Wrapped{}, t.fail(op, ErrUnsafe, fmt.Errorf("%d bytes came back for a key of %d", len(wrapped.Key), k.spec.Size))
	}
	return wrapped, nil
}

// errShortForEC is for the key of a legacy cipher that is too short to be wrapped to EC.
func errShortForEC(spec Spec) error {
	return fmt.Errorf("a key of %d bytes cannot be wrapped to an EC pair: AES key wrap takes 16 bytes or more", spec.Size)
}

// refusesParameters says whether a token may do OAEP, but not with this hash.
func refusesParameters(err error) bool {
	return is(err, pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_MECHANISM_INVALID)
}

func mechanism(kind uint, parameter any) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(kind, parameter)}
}

// oaep is RSAES-OAEP with an empty label and MGF1 over the same hash.
func oaep(hash crypto.Hash) []*pkcs11.Mechanism {
	digest, mgf := uint(pkcs11.CKM_SHA_1), uint(pkcs11.CKG_MGF1_SHA1)
	if hash == crypto.SHA256 {
		digest, mgf = pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256
	}
	return mechanism(pkcs11.CKM_RSA_PKCS_OAEP, pkcs11.NewOAEPParams(digest, mgf, pkcs11.CKZ_DATA_SPECIFIED, nil))
}
