package token

import "context"

// Rehearse does with a wrapped session key what a recovery does, and keeps nothing: it
// unwraps the key in transit, wraps it again to the pair's own public key, reads that back,
// and unwraps it for use. The error is [ErrWrapped] when the wrapped key does not hold, or
// what comes out is another key.
func (p *KeyPair) Rehearse(ctx context.Context, spec Spec, wrapped Wrapped) error {
	key, err := p.UnwrapTransit(ctx, spec, wrapped)
	if err != nil {
		return err
	}
	defer key.Close()
	again, err := key.Wrap(ctx, p.public, wrapped.Hash)
	if err != nil {
		return err
	}
	again.Confirmation = wrapped.Confirmation
	if err := p.ReadBack(ctx, key, again); err != nil || spec.Use.IsLegacy() {
		return err
	}
	session, err := p.Unwrap(ctx, spec, again)
	if err != nil {
		return err
	}
	return session.Close()
}
