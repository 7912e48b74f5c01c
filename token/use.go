package token

import (
	"bytes"
	"context"
	"errors"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// Session keys whose value the caller has, as it was computed from a password or has a salt
// behind it.

// Use returns a session key with a value: a session object if the token holds session keys
// (C_CreateObject), else in memory. With [Config.RequireToken] the error is an [ErrResidence], as
// the value was computed outside the token. The caller must overwrite the value.
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
		err = p.createChecked(ctx, append(inUse(spec), attr(pkcs11.CKA_VALUE, value)), func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
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
	key, err := memkey.New(spec, bytes.Clone(value), p.token.fail)
	if err != nil {
		return nil, err
	}
	return key, nil
}

// checkValue returns an error if a value may not be used with this token at all.
func (p *KeyPair) checkValue(spec keyspec.Key, value []byte) error {
	if err := spec.Check(); err != nil {
		return p.token.fail("use the session key", errors.ErrUnsupported, err)
	}
	if spec.Size != len(value) {
		return p.token.fail("use the session key", errors.ErrUnsupported, errors.New("its value has another size"))
	}
	return p.CheckComputed()
}

// CheckComputed returns an [ErrResidence] if [Config.RequireToken] is set, which forbids session
// keys that are computed outside the token.
func (p *KeyPair) CheckComputed() error {
	if p.token.cfg.RequireToken {
		return p.refuseMemory(errors.New("its value is in the memory of this program already"))
	}
	return nil
}
