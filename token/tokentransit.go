package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// tokenTransit is a session key in transit on the token, which it only leaves wrapped.
type tokenTransit struct {
	sessionObject
	spec         keyspec.Key
	confirmation []byte // nil until it is known, see checkMade
}

func (k *tokenTransit) Residence() keyspec.Residence { return keyspec.InToken }

func (k *tokenTransit) Wrap(ctx context.Context, to crypto.PublicKey, hash crypto.Hash) (wrapped keyspec.Wrapped, err error) {
	err = memkey.MatchPublic(to,
		func(to *rsa.PublicKey) (err error) {
			wrapped, err = k.wrapRSA(ctx, to, hash)
			return err
		},
		func(to *ecdsa.PublicKey) (err error) {
			wrapped, err = k.wrapEC(ctx, to)
			return err
		})
	if err != nil {
		return nil, k.token.fail("wrap session key", errors.ErrUnsupported, err)
	}
	return wrapped, nil
}
