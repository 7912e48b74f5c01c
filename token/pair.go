package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/ThalesIgnite/crypto11"
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
	if n.Label == "" {
		return fmt.Sprintf("id %x", n.ID)
	}
	return fmt.Sprintf("%q", n.Label)
}

// KeyPair is the key exchange pair: an RSA pair whose private half never leaves
// the token. It is a [crypto.Signer]; Sign takes the SHA-256, SHA-384 or SHA-512
// of a message and [rsa.PSSOptions] with an explicit salt length, or a plain
// [crypto.Hash] for PKCS #1 v1.5.
type KeyPair struct {
	token   *Token
	label   string
	id      []byte
	private pkcs11.ObjectHandle
	modulus []byte // CKA_MODULUS as the token gives it
	public  *rsa.PublicKey
	signer  crypto11.Signer
}

// KeyPair finds a key exchange pair that is on the token.
//
// Anybody who reaches the token can write public objects to it without a PIN.
// So the private key is only looked for among objects that are CKA_PRIVATE,
// which the token shows and makes for nobody but who is logged in; the public
// key is the modulus of that private key; and a public key or certificate with
// the same id that says otherwise is refused with [ErrPlanted].
//
// A public half that somebody has deleted is not missed. A pair that
// [Token.GenerateKeyPair] has not finished is not found.
//
// Its other errors are [ErrNoPair], [ErrAmbiguous] and [ErrUnsafe].
func (t *Token) KeyPair(ctx context.Context, name PairName) (*KeyPair, error) {
	return t.keyPair(ctx, name, func(label string) bool { return !strings.HasSuffix(label, unfinished) })
}

// keyPair finds a pair among those whose label is wanted.
func (t *Token) keyPair(ctx context.Context, name PairName, wanted func(label string) bool) (*KeyPair, error) {
	op := "find the key exchange pair " + name.String()
	found, err := t.findObjects(ctx, append(name.template(),
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, true)))
	if err != nil {
		return nil, err
	}
	found, err = t.selectLabels(ctx, found, wanted)
	switch {
	case err != nil:
		return nil, t.fail(op, nil, err)
	case len(found) == 0:
		return nil, &Error{Op: op, Token: t.info.Label, Kind: ErrNoPair, hint: "hsmkeys init makes one"}
	case len(found) > 1:
		return nil, &Error{Op: op, Token: t.info.Label, Kind: ErrAmbiguous, Err: fmt.Errorf("%d private keys match", len(found)),
			hint: "name one by its id: --token 'pkcs11:token=LABEL;id=%..'"}
	}
	p := &KeyPair{token: t, private: found[0]}
	if err := p.read(ctx); err != nil {
		return nil, t.fail(op, nil, err)
	}
	if err := p.checkPublicObjects(ctx); err != nil {
		return nil, t.fail(op, nil, err)
	}
	if err := p.findSigner(ctx); err != nil {
		return nil, t.fail(op, nil, err)
	}
	return p, nil
}

// selectLabels keeps the objects whose CKA_LABEL is wanted.
func (t *Token) selectLabels(ctx context.Context, objects []pkcs11.ObjectHandle, wanted func(string) bool) ([]pkcs11.ObjectHandle, error) {
	var keep []pkcs11.ObjectHandle
	err := t.with(ctx, func(s pkcs11.SessionHandle) error {
		for _, handle := range objects {
			a, err := t.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{attr(pkcs11.CKA_LABEL, nil)})
			if err != nil {
				return err
			}
			if wanted(string(a[0].Value)) {
				keep = append(keep, handle)
			}
		}
		return nil
	})
	return keep, err
}

// read takes the public key from the private key object, and its protections.
func (p *KeyPair) read(ctx context.Context) error {
	t := p.token
	return t.with(ctx, func(s pkcs11.SessionHandle) error {
		a, err := t.ctx.GetAttributeValue(s, p.private, []*pkcs11.Attribute{
			attr(pkcs11.CKA_ID, nil), attr(pkcs11.CKA_LABEL, nil),
			attr(pkcs11.CKA_MODULUS, nil), attr(pkcs11.CKA_PUBLIC_EXPONENT, nil),
			attr(pkcs11.CKA_SENSITIVE, nil), attr(pkcs11.CKA_EXTRACTABLE, nil),
		})
		if err != nil {
			return err
		}
		p.id, p.label, p.modulus = a[0].Value, string(a[1].Value), a[2].Value
		if len(p.id) == 0 {
			return t.fail("look at the key exchange pair", ErrUnsupported, errors.New("its private key has no CKA_ID"))
		}
		if !isTrue(a[4]) || isTrue(a[5]) {
			return t.fail("look at the key exchange pair", ErrUnsafe, errors.New("its private key is not sensitive, or may be extracted"))
		}
		exponent := new(big.Int).SetBytes(a[3].Value)
		if !exponent.IsInt64() || exponent.Int64() > 1<<31-1 || exponent.Int64() < 3 || exponent.Bit(0) == 0 {
			return t.fail("look at the key exchange pair", ErrUnsupported, fmt.Errorf("public exponent %v", exponent))
		}
		p.public = &rsa.PublicKey{N: new(big.Int).SetBytes(p.modulus), E: int(exponent.Int64())}
		return nil
	})
}

