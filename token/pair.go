package token

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/miekg/pkcs11"
)

// KeyPair is the key exchange pair: an RSA or EC pair whose private half never leaves the token.
// It is a [crypto.Signer], see [KeyPair.Sign].
type KeyPair struct {
	token *Token
	label string
	id    []byte // CKA_ID; may be empty for a pair that was not made here

	private    privateKey
	public     publicKey
	mismatches []candidate
	modulus    []byte // RSA: CKA_MODULUS as the token has it

	handleMu   sync.Mutex
	generation uint64 // of the Token, to which private.handle belongs

	signing   *KeyPair  // signs for this pair; nil if it signs itself
	residence residence // where session keys of this pair live
}

// publicKey is an *rsa.PublicKey or an *ecdsa.PublicKey.
type publicKey interface{ Equal(crypto.PublicKey) bool }

// privateKey is what the token states about the private half.
type privateKey struct {
	handle pkcs11.ObjectHandle
	kind   uint // CKK_RSA or CKK_EC

	sign, decrypt, unwrap, derive bool // CKA_SIGN and so on
	alwaysAuthenticate            bool // CKA_ALWAYS_AUTHENTICATE: a PIN for each use
}

// KeyPair finds a key exchange pair on the token, whoever made it.
//
// Anybody who reaches the token can write public objects to it without a PIN. So the private key
// is only searched for among objects that are CKA_PRIVATE, which the token shows, and makes, only
// after a login. The public key is the one that the private key states, or one that it proves to
// be its own: see provePublic. A public key or certificate with the same id and another key is
// skipped, see [KeyPair.Mismatches].
//
// Pairs that others have provisioned may have a label on the public half or the certificate alone,
// none at all, or no public half. A name finds the private key by its own label, or by the id of
// the object that has the label.
//
// A pair that [Token.GenerateKeyPair] has not finished is not found. The errors are [ErrNoPair],
// [ErrAmbiguous], [ErrUnsafe] and [errors.ErrUnsupported].
func (t *Token) KeyPair(ctx context.Context, name PairName) (*KeyPair, error) {
	return t.keyPair(ctx, name, finished)
}

// keyPair finds a pair for whose label wanted returns true.
func (t *Token) keyPair(ctx context.Context, name PairName, wanted func(label string) bool) (*KeyPair, error) {
	op := "find the key exchange pair " + name.String()
	found, err := t.findPrivate(ctx, name, wanted)
	if err == nil && len(found) == 0 && name.Label != "" {
		found, err = t.findByPublicLabel(ctx, name, wanted)
	}
	if err == nil && len(found) > 1 && name.Label == "" && len(name.ID) == 0 {
		found, err = t.dropLegacy(ctx, found)
	}
	switch {
	case err != nil:
		return nil, t.fail(op, nil, err)
	case len(found) == 0:
		e := &Error{Op: op, Token: t.info.Label, Kind: ErrNoPair}
		if name.Label != "" || len(name.ID) > 0 {
			if others, err := t.findPrivate(ctx, PairName{}, finished); err == nil && len(others) > 0 {
				e.Facts = t.pairsFound(ctx, others)
			}
		}
		return nil, e
	case len(found) > 1:
		return nil, &Error{Op: op, Token: t.info.Label, Kind: ErrAmbiguous, Err: fmt.Errorf("%d private keys match", len(found)),
			Facts: t.pairsFound(ctx, found)}
	}
	p, err := t.pairOfPrivate(ctx, found[0])
	if err != nil {
		return nil, t.fail(op, nil, err)
	}
	return p, nil
}

// pairOfPrivate returns the pair of a private key.
func (t *Token) pairOfPrivate(ctx context.Context, private pkcs11.ObjectHandle) (*KeyPair, error) {
	p := &KeyPair{token: t, private: privateKey{handle: private}, generation: t.generation.Load()}
	if err := p.read(ctx); err != nil {
		return nil, err
	}
	return p, p.findPublic(ctx)
}

func finished(label string) bool { return !strings.HasSuffix(label, unfinished) }

