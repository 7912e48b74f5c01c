package token

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/subtle"
	"fmt"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// A token hands out handles, and nothing about a handle shows which key is behind it. A
// session key is therefore recognized by what it does: its confirmation is computed when
// the key is made, signed with the key, and computed again whenever the key is unwrapped.

// confirmValue computes a key's confirmation from its value.
func (t *Token) confirmValue(ctx context.Context, spec keyspec.Key, value []byte) ([]byte, error) {
	key, err := memkey.New(spec, bytes.Clone(value), t.fail)
	if err != nil {
		return nil, err
	}
	defer key.Close()
	return key.Confirmation(ctx)
}

// mustConfirmValue is [Token.mustConfirm] for a key whose value is known.
func (t *Token) mustConfirmValue(ctx context.Context, spec keyspec.Key, value, want []byte) error {
	if want == nil {
		return nil
	}
	got, err := t.confirmValue(ctx, spec, value)
	if err != nil {
		return err
	}
	return t.checkSameKey(got, want)
}

func (k *tokenTransit) Confirmation(ctx context.Context) (confirmation []byte, err error) {
	switch {
	case k.confirmation != nil:
		return k.confirmation, nil
	case k.spec.Algorithm.IsLegacy():
		return k.CheckValue(ctx)
	}
	err = k.use(ctx, func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) (err error) {
		confirmation, err = k.token.confirm(s, handle, k.spec)
		return err
	})
	return confirmation, k.token.fail(opConfirm, nil, err)
}

const opConfirm = "recognize the session key"

// confirm has the token compute the confirmation of a key that may be used for its purpose, or for
// the half of it that discloses nothing. It returns nil if the token cannot do that: AES-ECB is
// needed for nothing else.
func (t *Token) confirm(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle, spec keyspec.Key) (made []byte, err error) {
	size := aes.BlockSize
	switch spec.Purpose {
	case keyspec.WrapKeys:
		var block pkcs11.ObjectHandle
		if block, err = t.confirmObjects.block(t, s); err == nil {
			made, err = t.ctx.WrapKey(s, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), handle, block)
		}
		size += 8
	case keyspec.Authenticate:
		if err = t.ctx.SignInit(s, mechanism(hmacs[spec.Algorithm], nil), handle); err == nil {
			made, err = t.ctx.Sign(s, []byte(memkey.Confirmed))
		}
		size = spec.Size
	case keyspec.Encrypt:
		if err = t.ctx.EncryptInit(s, mechanism(pkcs11.CKM_AES_ECB, nil), handle); err == nil {
			made, err = t.ctx.Encrypt(s, []byte(memkey.Confirmed))
		}
		if refuses(err) {
			return nil, nil
		}
	}
	if err == nil && len(made) != size {
		err = fmt.Errorf("%d bytes came back for %d", len(made), size)
	}
	if err != nil {
		return nil, err
	}
	return memkey.CutConfirmation(made), nil
}

// mustConfirm refuses a key on the token whose confirmation is not that of the key that was
// wrapped.
func (t *Token) mustConfirm(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle, spec keyspec.Key, want []byte) error {
	if want == nil {
		return nil
	}
	got, err := t.confirm(s, handle, spec)
	if err != nil {
		return t.fail(opConfirm, nil, err)
	}
	return t.checkSameKey(got, want)
}

// checkSameKey compares confirmations. The computed one may be nil, if the token cannot compute
// it.
func (t *Token) checkSameKey(got, want []byte) error {
	if got != nil && want != nil && subtle.ConstantTimeCompare(got, want) != 1 {
		return t.fail("unwrap session key", ErrWrapped, memkey.ErrAnother)
	}
	return nil
}

// confirmObjects are session objects by which keys are recognized. Each is made in the session
// that needs it first, once for each generation of the Token.
type confirmObjects struct {
	mu         sync.Mutex
	generation uint64
	made       map[string]pkcs11.ObjectHandle
}

// block returns the block of which a confirmation is made as an object: most tokens refuse AES key
// wrap to C_Encrypt.
func (a *confirmObjects) block(t *Token, s pkcs11.SessionHandle) (pkcs11.ObjectHandle, error) {
	return a.get(t, memkey.Confirmed, func() (pkcs11.ObjectHandle, error) {
		handle, err := t.ctx.CreateObject(s, confirmedBlock())
		if err != nil {
			return 0, err
		}
		// With another block the confirmations of today would agree with each other, and with
		// none of another day.
		return handle, t.checkOrDestroy(s, handle, func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
			value, err := t.readValue(s, handle)
			if err == nil && string(value) != memkey.Confirmed {
				err = errOtherObject
			}
			return err
		})
	})
}

// fingerprintKey returns the key of [tokenTransit.fingerprint]. It never leaves the token, so what
// is wrapped under it is useless elsewhere.
func (a *confirmObjects) fingerprintKey(t *Token, s pkcs11.SessionHandle) (pkcs11.ObjectHandle, error) {
	return a.get(t, "measure", func() (pkcs11.ObjectHandle, error) {
		return t.ctx.GenerateKey(s, mechanism(pkcs11.CKM_AES_KEY_GEN, nil), fingerprintKey())
	})
}

func (a *confirmObjects) get(t *Token, name string, make func() (pkcs11.ObjectHandle, error)) (pkcs11.ObjectHandle, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := t.generation.Load(); a.made == nil || a.generation != now {
		a.made, a.generation = map[string]pkcs11.ObjectHandle{}, now
	}
	if handle, ok := a.made[name]; ok {
		return handle, nil
	}
	t.objects.Store(true) // the session that it is made in stays open
	handle, err := make()
	if err == nil {
		a.made[name] = handle
	}
	return handle, err
}
