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
)

// unfinished marks a pair that has not proved itself. A process that dies in the
// middle of GenerateKeyPair leaves one, and the next call removes it.
const unfinished = " (unfinished)"

// GenerateKeyPair makes a key exchange pair with 2048, 3072 or 4096 bits on the
// token (FIPS 186-5 §5.1). It refuses with [ErrExists] when a pair or certificate
// with that label is there.
//
// Before the pair counts as made, the public key and the protections of the
// private key are read back, and a signature and a session key go through it. A
// pair that fails is destroyed. CKA_ID is the pair's [SubjectKeyID].
func (t *Token) GenerateKeyPair(ctx context.Context, label string, bits int) (*KeyPair, error) {
	op := fmt.Sprintf("make the key exchange pair %q", label)
	if label == "" || len(label) > 64 || bits != 2048 && bits != 3072 && bits != 4096 {
		return nil, t.fail(op, ErrUnsupported, fmt.Errorf("a label has 1 to 64 bytes; RSA has 2048, 3072 or 4096 bits, not %d", bits))
	}
	if err := t.refuseExisting(ctx, op, label); err != nil {
		return nil, err
	}
	if err := t.removeUnfinished(ctx, label); err != nil {
		return nil, t.fail(op, nil, err)
	}
	id := make([]byte, 20) // until the key is known that the final id is made from
	_, _ = rand.Read(id)
	public, private := pairTemplates(id, label+unfinished)
	if _, err := t.c11.GenerateRSAKeyPairWithAttributes(public, private, bits); err != nil {
		return nil, t.fail(op, nil, err)
	}
	p, err := t.finish(ctx, PairName{Label: label + unfinished, ID: id}, label, bits)
	if err != nil {
		// Not ctx: what is half-way made goes even when the caller has given up.
		return nil, t.fail(op, nil, errors.Join(err, t.removeUnfinished(context.Background(), label)))
	}
	return p, nil
}

// refuseExisting keeps a second pair from hiding behind the label of the first.
func (t *Token) refuseExisting(ctx context.Context, op, label string) error {
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_CERTIFICATE} {
		found, err := t.findObjects(ctx, []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, class), attr(pkcs11.CKA_LABEL, label)})
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return &Error{Op: op, Token: t.info.Label, Kind: ErrExists,
				hint: "choose another --label, or use the pair that is there with --adopt"}
		}
	}
	return nil
}

func (t *Token) removeUnfinished(ctx context.Context, label string) error {
	return errors.Join(
		t.destroyObjects(ctx, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), attr(pkcs11.CKA_LABEL, label+unfinished)),
		t.destroyObjects(ctx, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_LABEL, label+unfinished)))
}

// finish proves the new pair and gives it its name.
func (t *Token) finish(ctx context.Context, made PairName, label string, bits int) (*KeyPair, error) {
	p, err := t.KeyPair(ctx, made)
	if err != nil {
		return nil, err
	}
	if p.public.N.BitLen() != bits || p.public.E != 65537 {
		return nil, fmt.Errorf("asked for %d bits and exponent 65537, got %d and %d", bits, p.public.N.BitLen(), p.public.E)
	}
	if err := p.checkBorn(ctx); err != nil {
		return nil, err
	}
	if err := p.checkSigns(); err != nil {
		return nil, err
	}
	if err := p.checkUnwraps(ctx); err != nil {
		return nil, err
	}
	id := SubjectKeyID(p.public)
	if found, err := t.findObjects(ctx, []*pkcs11.Attribute{attr(pkcs11.CKA_ID, id)}); err != nil || len(found) > 0 {
		return nil, errors.Join(err, t.fail("name the pair", ErrExists, fmt.Errorf("id %x is taken", id)))
	}
	public, err := t.findObjects(ctx, append(made.template(), attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY)))
	if err != nil || len(public) != 1 {
		return nil, errors.Join(err, fmt.Errorf("%d public halves", len(public)))
	}
	// The private half first: a pair is complete when its public half is named.
	for _, handle := range []pkcs11.ObjectHandle{p.private, public[0]} {
		if err := t.with(ctx, func(s pkcs11.SessionHandle) error {
			return t.ctx.SetAttributeValue(s, handle, finalName(id, label))
		}); err != nil {
			return nil, errors.Join(err, t.destroyObjects(context.Background(), attr(pkcs11.CKA_ID, id)))
		}
	}
	return t.KeyPair(ctx, PairName{Label: label, ID: id})
}

