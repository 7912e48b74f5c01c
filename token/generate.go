package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"github.com/ThalesIgnite/crypto11"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/miekg/pkcs11"
)

// unfinished marks a pair that has not proved itself. A process that dies in the
// middle of GenerateKeyPair leaves one, and the next call removes it.
const unfinished = " (unfinished)"

// generating keeps two calls in this process from taking each other's pair for a
// leftover. Key generation is rare and slow; nobody waits long.
var generating = make(chan struct{}, 1)

// KeyType is the kind of a key exchange pair.
type KeyType int

// RSA has its bits in its name (FIPS 186-5 §5.1), EC its curve (§6.1).
const (
	RSA2048 KeyType = 2048
	RSA3072 KeyType = 3072
	RSA4096 KeyType = 4096
	P256    KeyType = 256
	P384    KeyType = 384
	P521    KeyType = 521
)

func (k KeyType) isEC() bool { return k == P256 || k == P384 || k == P521 }

func (k KeyType) valid() bool { return k.isEC() || k == RSA2048 || k == RSA3072 || k == RSA4096 }

// curve is that of an EC pair.
func (k KeyType) curve() elliptic.Curve {
	for _, c := range curves {
		if c.curve.Params().BitSize == int(k) {
			return c.curve
		}
	}
	return nil
}

// String gives "rsa3072" or "p256" and so on.
func (k KeyType) String() string {
	if k.isEC() {
		return fmt.Sprintf("p%d", int(k))
	}
	return fmt.Sprintf("rsa%d", int(k))
}