// checkPublicObjects refuses public keys and certificates that carry the pair's
// id and another key. Nothing here would believe them, other software would.
func (p *KeyPair) checkPublicObjects(ctx context.Context) error {
	t := p.token
	planted := func(what string) error {
		return &Error{Op: "look at " + what + " with the pair's id", Token: t.info.Label, Kind: ErrPlanted,
			hint: "somebody wrote it to the token, for which no PIN is needed; find out who, and delete it (pkcs11-tool --delete-object)"}
	}
	keys, err := t.findObjects(ctx, []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), attr(pkcs11.CKA_ID, p.id)})
	if err != nil {
		return err
	}
	for _, handle := range keys {
		err := t.with(ctx, func(s pkcs11.SessionHandle) error {
			a, err := t.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{attr(pkcs11.CKA_MODULUS, nil), attr(pkcs11.CKA_PUBLIC_EXPONENT, nil)})
			if err == nil && new(big.Int).SetBytes(a[0].Value).Cmp(p.public.N) == 0 && new(big.Int).SetBytes(a[1].Value).Cmp(big.NewInt(int64(p.public.E))) == 0 {
				return nil
			}
			if err == nil || is(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID) { // another key, or one of another type
				return planted("a public key")
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	certificates, err := t.certificates(ctx, p.id)
	if err != nil {
		return err
	}
	for _, der := range certificates {
		if c, err := x509.ParseCertificate(der); err != nil || !p.public.Equal(c.PublicKey) {
			return planted("a certificate")
		}
	}
	return nil
}

// findSigner has crypto11 find the same private key. What it holds for the public
// key is not used; but it wants to see one, and who reaches the token without a
// PIN can delete it. Then it is shown a session object, which is nothing but the
// key that was read from the private key.
func (p *KeyPair) findSigner(ctx context.Context) error {
	t := p.token
	signers, err := p.signers()
	if err != nil {
		return err
	}
	if len(signers) == 0 {
		t.public.mu.Lock()
		_, err := t.createInAnchor(ctx, p.publicHalf())
		t.public.mu.Unlock()
		if err != nil {
			return t.fail("stand in for the missing public half", nil, err)
		}
		if signers, err = p.signers(); err != nil {
			return err
		}
	}
	if len(signers) != 1 {
		return t.fail("open the key exchange pair", ErrNoPair, fmt.Errorf("%d signing keys for one private key", len(signers)))
	}
	p.signer = signers[0]
	return nil
}

func (p *KeyPair) signers() ([]crypto11.Signer, error) {
	leave, err := p.token.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	set := crypto11.AttributeSet{}
	for _, a := range []*pkcs11.Attribute{
		attr(pkcs11.CKA_ID, p.id), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, true), attr(pkcs11.CKA_MODULUS, p.modulus),
	} {
		set[a.Type] = a
	}
	return p.token.c11.FindKeyPairsWithAttributes(set)
}

// Label is the pair's CKA_LABEL.
func (p *KeyPair) Label() string { return p.label }

// ID is the pair's CKA_ID. For a pair that was made here it is [SubjectKeyID].
func (p *KeyPair) ID() []byte { return bytes.Clone(p.id) }

// Public is the *rsa.PublicKey that belongs to the private key.
func (p *KeyPair) Public() crypto.PublicKey { return p.public }

// Signing is the key that signs for the pair, which is the pair itself.
func (p *KeyPair) Signing() crypto.Signer { return p }

// PSS says whether the token signs with RSASSA-PSS.
func (p *KeyPair) PSS() bool { return p.token.info.Can.SignPSS }

// Sign makes the token sign a digest.
func (p *KeyPair) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	const op = "sign"
	// With a hash that it does not know, crypto11 would sign the bytes as they
	// are: a signature under whatever the caller was made to put there.
	var hash crypto.Hash
	if opts != nil {
		hash = opts.HashFunc()
	}
	switch hash {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
	default:
		return nil, p.token.fail(op, ErrUnsupported, fmt.Errorf("hash %v", hash))
	}
	if len(digest) != hash.Size() {
		return nil, p.token.fail(op, ErrUnsupported, fmt.Errorf("a digest of %d bytes, %v has %d", len(digest), hash, hash.Size()))
	}
	leave, err := p.token.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	signature, err := p.signer.Sign(rand, digest, opts)
	return signature, p.token.fail(op, nil, err)
}

// Destroy deletes the pair and its certificates from the token. What carries the
// pair's id and another key stays, it may be somebody else's.
func (p *KeyPair) Destroy(ctx context.Context) error {
	t := p.token
	certificates := t.destroyObjects(ctx, attr(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE), attr(pkcs11.CKA_ID, p.id), attr(pkcs11.CKA_TOKEN, true))
	public := t.destroyObjects(ctx, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), attr(pkcs11.CKA_ID, p.id), attr(pkcs11.CKA_MODULUS, p.modulus))
	private := t.with(ctx, func(s pkcs11.SessionHandle) error { return t.ctx.DestroyObject(s, p.private) })
	return t.fail("destroy the key exchange pair", nil, also(also(certificates, public), private))
}

// SubjectKeyID is the leftmost 160 bits of the SHA-256 of the public key's BIT
// STRING (RFC 7093 §2, method 1): for RSA, of the RSAPublicKey in it.
func SubjectKeyID(key *rsa.PublicKey) []byte {
	sum := sha256.Sum256(x509.MarshalPKCS1PublicKey(key))
	return sum[:20]
}

// findObjects gives the handles of all objects that match.
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
			all = append(all, some...)
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