// read reads the attributes of the private key object.
func (p *KeyPair) read(ctx context.Context) error {
	t := p.token
	return t.with(ctx, func(s pkcs11.SessionHandle) error {
		values, err := t.optionalAttributes(s, p.private.handle,
			pkcs11.CKA_ID, pkcs11.CKA_LABEL, pkcs11.CKA_KEY_TYPE, pkcs11.CKA_SENSITIVE, pkcs11.CKA_EXTRACTABLE,
			pkcs11.CKA_SIGN, pkcs11.CKA_DECRYPT, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE, pkcs11.CKA_ALWAYS_AUTHENTICATE)
		if err != nil {
			return err
		}
		yes := func(kind uint) bool { return isTrue(attr(kind, values[kind])) }
		p.id, p.label = values[pkcs11.CKA_ID], string(values[pkcs11.CKA_LABEL])
		if !yes(pkcs11.CKA_SENSITIVE) || yes(pkcs11.CKA_EXTRACTABLE) {
			return t.fail("read the key exchange pair", ErrUnsafe, errors.New("its private key is not sensitive, or may be extracted"))
		}
		is := func(kind uint) bool {
			return bytes.Equal(values[pkcs11.CKA_KEY_TYPE], attr(pkcs11.CKA_KEY_TYPE, kind).Value)
		}
		switch {
		case is(pkcs11.CKK_RSA):
			p.private.kind = pkcs11.CKK_RSA
		case is(pkcs11.CKK_EC):
			p.private.kind = pkcs11.CKK_EC
			params, err := t.optionalAttribute(s, p.private.handle, pkcs11.CKA_EC_PARAMS)
			if err != nil {
				return err
			}
			if len(params) > 0 && !knownCurve(params) {
				return t.fail("read the key exchange pair", errors.ErrUnsupported, errors.New("its curve is none of P-256, P-384 and P-521"))
			}
		default: // findPrivate finds only these two
			return t.fail("read the key exchange pair", errors.ErrUnsupported, fmt.Errorf("its CKA_KEY_TYPE is %x", values[pkcs11.CKA_KEY_TYPE]))
		}
		p.private.sign, p.private.decrypt = yes(pkcs11.CKA_SIGN), yes(pkcs11.CKA_DECRYPT)
		p.private.unwrap, p.private.derive = yes(pkcs11.CKA_UNWRAP), yes(pkcs11.CKA_DERIVE)
		p.private.alwaysAuthenticate = yes(pkcs11.CKA_ALWAYS_AUTHENTICATE)
		return nil
	})
}

// Label returns the pair's CKA_LABEL. It may be empty.
func (p *KeyPair) Label() string { return p.label }

// ID returns the pair's CKA_ID. For a pair that was made here it is the [keyspec.SubjectKeyID].
func (p *KeyPair) ID() []byte { return bytes.Clone(p.id) }

// Public returns the *rsa.PublicKey or *ecdsa.PublicKey that belongs to the private key.
func (p *KeyPair) Public() crypto.PublicKey { return p.public }

// Token returns the token that the pair is on.
func (p *KeyPair) Token() *Token { return p.token }

// Random returns the token's random number generator, see [Token.Random].
func (p *KeyPair) Random() (io.Reader, error) { return p.token.Random() }

// Check returns an [ErrLost] if the token does not answer, see [Token.Check].
func (p *KeyPair) Check(ctx context.Context) error { return p.token.Check(ctx) }

// Records returns the token, which keeps records.
func (p *KeyPair) Records() keyspec.Records { return p.token }

// with calls f with a session and the private key's handle, which may be another one after the
// token was away. It calls f once more if the token is lost on the way.
func (p *KeyPair) with(ctx context.Context, f func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error) error {
	for try := 0; ; try++ {
		err := p.token.with(ctx, func(s pkcs11.SessionHandle) error {
			handle, err := p.find(s)
			if err != nil {
				return err
			}
			return f(s, handle)
		})
		if try == 1 || !errors.Is(err, ErrLost) {
			return err
		}
	}
}

// find returns the private key's current handle.
func (p *KeyPair) find(s pkcs11.SessionHandle) (pkcs11.ObjectHandle, error) {
	t := p.token
	p.handleMu.Lock()
	defer p.handleMu.Unlock()
	generation := t.generation.Load()
	if p.generation == generation {
		return p.private.handle, nil
	}
	template := append(PairName{Label: p.label, ID: p.id}.template(), attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		attr(pkcs11.CKA_KEY_TYPE, p.private.kind), attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, true))
	if len(p.modulus) > 0 {
		template = append(template, attr(pkcs11.CKA_MODULUS, p.modulus))
	}
	if err := t.ctx.FindObjectsInit(s, template); err != nil {
		return 0, err
	}
	found, _, err := t.ctx.FindObjects(s, 2)
	if err = also(err, t.ctx.FindObjectsFinal(s)); err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, t.fail("find the key exchange pair again", ErrNoPair, fmt.Errorf("%d private keys match", len(found)))
	}
	p.private.handle, p.generation = found[0], generation
	return found[0], nil
}
