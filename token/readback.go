package token

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// ReadBack unwraps what was wrapped to the pair and compares it with the key in transit
// that was wrapped: what a token has made is not known to be right before it has been
// opened. It costs one operation with the private key. The error is an [ErrWrapped] where
// it does not open, or another key comes out.
//
// On the token both keys are wrapped under a third one, which never leaves it: AES key
// wrap is deterministic (RFC 3394), so that the results are the same if and only if the
// keys are. In memory their values are compared.
func (p *KeyPair) ReadBack(ctx context.Context, key keyspec.Transit, wrapped keyspec.WrappedKey) error {
	switch key := key.(type) {
	case *memoryKey:
		value, err := p.Reveal(ctx, wrapped)
		if err != nil {
			return p.readBackFails(err)
		}
		defer clear(value)
		return p.readBackFails(key.use(ctx, opReadBack, func(original []byte) error {
			if subtle.ConstantTimeCompare(original, value) != 1 {
				return p.token.fail(opReadBack, ErrWrapped, errAnother)
			}
			return nil
		}))
	case *tokenTransit:
		again, err := p.UnwrapTransit(ctx, wrapped)
		if err != nil {
			return p.readBackFails(err)
		}
		return p.readBackFails(also(p.checkSameInTransit(ctx, key, again), again.Close()))
	}
	return p.token.fail(opReadBack, errors.ErrUnsupported, fmt.Errorf("a key of type %T", key))
}

const opReadBack = "read back the wrapped session key"

// readBackFails names what was attempted.
func (p *KeyPair) readBackFails(err error) error {
	if err == nil || !errors.Is(err, ErrWrapped) {
		return err
	}
	return &Error{Op: opReadBack, Token: p.token.info.Label, Kind: ErrWrapped, Err: cause(err), Facts: ErrReadBack}
}

// cause is what an Error was made of.
func cause(err error) error {
	if e := (*Error)(nil); errors.As(err, &e) && e.Err != nil {
		return e.Err
	}
	return err
}

// checkSameInTransit compares two keys in transit.
func (p *KeyPair) checkSameInTransit(ctx context.Context, a *tokenTransit, b keyspec.Transit) error {
	again, ok := b.(*tokenTransit)
	// The second may have come into memory meanwhile, or both be too short for key wrap.
	before, after := a.Confirmation, b.Confirmation
	if ok && a.spec.WrapsInAES() {
		before, after = a.fingerprint, again.fingerprint
	}
	want, err := before(ctx)
	if err != nil {
		return err
	}
	got, err := after(ctx)
	if err != nil {
		return err
	}
	return p.token.checkSameKey(got, want)
}

// fingerprint wraps the key under one that never leaves the token, which tells how long the
// key is, and whether it is the same as another.
func (k *tokenTransit) fingerprint(ctx context.Context) ([]byte, error) {
	t := k.token
	var wrapped []byte
	err := k.use(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) error {
		measure, err := t.confirmObjects.fingerprintKey(t, s)
		if err == nil {
			wrapped, err = t.ctx.WrapKey(s, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), measure, key)
		}
		return err
	})
	if err == nil && len(wrapped) != k.spec.Size+8 {
		err = t.fail("measure the session key", ErrWrapped, fmt.Errorf("it has %d bytes, not %d", len(wrapped)-8, k.spec.Size))
	}
	return wrapped, t.fail("measure the session key", nil, err)
}
