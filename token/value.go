package token

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/miekg/pkcs11"
)

// Session keys whose value the caller has, as it was computed from a password, or a salt
// belongs behind it.

// CheckValue is the check value of a session key, 3 bytes, as CKA_CHECK_VALUE is
// defined (PKCS #11 §4.10.2): the start of an encrypted block of zeros, or of the
// SHA-1 of a key that encrypts nothing.
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

// Use takes a session key's value into use: as a session object where the token holds
// session keys (C_CreateObject), else in memory. With [Config.RequireToken] it is an
// [ErrResidence], as the value was computed outside the token. The caller overwrites it.
func (p *KeyPair) Use(ctx context.Context, spec keyspec.Key, value []byte) (keyspec.SessionKey, error) {
	if err := p.checkValue(spec, value); err != nil {
		return nil, err
	}
	where, err := p.Residence(ctx)
	if err != nil {
		return nil, err
	}
	if where == keyspec.InToken {
		key := &tokenKey{spec: spec}
		confirmation, err := p.token.confirmValue(ctx, spec, value)
		if err != nil {
			return nil, err
		}
		err = p.create(ctx, append(inUse(spec), attr(pkcs11.CKA_VALUE, value)), func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
			p.token.objects.Store(true)
			key.token, key.handle, key.generation = p.token, handle, p.token.generation.Load()
			if err := p.token.checkProtected(s, handle, spec, inUse(spec)); err != nil {
				return err
			}
			return p.token.mustConfirm(s, handle, spec, confirmation)
		})
		if err == nil {
			return key, nil
		}
		if !refuses(err) {
			return nil, p.token.fail("use the session key", nil, err)
		}
	}
	key, err := p.token.keepKey(spec, bytes.Clone(value))
	if err != nil {
		return nil, err
	}
	return key, nil
}

// LoadValue is [KeyPair.Load] for a session key whose value the caller has.
func (p *KeyPair) LoadValue(ctx context.Context, spec keyspec.Key, value []byte, label string, id []byte, beside ...[]byte) error {
	if err := p.checkValue(spec, value); err != nil {
		return err
	}
	if err := p.free(ctx, label, id, beside); err != nil {
		return err
	}
	return p.store(ctx, spec, value, label, id)
}

// checkValue says whether a value may be used with this token at all.
func (p *KeyPair) checkValue(spec keyspec.Key, value []byte) error {
	if err := spec.Check(); err != nil {
		return p.token.fail("use the session key", errors.ErrUnsupported, err)
	}
	if spec.Size != len(value) {
		return p.token.fail("use the session key", errors.ErrUnsupported, errors.New("its value has another size"))
	}
	return p.CheckComputed()
}

// CheckComputed refuses with [ErrResidence] session keys that are computed outside the
// token, under [Config.RequireToken].
func (p *KeyPair) CheckComputed() error {
	if p.token.cfg.RequireToken {
		return p.refuseMemory(errors.New("its value is in the memory of this program already"))
	}
	return nil
}

const opLoad = "load the session key"

// store makes a token object of a value.
func (p *KeyPair) store(ctx context.Context, spec keyspec.Key, value []byte, label string, id []byte) error {
	confirmation, err := p.token.confirmValue(ctx, spec, value)
	if err != nil {
		return err
	}
	err = p.create(ctx, append(loaded(spec, label, id), attr(pkcs11.CKA_VALUE, value)), func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
		err := p.token.checkLoaded(s, handle, spec, label, id)
		if err == nil && !spec.Algorithm.IsLegacy() { // which may decrypt and nothing else
			err = p.token.mustConfirm(s, handle, spec, confirmation)
		}
		return err
	})
	if refuses(err) || is(err, pkcs11.CKR_TOKEN_WRITE_PROTECTED, pkcs11.CKR_SESSION_READ_ONLY, pkcs11.CKR_DEVICE_MEMORY) {
		return &Error{Op: opLoad, Token: p.token.info.Label, Kind: errors.ErrUnsupported, Err: err, Facts: ErrKeepsNoKeys}
	}
	return p.token.fail(opLoad, nil, err)
}

// checkLoaded reads back that a token object is protected, will stay, and has the label and
// the id by which other applications find it.
func (t *Token) checkLoaded(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle, spec keyspec.Key, label string, id []byte) error {
	if err := t.checkProtected(s, handle, spec, loaded(spec, label, id)); err != nil {
		return err
	}
	a, err := t.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{
		attr(pkcs11.CKA_LABEL, nil), attr(pkcs11.CKA_ID, nil),
	})
	if err != nil {
		return err
	}
	if string(a[0].Value) != label || !bytes.Equal(a[1].Value, id) {
		return t.fail(opLoad, nil, fmt.Errorf("the token has made another object: label %q, id %x", a[0].Value, a[1].Value))
	}
	return nil
}

// create makes an object that passes a look, or none.
func (p *KeyPair) create(ctx context.Context, template []*pkcs11.Attribute, look func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error) error {
	return p.token.with(ctx, func(s pkcs11.SessionHandle) error {
		handle, err := p.token.ctx.CreateObject(s, template)
		if err != nil {
			return err
		}
		return p.token.lookOrDestroy(s, handle, look)
	})
}
