package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
	"github.com/miekg/pkcs11"
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

// fingerprint wraps the key under one that never leaves the token. The result shows the length of
// the key, and whether it is the same as another.
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
		err = t.fail("check the length of the session key", ErrWrapped, fmt.Errorf("it has %d bytes, not %d", len(wrapped)-8, k.spec.Size))
	}
	return wrapped, t.fail("check the length of the session key", nil, err)
}
