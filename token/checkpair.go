package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// CheckOpens wraps a session key to the pair and opens it with the pair, as every session key will
// be. The error is an [errors.ErrUnsupported] if the pair cannot open session keys, and names the
// attribute that prevents it.
func (p *KeyPair) CheckOpens(ctx context.Context) error {
	if missing := p.kind().mayNotOpen(p.private); missing != "" {
		return p.token.fail("try the pair "+PairName{Label: p.label, ID: p.id}.String(), errors.ErrUnsupported,
			fmt.Errorf("%w, as its private key may not %s", ErrOpensNoKey, missing))
	}
	_, err := p.OAEPHash(ctx)
	return err
}

// checkNew reads back the public key and the protections of a new pair, and tries the pair.
func (p *KeyPair) checkNew(ctx context.Context, kind KeyType) error {
	if got := keyTypeOf(p.public); got != kind {
		return p.token.fail("read back the new public key", ErrUnsafe, fmt.Errorf("asked for %v, got %v", kind, got))
	}
	if key, ok := p.public.(*rsa.PublicKey); ok && key.E != 65537 {
		return p.token.fail("read back the new public key", ErrUnsafe, fmt.Errorf("asked for exponent 65537, got %d", key.E))
	}
	for _, check := range []func(context.Context) error{p.checkBorn, p.checkSigns, p.checkUnwraps} {
		if err := check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// checkBorn returns an error if the private key was made elsewhere: it reads back that the key has
// never been readable. CKA_LOCAL says the same, and NSS never sets it.
func (p *KeyPair) checkBorn(ctx context.Context) error {
	return p.token.with(ctx, func(s pkcs11.SessionHandle) error {
		for name, kind := range map[string]uint{
			"CKA_ALWAYS_SENSITIVE": pkcs11.CKA_ALWAYS_SENSITIVE, "CKA_NEVER_EXTRACTABLE": pkcs11.CKA_NEVER_EXTRACTABLE,
		} {
			value, err := p.token.optionalAttribute(s, p.private.handle, kind)
			if err != nil {
				return err
			}
			if value != nil && !isTrue(attr(kind, value)) { // a token without the attribute imports no keys
				return p.token.fail("read back the new private key", ErrUnsafe, errors.New(name+" is not set"))
			}
		}
		return nil
	})
}

// checkSigns has the token sign, and checks the signature here.
func (p *KeyPair) checkSigns(context.Context) error {
	ok, err := p.signs(sha256.Sum256([]byte("hsmkeys: does this pair sign?")))
	if err == nil && !ok {
		return p.token.fail("try the new pair", ErrUnsafe, errors.New("its signature does not verify"))
	}
	return err
}

// signs reports whether a signature of the pair verifies.
func (p *KeyPair) signs(digest [32]byte) (bool, error) {
	var opts crypto.SignerOpts = crypto.SHA256
	if p.Scheme() == keyspec.RSAPSS {
		opts = &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}
	}
	signature, err := p.Sign(rand.Reader, digest[:], opts)
	if err != nil {
		return false, err
	}
	return p.kind().verifies(digest[:], signature, opts), nil
}

// checkUnwraps unwraps one session key twice with the pair, and compares what the two keys make of
// the same data key.
func (p *KeyPair) checkUnwraps(ctx context.Context) error {
	spec := keyspec.Key{Algorithm: keyspec.AES256, Purpose: keyspec.WrapKeys, Size: 32}
	hash, err := p.OAEPHash(ctx)
	if err != nil {
		return err
	}
	key, err := p.Generate(ctx, spec)
	if err != nil {
		return err
	}
	defer key.Close()
	data := make([]byte, 16)
	_, _ = rand.Read(data)
	var seen []byte
	for range 2 {
		wrapped, err := key.Wrap(ctx, p.public, hash)
		if err != nil {
			return err
		}
		under, err := p.wrapsUnder(ctx, keyspec.WrappedKey{Key: spec, Wrapped: wrapped}, data)
		if err != nil {
			return err
		}
		if seen != nil && !bytes.Equal(seen, under) {
			return p.token.fail("try the new pair", ErrUnsafe, errors.New("one session key was unwrapped as two different keys"))
		}
		seen = under
	}
	return nil
}

func (p *KeyPair) wrapsUnder(ctx context.Context, wrapped keyspec.WrappedKey, data []byte) ([]byte, error) {
	session, err := p.Unwrap(ctx, wrapped)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	return session.WrapData(ctx, data)
}
