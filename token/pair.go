package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"
)

// PairName names a key exchange pair on its token. An empty field matches
// everything.
type PairName struct {
	Label string // CKA_LABEL
	ID    []byte // CKA_ID
}

func (n PairName) template() []*pkcs11.Attribute {
	var template []*pkcs11.Attribute
	if n.Label != "" {
		template = append(template, attr(pkcs11.CKA_LABEL, n.Label))
	}
	if len(n.ID) > 0 {
		template = append(template, attr(pkcs11.CKA_ID, n.ID))
	}
	return template
}

func (n PairName) String() string {
	switch {
	case n.Label != "":
		return fmt.Sprintf("%q", n.Label)
	case len(n.ID) > 0:
		return fmt.Sprintf("id %x", n.ID)
	default:
		return "of the token"
	}
}

// KeyPair is the key exchange pair: an RSA or EC pair whose private half never
// leaves the token. It is a [crypto.Signer], see [KeyPair.Sign].
type KeyPair struct {
	token *Token
	label string
	id    []byte // CKA_ID, may be empty on a pair that somebody else made

	private privateKey
	public  publicKey
	strays  []candidate
	modulus []byte // RSA: CKA_MODULUS as the token gives it

	handleMu   sync.Mutex
	generation uint64 // of the Token, that private.handle is of

	signing *KeyPair // signs for this one; nil: itself
	home    home     // where session keys of this pair live
}

// publicKey is an *rsa.PublicKey or an *ecdsa.PublicKey.
type publicKey interface{ Equal(crypto.PublicKey) bool }

// privateKey is what the token says of the private half.
type privateKey struct {
	handle pkcs11.ObjectHandle
	kind   uint // CKK_RSA or CKK_EC

	sign, decrypt, unwrap, derive bool // CKA_SIGN and so on
	alwaysAuthenticate            bool // CKA_ALWAYS_AUTHENTICATE: a PIN for each use
}

// KeyPair finds a key exchange pair that is on the token, whoever made it.
//
// Anybody who reaches the token can write public objects to it without a PIN.
// So the private key is only looked for among objects that are CKA_PRIVATE,
// which the token shows and makes for nobody but who is logged in. The public
// key is what that private key itself says, or what it proves to be its own
// (RSA: its modulus; EC: see [Token.provePublic]). A public key or certificate with the
// same id that says otherwise is skipped: see [KeyPair.Strays].
//
// Pairs that others have provisioned may have a label on the public half or the
// certificate alone, none at all, or no public half: a name finds the private key
// by its own label or by the id of the object that has the label.
//
// A pair that [Token.GenerateKeyPair] has not finished is not found. Its other
// errors are [ErrNoPair], [ErrAmbiguous] and [ErrUnsafe].
func (t *Token) KeyPair(ctx context.Context, name PairName) (*KeyPair, error) {
	return t.keyPair(ctx, name, finished)
}

// keyPair finds a pair among those whose label is wanted.
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
		return nil, &Error{Op: op, Token: t.info.Label, Kind: ErrNoPair, hint: t.otherPairs(ctx, name)}
	case len(found) > 1:
		return nil, &Error{Op: op, Token: t.info.Label, Kind: ErrAmbiguous, Err: fmt.Errorf("%d private keys match", len(found)),
			hint: t.choices(ctx, found)}
	}
	p, err := t.pairOf(ctx, found[0])
	if err != nil {
		return nil, t.fail(op, nil, err)
	}
	return p, nil
}

// otherPairs is a hint for somebody who has named a pair that is not there.
func (t *Token) otherPairs(ctx context.Context, name PairName) string {
	const none = "hsmkeys init makes one; hsmkeys init --adopt takes one that is there"
	if name.Label == "" && len(name.ID) == 0 {
		return none
	}
	found, err := t.findPrivate(ctx, PairName{}, finished)
	if err != nil || len(found) == 0 {
		return none
	}
	const most = 8
	var labels []string
	_ = t.with(ctx, func(s pkcs11.SessionHandle) error { // it is a hint
		for _, handle := range found[:min(len(found), most)] {
			id, _ := t.optional(s, handle, pkcs11.CKA_ID)
			label, _ := t.optional(s, handle, pkcs11.CKA_LABEL)
			if len(label) > 0 {
				labels = append(labels, strconv.Quote(string(label)))
			} else {
				labels = append(labels, PairName{ID: id}.URI())
			}
		}
		return nil
	})
	if len(found) > most {
		labels = append(labels, fmt.Sprintf("%d more", len(found)-most))
	}
	return "the token has these pairs: " + strings.Join(labels, ", ")
}

