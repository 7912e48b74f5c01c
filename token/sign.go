package token

import (
	"context"
	"crypto"
	_ "crypto/sha256" // the hashes that are signed
	_ "crypto/sha512"
	"errors"
	"fmt"
	"io"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Scheme returns the best signature scheme that the pair's key and the token's mechanisms allow.
func (p *KeyPair) Scheme() keyspec.Scheme { return p.kind().scheme(p.token.info.Mechanisms) }

// CanSign reports whether the pair signs: whether its private key may (CKA_SIGN), and it is not a
// legacy pair. The decryption key of many cards may not sign.
func (p *KeyPair) CanSign() bool { return p.private.sign && !p.Legacy() }

// Sign has the token sign the SHA-256, SHA-384 or SHA-512 of a message: for RSA with
// [rsa.PSSOptions] and an explicit salt length, or with a plain [crypto.Hash] for PKCS #1 v1.5;
// for EC with a plain [crypto.Hash], and the signature is DER.
//
// It uses sessions of its own and not crypto11, which requires a public half and knows no PIN for
// each signature.
func (p *KeyPair) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	const op = "sign"
	t := p.token
	// If the hash were not checked, the token would sign any bytes that the caller was tricked
	// into passing.
	var hash crypto.Hash
	if opts != nil {
		hash = opts.HashFunc()
	}
	switch hash {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
	default:
		return nil, t.fail(op, errors.ErrUnsupported, fmt.Errorf("hash %v", hash))
	}
	if len(digest) != hash.Size() {
		return nil, t.fail(op, errors.ErrUnsupported, fmt.Errorf("a digest of %d bytes, %v has %d", len(digest), hash, hash.Size()))
	}
	if p.Legacy() {
		return nil, p.refuseLegacy(op)
	}
	if !p.private.sign {
		return nil, t.fail(op, errors.ErrUnsupported, ErrMayNotSign)
	}
	how, input, err := p.kind().signMechanism(hash, digest, opts)
	if err != nil {
		return nil, t.fail(op, errors.ErrUnsupported, err)
	}
	var signature []byte
	// crypto.Signer has no context.
	err = p.with(context.Background(), func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) error {
		if err := t.ctx.SignInit(s, how, key); err != nil {
			return err
		}
		if err := p.authenticate(s); err != nil {
			return unusable(err)
		}
		var err error
		signature, err = t.ctx.Sign(s, input)
		return unusable(err)
	})
	if err == nil {
		signature, err = p.kind().signature(signature)
	}
	return signature, t.fail(op, nil, err)
}
