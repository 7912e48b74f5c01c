package token

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
)

// Rehearse does with a wrapped session key what a recovery does, and keeps nothing:
// it unwraps the key in transit, wraps it again to the pair's own public key,
// unwraps both for use, and compares what they do. It gives the key's check value,
// nil where the token has none. The error is [ErrWrapped] when the wrapped key does
// not hold, or the two are not the same.
func (p *KeyPair) Rehearse(ctx context.Context, spec Spec, wrapped Wrapped) (checkValue []byte, err error) {
	key, err := p.UnwrapTransit(ctx, spec, wrapped)
	if err != nil {
		return nil, err
	}
	defer key.Close()
	if checkValue, err = key.CheckValue(ctx); err != nil {
		return nil, err
	}
	again, err := key.Wrap(ctx, p.public, wrapped.Hash)
	if err != nil {
		return nil, err
	}
	if spec.Use.IsLegacy() {
		return checkValue, p.sameLegacy(ctx, spec, again, checkValue)
	}
	probe := make([]byte, 32)
	_, _ = rand.Read(probe)
	before, err := p.trace(ctx, spec, wrapped, probe)
	if err != nil {
		return nil, err
	}
	after, err := p.trace(ctx, spec, again, probe)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(before, after) != 1 {
		return nil, p.token.fail("rehearse", ErrWrapped, errors.New("the key is another one when it was wrapped again"))
	}
	return checkValue, nil
}

// sameLegacy holds the key of a legacy cipher, which does nothing that could be compared,
// against its check value.
func (p *KeyPair) sameLegacy(ctx context.Context, spec Spec, again Wrapped, checkValue []byte) error {
	key, err := p.UnwrapTransit(ctx, spec, again)
	if err != nil {
		return err
	}
	defer key.Close()
	after, err := key.CheckValue(ctx)
	if err == nil && subtle.ConstantTimeCompare(after, checkValue) != 1 {
		err = p.token.fail("rehearse", ErrWrapped, errors.New("the key is another one when it was wrapped again"))
	}
	return err
}

// trace is what a session key makes of a probe, 32 bytes. Two wrappings with the
// same trace hold the same key.
func (p *KeyPair) trace(ctx context.Context, spec Spec, wrapped Wrapped, probe []byte) ([]byte, error) {
	if spec.Use == EncryptData { // compared by wrapping as well, with a copy that can do nothing else
		spec.Use = WrapKeys
	}
	key, err := p.Unwrap(ctx, spec, wrapped)
	if err != nil {
		return nil, err
	}
	defer key.Close()
	if spec.Use == Authenticate {
		return key.MAC(ctx, probe)
	}
	return key.WrapData(ctx, probe)
}
