package token

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"math/big"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// publicKeys caches the public keys that were imported for wrapping, by the SHA-256 of their DER:
// a keyring wraps every session key to the same few.
type publicKeys struct {
	mu      sync.Mutex
	handles map[[32]byte]pkcs11.ObjectHandle
}

// importPublicKey makes a session object of an RSA public key, in the anchor session, so that it
// lives as long as the Token.
func (t *Token) importPublicKey(ctx context.Context, key *rsa.PublicKey) (pkcs11.ObjectHandle, error) {
	const op = "import public key"
	if err := memkey.CheckRSA(key); err != nil {
		return 0, t.fail(op, errors.ErrUnsupported, err)
	}
	name := sha256.Sum256(x509.MarshalPKCS1PublicKey(key))
	t.public.mu.Lock()
	defer t.public.mu.Unlock()
	if handle, ok := t.public.handles[name]; ok {
		return handle, nil
	}
	handle, err := t.createInAnchor(ctx, importedPublicKey(key.N.Bytes(), big.NewInt(int64(key.E)).Bytes()))
	if err != nil {
		return 0, t.fail(op, nil, err)
	}
	if t.public.handles == nil {
		t.public.handles = map[[32]byte]pkcs11.ObjectHandle{}
	}
	t.public.handles[name] = handle
	return handle, nil
}

// forget drops handles that vanished with their session.
func (k *publicKeys) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.handles = nil
}

// createInAnchor makes a session object that lives as long as the Token. The caller must hold
// t.public.mu: a session runs one call at a time.
func (t *Token) createInAnchor(ctx context.Context, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	leave, err := t.enter()
	if err != nil {
		return 0, err
	}
	defer leave()
	t.alive.RLock()
	defer t.alive.RUnlock()
	handle, err := t.ctx.CreateObject(t.anchor, template)
	return handle, t.noteLoss(err)
}