// GenerateKeyPair makes a key exchange pair on the token. It refuses with [ErrTaken] when a pair or certificate
// with that label is there.
//
// Before the pair counts as made, the public key and the protections of the
// private key are read back, and a signature and a session key go through it. A
// pair that fails is destroyed. CKA_ID is the pair's [SubjectKeyID].
func (t *Token) GenerateKeyPair(ctx context.Context, label string, kind KeyType) (*KeyPair, error) {
	op := fmt.Sprintf("make the key exchange pair %q", label)
	if !kind.valid() {
		return nil, t.fail(op, errors.ErrUnsupported, fmt.Errorf("RSA has 2048, 3072 or 4096 bits and EC 256, 384 or 521, not %d", int(kind)))
	}
	if err := t.mustGenerate(kind); err != nil {
		return nil, &Error{Op: op, Token: t.info.Label, Kind: errors.ErrUnsupported, Err: err, Facts: ErrMakesNoPairs}
	}
	if strings.HasSuffix(label, unfinished) {
		return nil, t.fail(op, errors.ErrUnsupported, fmt.Errorf("a label does not end in %q", unfinished))
	}
	if err := ValidLabel(label); err != nil {
		return nil, t.fail(op, errors.ErrUnsupported, err)
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
	p, err := t.generateTwice(ctx, label, kind)
	if err != nil {
		// Not ctx: what is half-way made goes even when the caller has given up.
		return nil, t.fail(op, nil, also(err, t.removeUnfinished(context.Background(), label)))
	}
	return p, nil
}

// mustGenerate refuses what the token's mechanisms do not promise.
func (t *Token) mustGenerate(kind KeyType) error {
	can := t.info.Can
	switch {
	case kind.isEC() && !(can.GenerateEC && can.DeriveECDH && can.SignECDSA):
		return errors.New("the token makes no EC pairs that agree and sign (CKM_EC_KEY_PAIR_GEN, CKM_ECDH1_DERIVE, CKM_ECDSA)")
	case !kind.isEC() && !can.GenerateRSA:
		return errors.New("the token makes no RSA pairs (CKM_RSA_PKCS_KEY_PAIR_GEN)")
	}
	return nil
}

// generateTwice makes a pair under a preliminary name, and where the token does not
// let us rename it once more under its final one. Only then a process that dies in the
// middle leaves a pair that has not proved itself, and its id is random.
func (t *Token) generateTwice(ctx context.Context, label string, kind KeyType) (*KeyPair, error) {
	id := make([]byte, 20) // until the key is known that the final id is made from
	_, _ = rand.Read(id)
	p, err := t.generate(ctx, PairName{Label: label + unfinished, ID: id}, kind)
	if err != nil {
		return nil, err
	}
	if err := p.prove(ctx, kind); err != nil {
		return nil, err
	}
	named, err := p.finish(ctx, label)
	if !refuses(err) && !is(err, pkcs11.CKR_ACTION_PROHIBITED, pkcs11.CKR_GENERAL_ERROR) {
		return named, err
	}
	if err := t.removeUnfinished(ctx, label); err != nil {
		return nil, err
	}
	if p, err = t.generate(ctx, PairName{Label: label, ID: id}, kind); err != nil {
		return nil, err
	}
	if err := p.prove(ctx, kind); err != nil {
		return nil, also(err, p.Destroy(context.Background()))
	}
	return p, nil
}

// generate makes the pair under a name.
func (t *Token) generate(ctx context.Context, made PairName, kind KeyType) (*KeyPair, error) {
	public, private := pairTemplates(made.ID, made.Label, kind)
	if err := t.generatePair(ctx, public, private, kind); err != nil {
		return nil, err
	}
	return t.keyPair(ctx, made, func(label string) bool { return label == made.Label })
}

// generatePair has crypto11 make the pair, or where its sessions are not logged in with
// ours makes it in one of ours.
func (t *Token) generatePair(ctx context.Context, public, private crypto11.AttributeSet, kind KeyType) error {
	if t.c11 != nil && !t.lib.initialized {
		return t.crypto11(func() (err error) {
			if kind.isEC() {
				_, err = t.c11.GenerateECDSAKeyPairWithAttributes(public, private, kind.curve())
			} else {
				_, err = t.c11.GenerateRSAKeyPairWithAttributes(public, private, int(kind))
			}
			return err
		})
	}
	how, what := uint(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN), attr(pkcs11.CKA_MODULUS_BITS, int(kind))
	for _, c := range curves {
		if c.curve == kind.curve() {
			params, err := asn1.Marshal(c.oid)
			if err != nil {
				return err
			}
			how, what = pkcs11.CKM_EC_KEY_PAIR_GEN, attr(pkcs11.CKA_EC_PARAMS, params)
		}
	}
	return t.with(ctx, func(s pkcs11.SessionHandle) error {
		_, _, err := t.ctx.GenerateKeyPair(s, mechanism(how, nil), append(public.ToSlice(), what), private.ToSlice())
		return err
	})
}

// refuseExisting keeps a second pair from hiding behind the label of the first.
func (t *Token) refuseExisting(ctx context.Context, op, label string) error {
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_CERTIFICATE} {
		found, err := t.findObjects(ctx, []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, class), attr(pkcs11.CKA_LABEL, label)})
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return &Error{Op: op, Token: t.info.Label, Kind: ErrTaken, Facts: ErrLabelTaken}
		}
	}
	return nil
}

func (t *Token) removeUnfinished(ctx context.Context, label string) error {
	return also(
		t.destroyObjects(ctx, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), attr(pkcs11.CKA_LABEL, label+unfinished)),
		t.destroyObjects(ctx, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_LABEL, label+unfinished)))
}

// prove reads back what the token made, and tries it.
func (p *KeyPair) prove(ctx context.Context, kind KeyType) error {
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

// keyTypeOf returns 0 for what none of them is.
func keyTypeOf(key publicKey) KeyType {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if legacyRSA(key.N) {
			return 0 // with 256, 384 or 521 bits it would look like EC
		}
		return KeyType(key.N.BitLen())
	case *ecdsa.PublicKey:
		return KeyType(key.Curve.Params().BitSize)
	}
	return 0
}

