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
	"strings"

	"github.com/miekg/pkcs11"
)

// unfinished marks a pair that has not proved itself. A process that dies in the
// middle of GenerateKeyPair leaves one, and the next call removes it.
const unfinished = " (unfinished)"

// generating keeps two calls in this process from taking each other's pair for a
// leftover. Key generation is rare and slow; nobody waits long.
var generating = make(chan struct{}, 1)

// GenerateKeyPair makes a key exchange pair with 2048, 3072 or 4096 bits on the
// token (FIPS 186-5 §5.1). It refuses with [ErrExists] when a pair or certificate
// with that label is there.
//
// Before the pair counts as made, the public key and the protections of the
// private key are read back, and a signature and a session key go through it. A
// pair that fails is destroyed. CKA_ID is the pair's [SubjectKeyID].
func (t *Token) GenerateKeyPair(ctx context.Context, label string, bits int) (*KeyPair, error) {
	op := fmt.Sprintf("make the key exchange pair %q", label)
	if bits != 2048 && bits != 3072 && bits != 4096 {
		return nil, t.fail(op, ErrUnsupported, fmt.Errorf("RSA has 2048, 3072 or 4096 bits, not %d", bits))
	}
	if label == "" || len(label) > 64 || strings.HasSuffix(label, unfinished) {
		return nil, t.fail(op, ErrUnsupported, fmt.Errorf("a label has 1 to 64 bytes and does not end in %q", unfinished))
	}
	select {
	case generating <- struct{}{}:
		defer func() { <-generating }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := t.refuseExisting(ctx, op, label); err != nil {
		return nil, err
	}
	if err := t.removeUnfinished(ctx, label); err != nil {
		return nil, t.fail(op, nil, err)
	}
	id := make([]byte, 20) // until the key is known that the final id is made from
	_, _ = rand.Read(id)
	made := PairName{Label: label + unfinished, ID: id}
	p, err := t.generate(ctx, made, bits)
	if err == nil {
		p, err = p.finish(ctx, label, bits)
	}
	if err != nil {
		// Not ctx: what is half-way made goes even when the caller has given up.
		return nil, t.fail(op, nil, also(err, t.removeUnfinished(context.Background(), label)))
	}
	return p, nil
}

// generate makes the pair under its preliminary name.
func (t *Token) generate(ctx context.Context, made PairName, bits int) (*KeyPair, error) {
	leave, err := t.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	public, private := pairTemplates(made.ID, made.Label)
	if _, err := t.c11.GenerateRSAKeyPairWithAttributes(public, private, bits); err != nil {
		return nil, err
	}
	return t.keyPair(ctx, made, func(label string) bool { return label == made.Label })
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
	return also(
		t.destroyObjects(ctx, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), attr(pkcs11.CKA_LABEL, label+unfinished)),
		t.destroyObjects(ctx, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_LABEL, label+unfinished)))
}

// finish proves the new pair and gives it its name.
func (p *KeyPair) finish(ctx context.Context, label string, bits int) (*KeyPair, error) {
	t := p.token
	if p.public.N.BitLen() != bits || p.public.E != 65537 {
		return nil, t.fail("read back the new public key", ErrUnsafe,
			fmt.Errorf("asked for %d bits and exponent 65537, got %d and %d", bits, p.public.N.BitLen(), p.public.E))
	}
	for _, check := range []func(context.Context) error{p.checkBorn, p.checkSigns, p.checkUnwraps} {
		if err := check(ctx); err != nil {
			return nil, err
		}
	}
	public, err := t.findObjects(ctx, append(PairName{Label: p.label, ID: p.id}.template(),
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_MODULUS, p.modulus)))
	if err != nil {
		return nil, err
	}
	if len(public) != 1 {
		return nil, t.fail("read back the new public key", ErrPlanted, fmt.Errorf("%d public halves", len(public)))
	}
	id := SubjectKeyID(p.public)
	if found, err := t.findObjects(ctx, []*pkcs11.Attribute{attr(pkcs11.CKA_ID, id)}); err != nil {
		return nil, err
	} else if len(found) > 0 {
		return nil, t.fail("name the pair", ErrExists, fmt.Errorf("id %x is taken", id))
	}
	named, err := p.rename(ctx, public[0], id, label)
	if err != nil {
		// The label alone does not find it any more.
		half := &KeyPair{token: t, id: id, modulus: p.modulus, private: p.private}
		return nil, also(err, half.Destroy(context.Background()))
	}
	return named, nil
}

// rename gives both halves their final names. A process may die between any two
// steps, so their order matters: until the private half has its label the pair is
// unfinished, and removed by the next call; from then on it is found, because its
// public half has the same id already.
func (p *KeyPair) rename(ctx context.Context, public pkcs11.ObjectHandle, id []byte, label string) (*KeyPair, error) {
	t := p.token
	err := t.with(ctx, func(s pkcs11.SessionHandle) error {
		for _, step := range []struct {
			object pkcs11.ObjectHandle
			set    []*pkcs11.Attribute
		}{
			{public, []*pkcs11.Attribute{attr(pkcs11.CKA_ID, id)}},
			{p.private, []*pkcs11.Attribute{attr(pkcs11.CKA_ID, id), attr(pkcs11.CKA_LABEL, label)}},
			{public, []*pkcs11.Attribute{attr(pkcs11.CKA_LABEL, label)}},
		} {
			if err := t.ctx.SetAttributeValue(s, step.object, step.set); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// By its label alone: another process may have had the same idea.
	return t.KeyPair(ctx, PairName{Label: label})
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
func (p *KeyPair) checkSigns(context.Context) error {
	digest := sha256.Sum256([]byte("hsmkeys: does this pair sign?"))
	options := &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}
	var signature []byte
	var err error
	if p.PSS() {
		if signature, err = p.Sign(rand.Reader, digest[:], options); err == nil {
			err = rsa.VerifyPSS(p.public, crypto.SHA256, digest[:], signature, options)
		}
	} else {
		if signature, err = p.Sign(rand.Reader, digest[:], crypto.SHA256); err == nil {
			err = rsa.VerifyPKCS1v15(p.public, crypto.SHA256, digest[:], signature)
		}
	}
	if errors.Is(err, rsa.ErrVerification) {
		return p.token.fail("try the new pair", ErrUnsafe, errors.New("its signature does not verify"))
	}
	return err
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
		return crypto.SHA1, nil // that it does not work is the answer
	}
	return crypto.SHA256, session.Close()
}
