package token

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// CheckValue returns the check value of a session key, 3 bytes, as CKA_CHECK_VALUE is defined
// (PKCS #11 §4.10.2): the start of an encrypted block of zeros, or of the SHA-1 of a key that
// encrypts nothing.
func CheckValue(spec keyspec.Key, value []byte) ([]byte, error) {
	if keyType(spec) == pkcs11.CKK_GENERIC_SECRET {
		h := sha1.New()
		defer wipe(h) // it still holds a key that is shorter than its block
		h.Write(value)
		return h.Sum(nil)[:checkValueSize], nil
	}
	block := make([]byte, aes.BlockSize)
	err := withAES(value, func(aes cipher.Block) error {
		aes.Encrypt(block, block)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return block[:checkValueSize], nil
}

const checkValueSize = 3

// CheckValue returns the key's CKA_CHECK_VALUE, 3 bytes (PKCS #11 §4.10.2), or nil if the token
// has none for this key. Some tokens have one for keys that they make and none for keys that they
// unwrap: then the token computes it as the standard defines it.
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
	if err != nil || len(out) < checkValueSize {
		return nil, err
	}
	return out[:checkValueSize], nil
}

func (k *memoryKey) CheckValue(ctx context.Context) (check []byte, err error) {
	err = k.use(ctx, "compute the key check value", func(value []byte) error {
		check, err = CheckValue(k.spec, value)
		return err
	})
	return check, err
}