// finish gives the new pair its name.
func (p *KeyPair) finish(ctx context.Context, label string) (*KeyPair, error) {
	t := p.token
	public, err := t.findObjects(ctx, append(append(PairName{Label: p.label, ID: p.id}.template(), attr(pkcs11.CKA_TOKEN, true)), p.publicTemplate()...))
	if err != nil {
		return nil, err
	}
	if len(public) != 1 {
		return nil, t.fail("read back the new public key", ErrPlanted, fmt.Errorf("%d public halves", len(public)))
	}
	id := keyID(p.public)
	if found, err := t.findObjects(ctx, []*pkcs11.Attribute{attr(pkcs11.CKA_ID, id)}); err != nil {
		return nil, err
	} else if len(found) > 0 {
		return nil, t.fail("name the pair", ErrTaken, fmt.Errorf("id %x is taken", id))
	}
	named, err := p.rename(ctx, public[0], id, label)
	if err != nil {
		// The label alone does not find it any more.
		half := &KeyPair{token: t, id: id, public: p.public, modulus: p.modulus, private: p.private}
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
			{p.private.handle, []*pkcs11.Attribute{attr(pkcs11.CKA_ID, id), attr(pkcs11.CKA_LABEL, label)}},
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

// checkBorn reads back that the private key has never been readable, which no key is
// that was made elsewhere. CKA_LOCAL says the same, and NSS never sets it.
func (p *KeyPair) checkBorn(ctx context.Context) error {
	return p.token.with(ctx, func(s pkcs11.SessionHandle) error {
		for name, kind := range map[string]uint{
			"CKA_ALWAYS_SENSITIVE": pkcs11.CKA_ALWAYS_SENSITIVE, "CKA_NEVER_EXTRACTABLE": pkcs11.CKA_NEVER_EXTRACTABLE,
		} {
			value, err := p.token.optional(s, p.private.handle, kind)
			if err != nil {
				return err
			}
			if value != nil && !isTrue(attr(kind, value)) { // a token without the attribute makes no keys elsewhere
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

// checkUnwraps sends a session key through the pair: a data key wrapped under
// the one that comes out must be what the one that came out first wraps.
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
			return p.token.fail("try the new pair", ErrUnsafe, errors.New("one session key came out as two"))
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

// CheckOpens wraps a session key to the pair and opens it with the pair, as every session
// key will be. The error of a pair that opens nothing is an [errors.ErrUnsupported], and names the
// attribute that is in the way.
func (p *KeyPair) CheckOpens(ctx context.Context) error {
	var missing string
	switch {
	case isRSA(p.public) && !p.private.unwrap && !p.private.decrypt:
		missing = "unwrap or decrypt (CKA_UNWRAP and CKA_DECRYPT are false)"
	case !isRSA(p.public) && !p.private.derive:
		missing = "derive (CKA_DERIVE is false)"
	}
	if missing != "" {
		return p.token.fail("try the pair "+PairName{Label: p.label, ID: p.id}.String(), errors.ErrUnsupported,
			fmt.Errorf("%w, as its private key must not %s", ErrOpensNoKey, missing))
	}
	_, err := p.OAEPHash(ctx)
	return err
}

// OAEPHash tries which hash OAEP can take with this pair, for wrapping and for
// unwrapping: SHA-256, or SHA-1 where that does not work. It is 0 for an EC pair. A pair
// that opens nothing, such as one that may only sign, is an [errors.ErrUnsupported].
func (p *KeyPair) OAEPHash(ctx context.Context) (crypto.Hash, error) {
	hashes := []crypto.Hash{crypto.SHA256, crypto.SHA1}
	if !isRSA(p.public) {
		hashes = []crypto.Hash{0}
	}
	var refused error
	for _, hash := range hashes {
		takes, why, err := p.takes(ctx, hash)
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
	takes, _, err := p.takes(ctx, hash)
	return takes, err
}

// takes sends one session key through the pair; why says what went against it.
func (p *KeyPair) takes(ctx context.Context, hash crypto.Hash) (takes bool, why, err error) {
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
