package softpair

import (
	"crypto/ecdh"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// ecKey is an EC key, with which others agree on a key that wraps a session key (RFC 5753 §3.1).
type ecKey struct{ own *ecdh.PrivateKey }

func (k ecKey) scheme() keyspec.Scheme { return keyspec.ECDSA }

func (k ecKey) usage() x509.KeyUsage { return x509.KeyUsageKeyAgreement }

func (k ecKey) open(spec keyspec.Key, wrapped keyspec.Wrapped) ([]byte, error) {
	type opened struct {
		value []byte
		err   error
	}
	o := keyspec.Match(wrapped,
		func(*keyspec.KeyTransport) opened {
			return opened{nil, errors.New("encrypted to an RSA key, and the pair is EC")}
		},
		func(a *keyspec.KeyAgreement) opened {
			value, err := k.agree(spec, a)
			return opened{value, err}
		})
	return o.value, o.err
}

func (k ecKey) agree(spec keyspec.Key, a *keyspec.KeyAgreement) ([]byte, error) {
	if a.Ephemeral == nil || a.Ephemeral.Curve() != k.own.Curve() || len(a.EncryptedKey) != spec.Size+8 {
		return nil, fmt.Errorf("%d bytes with another ephemeral key than one of the pair's curve", len(a.EncryptedKey))
	}
	secret, err := k.own.ECDH(a.Ephemeral)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	kek, err := memkey.DeriveKEK(k.own.Curve(), secret)
	if err != nil {
		return nil, err
	}
	defer clear(kek)
	return memkey.KeyUnwrap(kek, a.EncryptedKey)
}
