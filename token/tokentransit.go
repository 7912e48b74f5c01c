package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/miekg/pkcs11"
)

// tokenTransit is a session key in transit on the token: only what is wrapped
// comes out.
type tokenTransit struct {
	object
	spec         keyspec.Key
	confirmation []byte // nil until it is known, see checkMade
}

func (k *tokenTransit) Residence() keyspec.Residence { return keyspec.InToken }

// Generate makes a session key on the token (C_GenerateKey), whatever pairs there
// are; see [KeyPair.Generate]. A key of another size, the same key as before, and one of
// zeros are an [ErrUnsafe].
func (t *Token) Generate(ctx context.Context, spec keyspec.Key) (keyspec.Transit, error) {
	const op = "generate session key"
	if err := spec.Check(); err != nil {
		return nil, t.fail(op, errors.ErrUnsupported, err)
	}
	var handle pkcs11.ObjectHandle
	var generation uint64
	err := t.with(ctx, func(s pkcs11.SessionHandle) (err error) {
		generation = t.generation.Load()
		t.objects.Store(true)
		handle, err = t.ctx.GenerateKey(s, mechanism(generator(spec), nil),
			append(inTransit(spec), attr(pkcs11.CKA_VALUE_LEN, spec.Size)))
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
	if keyType(k.spec) == pkcs11.CKK_AES {
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

func (k *tokenTransit) Wrap(ctx context.Context, to crypto.PublicKey, hash crypto.Hash) (wrapped keyspec.Wrapped, err error) {
	err = matchPublic(to,
		func(to *rsa.PublicKey) (err error) {
			wrapped, err = k.wrapRSA(ctx, to, hash)
			return err
		},
		func(to *ecdsa.PublicKey) (err error) {
			wrapped, err = k.wrapEC(ctx, to)
			return err
		})
	if err != nil {
		return nil, k.token.fail("wrap session key", errors.ErrUnsupported, err)
	}
	return wrapped, nil
}

// refusesParameters says whether a token may do OAEP, but not with this hash.
func refusesParameters(err error) bool {
	return is(err, pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_MECHANISM_INVALID)
}

func mechanism(kind uint, parameter any) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(kind, parameter)}
}