// SeveralPairs reports whether there is more than one private key to choose from.
func (t *Token) SeveralPairs(ctx context.Context) (bool, error) {
	found, err := t.findPrivate(ctx, PairName{}, finished)
	return len(found) > 1, t.fail("find the key exchange pairs", nil, err)
}

// KeyPairs finds the key exchange pairs on the token whose public key is wanted, as
// [Token.KeyPair] would. Those that cannot be used here are left out, and those with other
// public keys are not even tried: a card has keys for other purposes, for some of which it
// asks for the PIN each time.
func (t *Token) KeyPairs(ctx context.Context, wanted func(crypto.PublicKey) bool) ([]*KeyPair, error) {
	const op = "find the key exchange pairs"
	found, err := t.findPrivate(ctx, PairName{}, finished)
	if err != nil {
		return nil, t.fail(op, nil, err)
	}
	var all []*KeyPair
	for _, handle := range found {
		p, err := t.pairIfWanted(ctx, handle, wanted)
		switch {
		case errors.Is(err, ErrUnsafe), errors.Is(err, ErrUnsupported):
		case err != nil:
			return nil, t.fail(op, nil, err)
		case p != nil:
			all = append(all, p)
		}
	}
	return all, nil
}

func (t *Token) pairIfWanted(ctx context.Context, private pkcs11.ObjectHandle, wanted func(crypto.PublicKey) bool) (*KeyPair, error) {
	p := &KeyPair{token: t, private: privateKey{handle: private}, generation: t.generation.Load()}
	if err := p.read(ctx); err != nil {
		return nil, err
	}
	stated, err := p.publicOfPrivate(ctx)
	if err != nil {
		return nil, err
	}
	claims := []candidate{{key: stated}}
	if stated == nil {
		if claims, err = p.candidates(ctx); err != nil {
			return nil, err
		}
	}
	if len(claims) > 0 && !slices.ContainsFunc(claims, func(c candidate) bool { return c.key != nil && wanted(c.key) }) {
		return nil, nil
	}
	if err := p.findPublic(ctx); err != nil || !wanted(p.public) {
		return nil, err
	}
	return p, nil
}

// pairOf is the pair of a private key.
func (t *Token) pairOf(ctx context.Context, private pkcs11.ObjectHandle) (*KeyPair, error) {
	p := &KeyPair{token: t, private: privateKey{handle: private}, generation: t.generation.Load()}
	if err := p.read(ctx); err != nil {
		return nil, err
	}
	return p, p.findPublic(ctx)
}

func finished(label string) bool { return !strings.HasSuffix(label, unfinished) }

// findPrivate looks for private keys that nobody can have planted.
func (t *Token) findPrivate(ctx context.Context, name PairName, wanted func(label string) bool) ([]pkcs11.ObjectHandle, error) {
	var all []pkcs11.ObjectHandle
	for _, kind := range []uint{pkcs11.CKK_RSA, pkcs11.CKK_EC} {
		found, err := t.findObjects(ctx, append(name.template(),
			attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_KEY_TYPE, kind),
			attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, true)))
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	var keep []pkcs11.ObjectHandle
	err := t.with(ctx, func(s pkcs11.SessionHandle) error {
		for _, handle := range all {
			if label, err := t.optional(s, handle, pkcs11.CKA_LABEL); err != nil {
				return err
			} else if wanted(string(label)) {
				keep = append(keep, handle)
			}
		}
		return nil
	})
	return keep, err
}

