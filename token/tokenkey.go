package token

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// tokenKey is a session key that lives on the token: its value is never in this process.
type tokenKey struct {
	sessionObject
	spec keyspec.Key
}

func (k *tokenKey) Key() keyspec.Key { return k.spec }

func (k *tokenKey) Residence() keyspec.Residence { return keyspec.InToken }

// WrapData makes a session object of the data key and has the token wrap it (CKM_AES_KEY_WRAP):
// most tokens refuse the mechanism to C_Encrypt.
func (k *tokenKey) WrapData(ctx context.Context, data []byte) ([]byte, error) {
	const op = "wrap data key"
	t := k.token
	if k.spec.Purpose != keyspec.WrapKeys {
		return nil, t.fail(op, errors.ErrUnsupported, memkey.ErrPurpose)
	}
	if err := memkey.CheckData(len(data)); err != nil {
		return nil, t.fail(op, errors.ErrUnsupported, err)
	}
	var wrapped []byte
	err := k.use(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) error {
		handle, err := t.ctx.CreateObject(s, append(dataKey(), attr(pkcs11.CKA_VALUE, data)))
		if err != nil {
			return err
		}
		wrapped, err = t.ctx.WrapKey(s, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), key, handle)
		return also(err, t.ctx.DestroyObject(s, handle))
	})
	if err == nil && len(wrapped) != len(data)+8 {
		err = fmt.Errorf("%d bytes came back for %d", len(wrapped), len(data))
	}
	if err != nil {
		return nil, t.fail(op, nil, err)
	}
	return wrapped, nil
}

func (k *tokenKey) UnwrapData(ctx context.Context, wrapped []byte) ([]byte, error) {
	const op = "unwrap data key"
	t := k.token
	if k.spec.Purpose != keyspec.WrapKeys {
		return nil, t.fail(op, errors.ErrUnsupported, memkey.ErrPurpose)
	}
	if err := memkey.CheckData(len(wrapped) - 8); err != nil {
		return nil, t.fail(op, ErrWrapped, err)
	}
	var data []byte
	err := k.use(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) error {
		handle, err := t.ctx.UnwrapKey(s, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), key, wrapped, dataKey())
		if err != nil {
			return err
		}
		data, err = t.readValue(s, handle)
		return also(err, t.ctx.DestroyObject(s, handle))
	})
	if err == nil && len(data) != len(wrapped)-8 {
		err = t.fail(op, ErrWrapped, fmt.Errorf("%d bytes came back for %d", len(data), len(wrapped)))
	}
	if err != nil {
		clear(data)
		return nil, t.fail(op, unwrapKind(err), err)
	}
	return data, nil
}

var hmacs = map[keyspec.Algorithm]uint{
	keyspec.HMACSHA256: pkcs11.CKM_SHA256_HMAC, keyspec.HMACSHA384: pkcs11.CKM_SHA384_HMAC, keyspec.HMACSHA512: pkcs11.CKM_SHA512_HMAC,
}

func (k *tokenKey) MAC(ctx context.Context, message []byte) ([]byte, error) {
	const op = "compute HMAC"
	t := k.token
	if k.spec.Purpose != keyspec.Authenticate {
		return nil, t.fail(op, errors.ErrUnsupported, memkey.ErrPurpose)
	}
	var mac []byte
	err := k.use(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) error {
		if err := t.ctx.SignInit(s, mechanism(hmacs[k.spec.Algorithm], nil), key); err != nil {
			return err
		}
		var err error
		mac, err = t.ctx.Sign(s, message)
		return err
	})
	if err != nil {
		return nil, t.fail(op, nil, err)
	}
	return mac, nil
}
