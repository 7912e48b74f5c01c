package token

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// A token hands out handles, and nothing about a handle shows which key is behind it. A
// session key is therefore recognized by what it does: its confirmation is computed when
// the key is made, signed with the key, and computed again whenever the key is unwrapped.

// ConfirmationSize is the size of the confirmation of a key that is used here, in bytes.
const ConfirmationSize = 16

// confirmed is what a key makes its confirmation of: one block.
//
// The confirmation is public. It discloses nothing but a way to test a guess at the whole
// key, and that every encrypted file does as well: AES key wrap and HMAC are pseudorandom
// functions of this block, and a block of AES cannot be inverted without the key. It is
// hashed and cut, so that neither a wrapped key nor a MAC is published; and the block is
// not zero, because AES of zeros is GCM's authentication key (SP 800-38D §6.4).
const confirmed = "hsmkeys/confirm1"

// confirmValue computes a key's confirmation from its value.
func (t *Token) confirmValue(ctx context.Context, spec keyspec.Key, value []byte) ([]byte, error) {
	key, err := t.newMemoryKey(spec, bytes.Clone(value))
	if err != nil {
		return nil, err
	}
	defer key.Close()
	return key.Confirmation(ctx)
}

// mustConfirmValue is mustConfirm for a key whose value is known.
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

func (k *memoryKey) Confirmation(ctx context.Context) (made []byte, err error) {
	switch k.spec.Purpose {
	case keyspec.WrapKeys:
		made, err = k.WrapData(ctx, []byte(confirmed))
	case keyspec.Authenticate:
		made, err = k.MAC(ctx, []byte(confirmed))
	case keyspec.Encrypt:
		err = k.use(ctx, opConfirm, func(value []byte) error {
			return withAES(value, func(block cipher.Block) error {
				made = make([]byte, block.BlockSize())
				block.Encrypt(made, []byte(confirmed))
				return nil
			})
		})
	default:
		return k.CheckValue(ctx)
	}
	if err != nil {
		return nil, err
	}
	return cutConfirmation(made), nil
}

func cutConfirmation(made []byte) []byte {
	sum := sha256.Sum256(made)
	return sum[:ConfirmationSize]
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

// confirm has the token compute the confirmation of a key that may do what it is for, or
// the half of that which discloses nothing. It is nil for what the token does not do:
// AES-ECB is not needed for anything else.
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
			made, err = t.ctx.Sign(s, []byte(confirmed))
		}
		size = spec.Size
	case keyspec.Encrypt:
		if err = t.ctx.EncryptInit(s, mechanism(pkcs11.CKM_AES_ECB, nil), handle); err == nil {
			made, err = t.ctx.Encrypt(s, []byte(confirmed))
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
	return cutConfirmation(made), nil
}

// mustConfirm refuses a key on the token that is another than the wrapped one was when
// that was signed.
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

// mustConfirm is that of a key in memory.
func (k *memoryKey) mustConfirm(ctx context.Context, want []byte) error {
	if want == nil {
		return nil
	}
	got, err := k.Confirmation(ctx)
	if err != nil {
		return err
	}
	return k.token.checkSameKey(got, want)
}

// checkSameKey compares confirmations, of which the one that was computed may be nil where the
// token cannot compute it.
func (t *Token) checkSameKey(got, want []byte) error {
	if got != nil && want != nil && subtle.ConstantTimeCompare(got, want) != 1 {
		return t.fail("unwrap session key", ErrWrapped, errAnother)
	}
	return nil
}

var errAnother = errors.New("another key came out than the one that was wrapped")

// confirmObjects are session objects that keys are recognized with. They are made in whatever
// session needs them first, once for each generation of the Token.
type confirmObjects struct {
	mu         sync.Mutex
	generation uint64
	made       map[string]pkcs11.ObjectHandle
}

// block is the block that a confirmation is made of, as an object: most tokens refuse key
// wrap to C_Encrypt.
func (a *confirmObjects) block(t *Token, s pkcs11.SessionHandle) (pkcs11.ObjectHandle, error) {
	return a.get(t, confirmed, func() (pkcs11.ObjectHandle, error) {
		handle, err := t.ctx.CreateObject(s, confirmedBlock())
		if err != nil {
			return 0, err
		}
		// With another block all confirmations agree with each other, and with none that
		// is made on another day.
		return handle, t.checkOrDestroy(s, handle, func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
			value, err := t.readValue(s, handle)
			if err == nil && string(value) != confirmed {
				err = errors.New("the token has made another object than the one that was asked for")
			}
			return err
		})
	})
}

// fingerprintKey is a key that wraps session keys in transit, to be compared. It never leaves the
// token, so what is wrapped under it is of use to nobody.
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

// forget drops objects that may be gone with a session.
func (a *confirmObjects) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.made = nil
}
