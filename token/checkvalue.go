package token

import (
	"context"

	"github.com/hsmkeys/hsmkeys/token/memkey"
	"github.com/miekg/pkcs11"
)

// CheckValue returns the key's CKA_CHECK_VALUE, 3 bytes (PKCS #11 §4.10.2), or nil if the token
// has none for this key. Some tokens have one for keys that they make and none for keys that they
// unwrap: then the token computes it as the standard defines it.
func (k *tokenTransit) CheckValue(ctx context.Context) ([]byte, error) {
	var value []byte
	err := k.use(ctx, func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
		attributes, err := k.token.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{attr(pkcs11.CKA_CHECK_VALUE, nil)})
		if err == nil && len(attributes[0].Value) == memkey.CheckValueSize {
			value = attributes[0].Value
			return nil
		}
		if err != nil && !is(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID) {
			return err
		}
		value, err = k.computeCheckValue(s, handle)
		if sessionGone(err) {
			return err
		}
		return nil // that the token does not do it is an answer
	})
	return value, k.token.fail("read the key check value", nil, err)
}

// computeCheckValue has the token encrypt one block of zeros (AES), or take the SHA-1 of the value
// (generic secrets).
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
	if err != nil || len(out) < memkey.CheckValueSize {
		return nil, err
	}
	return out[:memkey.CheckValueSize], nil
}