// findByPublicLabel finds private keys by the label of a public key or certificate
// with the same id. That label only points: what the pair's public key is, is
// settled by the private key.
func (t *Token) findByPublicLabel(ctx context.Context, name PairName, wanted func(label string) bool) ([]pkcs11.ObjectHandle, error) {
	var ids [][]byte
	for _, class := range []uint{pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_CERTIFICATE} {
		found, err := t.findObjects(ctx, append(name.template(), attr(pkcs11.CKA_CLASS, class)))
		if err != nil {
			return nil, err
		}
		err = t.with(ctx, func(s pkcs11.SessionHandle) error {
			for _, handle := range found {
				id, err := t.optional(s, handle, pkcs11.CKA_ID)
				if err != nil {
					return err
				}
				if len(id) > 0 && !slices.ContainsFunc(ids, func(other []byte) bool { return bytes.Equal(id, other) }) {
					ids = append(ids, id)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var all []pkcs11.ObjectHandle
	for _, id := range ids {
		found, err := t.findPrivate(ctx, PairName{ID: id}, wanted)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// choices is the hint by which one of several private keys can be chosen.
func (t *Token) choices(ctx context.Context, found []pkcs11.ObjectHandle) string {
	var all []string
	alike := ""
	_ = t.with(ctx, func(s pkcs11.SessionHandle) error { // it is a hint
		for _, handle := range found {
			id, _ := t.optional(s, handle, pkcs11.CKA_ID)
			label, _ := t.optional(s, handle, pkcs11.CKA_LABEL)
			choice := fmt.Sprintf("%s (%q)", PairName{Label: string(label), ID: id}.URI(), label)
			if slices.Contains(all, choice) {
				alike = choice
				continue
			}
			all = append(all, choice)
		}
		return nil
	})
	hint := "name one by its id: " + strings.Join(all, ", ")
	if alike != "" {
		hint = fmt.Sprintf("several have the same id and label, %s: give all but one another id, which pkcs11-tool --set-id does", alike)
	}
	return hint
}

// URI returns the RFC 7512 URI of the pair, with its id and its label: two pairs may have
// the same id.
func (p PairName) URI() string {
	var attributes []string
	if len(p.ID) > 0 {
		var id strings.Builder
		for _, b := range p.ID {
			fmt.Fprintf(&id, "%%%02x", b)
		}
		attributes = append(attributes, "id="+id.String())
	}
	if p.Label != "" {
		attributes = append(attributes, "object="+url.PathEscape(p.Label))
	}
	return "pkcs11:" + strings.Join(attributes, ";")
}

// read takes from the private key object what it says of itself.
func (p *KeyPair) read(ctx context.Context) error {
	t := p.token
	return t.with(ctx, func(s pkcs11.SessionHandle) error {
		values, err := t.optionals(s, p.private.handle,
			pkcs11.CKA_ID, pkcs11.CKA_LABEL, pkcs11.CKA_KEY_TYPE, pkcs11.CKA_SENSITIVE, pkcs11.CKA_EXTRACTABLE,
			pkcs11.CKA_SIGN, pkcs11.CKA_DECRYPT, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE, pkcs11.CKA_ALWAYS_AUTHENTICATE)
		if err != nil {
			return err
		}
		yes := func(kind uint) bool { return isTrue(attr(kind, values[kind])) }
		p.id, p.label = values[pkcs11.CKA_ID], string(values[pkcs11.CKA_LABEL])
		if !yes(pkcs11.CKA_SENSITIVE) || yes(pkcs11.CKA_EXTRACTABLE) {
			return t.fail("look at the key exchange pair", ErrUnsafe, errors.New("its private key is not sensitive, or may be extracted"))
		}
		p.private.kind = pkcs11.CKK_RSA
		if bytes.Equal(values[pkcs11.CKA_KEY_TYPE], attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC).Value) {
			p.private.kind = pkcs11.CKK_EC
			params, err := t.optional(s, p.private.handle, pkcs11.CKA_EC_PARAMS)
			if err != nil {
				return err
			}
			if len(params) > 0 && !knownCurve(params) {
				return t.fail("look at the key exchange pair", ErrUnsupported, errors.New("its curve is none of P-256, P-384 and P-521"))
			}
		}
		p.private.sign, p.private.decrypt = yes(pkcs11.CKA_SIGN), yes(pkcs11.CKA_DECRYPT)
		p.private.unwrap, p.private.derive = yes(pkcs11.CKA_UNWRAP), yes(pkcs11.CKA_DERIVE)
		p.private.alwaysAuthenticate = yes(pkcs11.CKA_ALWAYS_AUTHENTICATE)
		return nil
	})
}

// optional reads an attribute that an object may not have, or not show: then it is
// nil.
func (t *Token) optional(s pkcs11.SessionHandle, object pkcs11.ObjectHandle, kind uint) ([]byte, error) {
	a, err := t.ctx.GetAttributeValue(s, object, []*pkcs11.Attribute{attr(kind, nil)})
	if is(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_SENSITIVE) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return a[0].Value, nil
}

// optionals reads several of them, in one call where the object has them all: some tokens
// read the object anew for each call.
func (t *Token) optionals(s pkcs11.SessionHandle, object pkcs11.ObjectHandle, kinds ...uint) (map[uint][]byte, error) {
	values := map[uint][]byte{}
	template := make([]*pkcs11.Attribute, len(kinds))
	for i, kind := range kinds {
		template[i] = attr(kind, nil)
	}
	if all, err := t.ctx.GetAttributeValue(s, object, template); err == nil && len(all) == len(kinds) {
		for i, a := range all {
			values[kinds[i]] = a.Value
		}
		return values, nil
	}
	for _, kind := range kinds {
		value, err := t.optional(s, object, kind)
		if err != nil {
			return nil, err
		}
		values[kind] = value
	}
	return values, nil
}

// Label is the pair's CKA_LABEL. It may be empty.
func (p *KeyPair) Label() string { return p.label }

// ID is the pair's CKA_ID. For a pair that was made here it is [SubjectKeyID].
func (p *KeyPair) ID() []byte { return bytes.Clone(p.id) }

// Public is the *rsa.PublicKey or *ecdsa.PublicKey that belongs to the private key.
func (p *KeyPair) Public() crypto.PublicKey { return p.public }

// Destroy deletes the pair and its certificates from the token. What carries the
// pair's id and another key stays, it may be somebody else's.
func (p *KeyPair) Destroy(ctx context.Context) error {
	t := p.token
	private := p.with(ctx, t.destroyQuietly)
	var others error
	if len(p.id) > 0 { // a TPM's public half goes with the private one
		others = also(
			p.destroyCertificates(ctx),
			t.destroyObjects(ctx, append(p.publicTemplate(), attr(pkcs11.CKA_ID, p.id))...))
	}
	return t.fail("destroy the key exchange pair", nil, also(private, others))
}

// destroyCertificates deletes the certificates of the pair's key.
func (p *KeyPair) destroyCertificates(ctx context.Context) error {
	t := p.token
	found, err := t.findObjects(ctx, []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE), attr(pkcs11.CKA_ID, p.id), attr(pkcs11.CKA_TOKEN, true)})
	if err != nil {
		return err
	}
	return t.with(ctx, func(s pkcs11.SessionHandle) error {
		var failed error
		for _, handle := range found {
			der, err := t.readValue(s, handle)
			if err != nil {
				failed = also(failed, err)
				continue
			}
			if c, err := x509.ParseCertificate(der); err == nil && p.public.Equal(c.PublicKey) {
				failed = also(failed, t.destroyQuietly(s, handle))
			}
		}
		return failed
	})
}

// maxObjects is how many objects that match are taken. A module can find objects without
// end.
const maxObjects = 1 << 16

// findObjects returns the handles of all objects that match.
func (t *Token) findObjects(ctx context.Context, template []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	var all []pkcs11.ObjectHandle
	err := t.with(ctx, func(s pkcs11.SessionHandle) error {
		if err := t.ctx.FindObjectsInit(s, template); err != nil {
			return err
		}
		for {
			some, _, err := t.ctx.FindObjects(s, 64)
			if err != nil || len(some) == 0 {
				return also(err, t.ctx.FindObjectsFinal(s))
			}
			if all = append(all, some...); len(all) > maxObjects {
				err := &Error{Op: "find objects", Token: t.info.Module, Kind: ErrModule,
					Err: fmt.Errorf("C_FindObjects returned more than %d of them", maxObjects)}
				return also(err, t.ctx.FindObjectsFinal(s))
			}
		}
	})
	return all, t.fail("find objects", nil, err)
}

func (t *Token) destroyObjects(ctx context.Context, template ...*pkcs11.Attribute) error {
	found, err := t.findObjects(ctx, template)
	if err != nil {
		return err
	}
	return t.with(ctx, func(s pkcs11.SessionHandle) error {
		var err error
		for _, handle := range found {
			err = also(err, t.destroyQuietly(s, handle))
		}
		return err
	})
}
