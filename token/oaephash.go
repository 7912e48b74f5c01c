package token

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// OAEPHash finds out by trying which hash OAEP can use with this pair, for wrapping and for
// unwrapping: SHA-256, or SHA-1 if that does not work. It is 0 for an EC pair. The error is an
// [errors.ErrUnsupported] if the pair opens nothing, such as one that may only sign.
func (p *KeyPair) OAEPHash(ctx context.Context) (crypto.Hash, error) {
	var refused error
	for _, hash := range p.kind().oaepHashes() {
		takes, why, err := p.tryOAEP(ctx, hash)
		if err != nil || takes {
			return hash, err
		}
		refused = why // the last: what failed with SHA-256 may concern that hash alone
	}
	// refused may be an Error itself, which fail would return as it is.
	return 0, &Error{Op: "try the pair", Token: p.token.info.Label, Kind: errors.ErrUnsupported, Err: fmt.Errorf("%w: %w", ErrOpensNoKey, refused)}
}

// TakesOAEP reports whether the pair opens what is wrapped to it with this hash, which it finds
// out by trying. It is true for an EC pair, which does not use OAEP.
func (p *KeyPair) TakesOAEP(ctx context.Context, hash crypto.Hash) (bool, error) {
	takes, _, err := p.tryOAEP(ctx, hash)
	return takes, err
}

// tryOAEP wraps and unwraps one session key; why is what failed.
func (p *KeyPair) tryOAEP(ctx context.Context, hash crypto.Hash) (takes bool, why, err error) {
	spec := keyspec.Key{Algorithm: keyspec.AES256, Purpose: keyspec.WrapKeys, Size: 32}
	key, err := p.Generate(ctx, spec)
	if err != nil {
		return false, nil, err
	}
	defer key.Close()
	wrapped, err := key.Wrap(ctx, p.public, hash)
	if err != nil {
		return false, nil, err
	}
	if t, ok := wrapped.(*keyspec.KeyTransport); ok && t.OAEPHash != hash {
		return false, errors.New("the token wraps only with SHA-1"), nil
	}
	session, err := p.Unwrap(ctx, keyspec.WrappedKey{Key: spec, Wrapped: wrapped})
	if errors.Is(err, ErrWrapped) || errors.Is(err, errors.ErrUnsupported) {
		return false, err, nil // which is the answer
	}
	if err != nil {
		return false, nil, err
	}
	return true, nil, session.Close()
}
