package token

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// ReadBack unwraps what was wrapped to the pair and compares it with the key in transit that was
// wrapped: whether a token has wrapped a key correctly is not known until it has been opened. It
// costs one operation with the private key. The error is an [ErrWrapped] if the wrapped key cannot
// be opened, or is another key.
//
// On the token both keys are wrapped under a third one, which never leaves it: AES key wrap is
// deterministic (RFC 3394), so the results are equal if and only if the keys are. In memory their
// values are compared.
func (p *KeyPair) ReadBack(ctx context.Context, key keyspec.Transit, wrapped keyspec.WrappedKey) error {
	switch key := key.(type) {
	case *memkey.Key:
		value, err := p.Reveal(ctx, wrapped)
		if err != nil {
			return p.readBackFails(err)
		}
		defer clear(value)
		return p.readBackFails(key.Do(ctx, opReadBack, func(original []byte) error {
			if subtle.ConstantTimeCompare(original, value) != 1 {
				return p.token.fail(opReadBack, ErrWrapped, memkey.ErrAnother)
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

// readBackFails adds what was attempted to an error about the wrapped key.
func (p *KeyPair) readBackFails(err error) error {
	if err == nil || !errors.Is(err, ErrWrapped) {
		return err
	}
	return &Error{Op: opReadBack, Token: p.token.info.Label, Kind: ErrWrapped, Err: cause(err), Facts: ErrReadBack}
}

// checkSameInTransit compares two keys in transit.
func (p *KeyPair) checkSameInTransit(ctx context.Context, a *tokenTransit, b keyspec.Transit) error {
	again, ok := b.(*tokenTransit)
	// The second may live in memory by now, or both may be too short for key wrap.
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