// checkBorn reads back that the private key was made on the token and has never
// been readable.
func (p *KeyPair) checkBorn(ctx context.Context) error {
	return p.token.with(ctx, func(s pkcs11.SessionHandle) error {
		a, err := p.token.ctx.GetAttributeValue(s, p.private, []*pkcs11.Attribute{
			attr(pkcs11.CKA_ALWAYS_SENSITIVE, nil), attr(pkcs11.CKA_NEVER_EXTRACTABLE, nil), attr(pkcs11.CKA_LOCAL, nil),
		})
		if err != nil {
			return err
		}
		for i, name := range []string{"CKA_ALWAYS_SENSITIVE", "CKA_NEVER_EXTRACTABLE", "CKA_LOCAL"} {
			if !isTrue(a[i]) {
				return p.token.fail("read back the new private key", ErrUnsafe, errors.New(name+" is not set"))
			}
		}
		return nil
	})
}

// checkSigns has the token sign, and checks the signature here.
func (p *KeyPair) checkSigns() error {
	digest := sha256.Sum256([]byte("hsmkeys: does this pair sign?"))
	if !p.PSS() {
		signature, err := p.Sign(rand.Reader, digest[:], crypto.SHA256)
		return errors.Join(err, rsa.VerifyPKCS1v15(p.public, crypto.SHA256, digest[:], signature))
	}
	options := &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}
	signature, err := p.Sign(rand.Reader, digest[:], options)
	return errors.Join(err, rsa.VerifyPSS(p.public, crypto.SHA256, digest[:], signature, options))
}

// checkUnwraps sends a session key through the pair: a data key wrapped under
// the one that comes out must be what the one that came out first wraps.
func (p *KeyPair) checkUnwraps(ctx context.Context) error {
	spec := Spec{Use: WrapKeys, Size: 32}
	key, err := p.token.Generate(ctx, spec)
	if err != nil {
		return err
	}
	defer key.Close()
	data := make([]byte, 16)
	_, _ = rand.Read(data)
	var seen []byte
	for range 2 {
		wrapped, err := key.Wrap(ctx, p.public, crypto.SHA256)
		if err != nil {
			return err
		}
		session, err := p.Unwrap(ctx, spec, wrapped)
		if err != nil {
			return err
		}
		defer session.Close()
		under, err := session.WrapData(ctx, data)
		if err != nil {
			return err
		}
		if seen != nil && !bytes.Equal(seen, under) {
			return p.token.fail("try the new pair", ErrUnsafe, errors.New("one session key came out as two"))
		}
		seen = under
	}
	return nil
}

// OAEPHash tries which hash OAEP can take with this pair, for wrapping and for
// unwrapping: SHA-256, or SHA-1 where that does not work.
func (p *KeyPair) OAEPHash(ctx context.Context) (crypto.Hash, error) {
	spec := Spec{Use: WrapKeys, Size: 32}
	key, err := p.token.Generate(ctx, spec)
	if err != nil {
		return 0, err
	}
	defer key.Close()
	wrapped, err := key.Wrap(ctx, p.public, crypto.SHA256)
	if err != nil || wrapped.Hash != crypto.SHA256 {
		return crypto.SHA1, err
	}
	session, err := p.Unwrap(ctx, spec, wrapped)
	if err != nil {
		return crypto.SHA1, nil //nolint:nilerr // that it does not work is the answer
	}
	return crypto.SHA256, session.Close()
}
