package token

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// How the public key of a pair is found, without trusting public objects on the token, which anybody
// can write.

// findPublic sets the pair's public key: the one that the private key states, else one of the
// objects with its id that the private key proves to be its own, else the one that its signatures
// reveal.
func (p *KeyPair) findPublic(ctx context.Context) error {
	fromPrivate, err := p.publicOfPrivate(ctx)
	if err != nil {
		return err
	}
	candidates, err := p.candidates(ctx)
	if err != nil {
		return err
	}
	if p.public = fromPrivate; p.public == nil {
		if err := p.chooseProven(ctx, candidates); err != nil {
			return err
		}
	}
	for _, c := range candidates {
		if c.key == nil || !p.public.Equal(c.key) {
			p.mismatches = append(p.mismatches, c)
		}
	}
	return nil
}

// A candidate is an object with the pair's id, and the public key that is in it: nil if there is
// none.
type candidate struct {
	key         crypto.PublicKey
	certificate *x509.Certificate // nil for a public key
	unreadable  error             // why a certificate cannot be read
}

// candidates returns the public keys and certificates with the pair's id.
func (p *KeyPair) candidates(ctx context.Context) ([]candidate, error) {
	if len(p.id) == 0 {
		return nil, nil
	}
	t := p.token
	keys, err := t.findObjects(ctx, []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), attr(pkcs11.CKA_ID, p.id)})
	if err != nil {
		return nil, err
	}
	var all []candidate
	for _, handle := range keys {
		var key crypto.PublicKey
		err := t.with(ctx, func(s pkcs11.SessionHandle) (err error) {
			key, err = t.readPublic(s, handle)
			return err
		})
		if err != nil {
			return nil, err
		}
		all = append(all, candidate{key: key})
	}
	certificates, err := t.certificates(ctx, p.id)
	if err != nil {
		return nil, err
	}
	for _, der := range certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			all = append(all, candidate{unreadable: err})
			continue
		}
		all = append(all, candidate{key: c.PublicKey, certificate: c})
	}
	return all, nil
}

// publicOfPrivate returns the public key that the private key object states, which only somebody
// with the PIN can have written: for RSA its modulus, for EC its point or CKA_PUBLIC_KEY_INFO,
// which few tokens have. It returns nil if the object states none.
func (p *KeyPair) publicOfPrivate(ctx context.Context) (publicKey, error) {
	t := p.token
	var key crypto.PublicKey
	err := t.with(ctx, func(s pkcs11.SessionHandle) (err error) {
		if p.private.kind == pkcs11.CKK_RSA {
			if p.modulus, err = t.optionalAttribute(s, p.private.handle, pkcs11.CKA_MODULUS); err != nil {
				return err
			}
		}
		key, err = t.readPublic(s, p.private.handle)
		return err
	})
	if err != nil {
		return nil, err
	}
	public, ok := key.(publicKey)
	if !ok {
		return nil, nil
	}
	return public, p.token.checkPublic(public)
}

// readPublic returns the public key in an object, or nil if there is no valid one.
func (t *Token) readPublic(s pkcs11.SessionHandle, object pkcs11.ObjectHandle) (crypto.PublicKey, error) {
	values, err := t.optionalAttributes(s, object, pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return nil, err
	}
	if n, e := values[pkcs11.CKA_MODULUS], new(big.Int).SetBytes(values[pkcs11.CKA_PUBLIC_EXPONENT]); len(n) > 0 && e.IsInt64() && e.Int64() > 0 && e.Int64() <= 1<<31-1 {
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(e.Int64())}, nil
	}
	if values, err = t.optionalAttributes(s, object, pkcs11.CKA_EC_PARAMS, pkcs11.CKA_EC_POINT); err != nil {
		return nil, err
	}
	if key := ecPublic(values[pkcs11.CKA_EC_PARAMS], values[pkcs11.CKA_EC_POINT]); key != nil {
		return key, nil
	}
	info, err := t.optionalAttribute(s, object, pkcs11.CKA_PUBLIC_KEY_INFO)
	if err != nil {
		return nil, err
	}
	if key, err := x509.ParsePKIXPublicKey(info); err == nil {
		return key, nil
	}
	return nil, nil
}

// checkPublic refuses public keys that nothing here can use.
func (t *Token) checkPublic(key publicKey) error {
	kind, err := kindOf(key)
	if err == nil {
		err = kind.check()
	}
	if err != nil {
		return t.fail("read the key exchange pair", errors.ErrUnsupported, err)
	}
	return nil
}

// chooseProven sets the pair's public key to the first one that the private key proves to be its
// own.
func (p *KeyPair) chooseProven(ctx context.Context, candidates []candidate) error {
	var failed error
	for _, c := range candidates {
		key, ok := c.key.(publicKey)
		if !ok || p.token.checkPublic(key) != nil {
			continue
		}
		if kind, err := kindOf(key); err != nil || kind.objectType() != p.private.kind {
			continue
		}
		proven, err := p.provePublic(ctx, key)
		if proven {
			p.public = key
			return nil
		}
		failed = cmp.Or(failed, err) // the token may fail with a key that is not its own; the next may be its own
	}
	if key, err := p.publicOfSignatures(ctx); err == nil {
		p.public = key
		return nil
	}
	if failed != nil {
		return failed
	}
	err := errors.New("the private key does not state it, and no public key or certificate has its id")
	if len(candidates) > 0 {
		err = errors.New("the private key does not state it, and none of the public keys and certificates with its id belongs to it")
	}
	return &Error{Op: "find the public key of the pair", Token: p.token.info.Label, Kind: errors.ErrUnsupported, Err: err, Facts: ErrNoPublicKey}
}

// provePublic reports whether the private key proves that a public key is its own: by a signature
// of bytes that were never there before, or if it may not sign by agreeing on a secret (EC) or
// opening one (RSA).
func (p *KeyPair) provePublic(ctx context.Context, key publicKey) (bool, error) {
	try := &KeyPair{token: p.token, private: p.private, public: key, modulus: p.modulus, label: p.label, id: p.id, generation: p.generation}
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce)
	if p.private.sign {
		return try.signs(sha256.Sum256(append([]byte("hsmkeys: whose key is this? "), nonce...)))
	}
	return try.kind().opens(ctx, try, nonce)
}

// publicTemplate is the template that finds public halves by their key.
func (p *KeyPair) publicTemplate() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), p.kind().finds(p.modulus)}
}

// keyID returns the [keyspec.SubjectKeyID] of a pair's public key, which checkPublic has accepted.
func keyID(key crypto.PublicKey) []byte {
	id, _ := keyspec.SubjectKeyID(key)
	return id
}
