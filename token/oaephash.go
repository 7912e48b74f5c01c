package token

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// OAEPHash tries which hash OAEP can take with this pair, for wrapping and for
// unwrapping: SHA-256, or SHA-1 where that does not work. It is 0 for an EC pair. A pair
// that opens nothing, such as one that may only sign, is an [errors.ErrUnsupported].
func (p *KeyPair) OAEPHash(ctx context.Context) (crypto.Hash, error) {
	var refused error
	for _, hash := range p.kind().oaepHashes() {
		takes, why, err := p.tryOAEP(ctx, hash)
		if err != nil || takes {
			return hash, err
		}
		refused = why // the last: what is said against SHA-256 may concern that alone
	}
	// A refusal by the token is an Error itself, of this operation.
	return 0, &Error{Op: "try the pair", Token: p.token.info.Label, Kind: errors.ErrUnsupported, Err: fmt.Errorf("%w: %w", ErrOpensNoKey, refused)}
}

// TakesOAEP tries whether the pair opens what is wrapped to it with this hash. An EC
// pair has no OAEP, and takes any.
func (p *KeyPair) TakesOAEP(ctx context.Context, hash crypto.Hash) (bool, error) {
	takes, _, err := p.tryOAEP(ctx, hash)
	return takes, err
}

// tryOAEP sends one session key through the pair; why says what went against it.
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
		return false, errors.New("the token wraps with SHA-1 alone"), nil
	}
	session, err := p.Unwrap(ctx, keyspec.WrappedKey{Key: spec, Wrapped: wrapped})
	if errors.Is(err, ErrWrapped) || errors.Is(err, errors.ErrUnsupported) {
		return false, err, nil // that it does not work is the answer
	}
	if err != nil {
		return false, nil, err
	}
	return true, nil, session.Close()
}
