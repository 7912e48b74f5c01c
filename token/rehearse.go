package token

import (
	"context"
	"crypto"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Rehearse does with a wrapped session key what a recovery does, and keeps nothing: it unwraps the
// key in transit, wraps it to the pair's own public key, reads that back, and unwraps it for use.
// The error is [ErrWrapped] if the wrapped key cannot be opened, or another key comes out.
func (p *KeyPair) Rehearse(ctx context.Context, wrapped keyspec.WrappedKey) error {
	key, err := p.UnwrapTransit(ctx, wrapped)
	if err != nil {
		return err
	}
	defer key.Close()
	hash := keyspec.Match(wrapped.Wrapped,
		func(t *keyspec.KeyTransport) crypto.Hash { return t.OAEPHash },
		func(*keyspec.KeyAgreement) crypto.Hash { return 0 })
	again := wrapped
	if again.Wrapped, err = key.Wrap(ctx, p.public, hash); err != nil {
		return err
	}
	if err := p.ReadBack(ctx, key, again); err != nil || wrapped.Key.Algorithm.IsLegacy() {
		return err
	}
	session, err := p.Unwrap(ctx, again)
	if err != nil {
		return err
	}
	return session.Close()
}
