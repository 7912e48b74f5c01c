package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"
)

// ImportPair imports a pair that was made elsewhere (C_CreateObject): an *rsa.PrivateKey of 2048,
// 3072 or 4096 bits or an *ecdsa.PrivateKey on P-256, P-384 or P-521. It is sensitive and not
// extractable like a pair that was made on the token, but there may be copies of the file that it
// came from.
//
// The error is [ErrTaken] if the label or this pair exists, and [errors.ErrUnsupported] if the
// token does not import private keys. The pair is read back and compared, and a signature and a
// session key go through it. One that fails is destroyed.
func (t *Token) ImportPair(ctx context.Context, label string, private crypto.Signer) (*KeyPair, error) {
	public, ok := private.Public().(publicKey)
	kind := keyTypeOf(public)
	if !ok || !kind.valid() {
		err := &Error{Op: importOp(label), Token: t.info.Label, Kind: errors.ErrUnsupported, Err: errors.New("it is neither RSA of 2048, 3072 or 4096 bits nor EC on P-256, P-384 or P-521")}
		if key, ok := public.(*rsa.PublicKey); ok && legacyRSA(key.N) {
			err.Facts = ErrLegacyPair
		}
		return nil, err
	}
	return t.importChecked(ctx, label, private, importing{
		templates: func(id []byte, label string) (public, private []*pkcs11.Attribute) {
			return pairTemplates(id, label, kind)
		},
		checks: []func(*KeyPair, context.Context) error{(*KeyPair).checkSigns, (*KeyPair).checkUnwraps},
	})
}

func importOp(label string) string { return fmt.Sprintf("import the pair %q", label) }

// importing is how a pair from outside is imported.
type importing struct {
	templates func(id []byte, label string) (public, private []*pkcs11.Attribute)
	checks    []func(*KeyPair, context.Context) error // which it must pass
	is        error                                   // a fact of its errors, or nil
}

// importChecked imports a pair under a label that is free, and leaves nothing behind if that
// fails.
func (t *Token) importChecked(ctx context.Context, label string, private crypto.Signer, as importing) (*KeyPair, error) {
	op := importOp(label)
	if strings.HasSuffix(label, unfinished) {
		return nil, t.fail(op, errors.ErrUnsupported, fmt.Errorf("a label does not end in %q", unfinished))
	}
	if err := ValidLabel(label); err != nil {
		return nil, t.fail(op, errors.ErrUnsupported, err)
	}
	if err := t.refuseExisting(ctx, op, label); err != nil {
		return nil, err
	}
	taken, err := t.findObjects(ctx, []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_ID, keyID(private.Public()))})
	if err != nil {
		return nil, err
	}
	if len(taken) > 0 {
		return nil, &Error{Op: op, Token: t.info.Label, Kind: ErrTaken, Err: ErrKeyTaken, Facts: as.is}
	}
	if err := t.removeUnfinished(ctx, label); err != nil {
		return nil, t.fail(op, nil, err)
	}
	p, err := t.importPair(ctx, label, private, as)
	if err != nil {
		err = also(err, t.removeUnfinished(context.Background(), label))
		if refuses(err) || is(err, pkcs11.CKR_TOKEN_WRITE_PROTECTED, pkcs11.CKR_DEVICE_MEMORY) {
			return nil, &Error{Op: op, Token: t.info.Label, Kind: errors.ErrUnsupported, Err: err, Facts: ErrTakesNoPairs}
		}
		return nil, t.fail(op, nil, err)
	}
	return p, nil
}

// importPair makes the objects under a preliminary name, checks the pair, and renames it.
func (t *Token) importPair(ctx context.Context, label string, private crypto.Signer, as importing) (*KeyPair, error) {
	made := PairName{Label: label + unfinished, ID: make([]byte, 20)}
	_, _ = rand.Read(made.ID)
	publicSet, privateSet := as.templates(made.ID, made.Label)
	public, secret, err := importedValues(private)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, a := range secret { // after its one use
			clear(a.Value)
		}
	}()
	err = t.with(ctx, func(s pkcs11.SessionHandle) error {
		for _, template := range [][]*pkcs11.Attribute{
			append(append(withoutExponent(publicSet), attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY)), public...),
			append(append(privateSet, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)), secret...),
		} {
			if _, err := t.ctx.CreateObject(s, template); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	p, err := t.keyPair(ctx, made, func(label string) bool { return label == made.Label })
	if err != nil {
		return nil, err
	}
	if !p.public.Equal(private.Public()) {
		return nil, t.fail("read back the imported pair", ErrUnsafe, errors.New("it is another key"))
	}
	for _, check := range as.checks {
		if err := check(p, ctx); err != nil {
			return nil, err
		}
	}
	return p.setFinalName(ctx, label)
}

// importedValues returns the numbers of a pair (PKCS #11 current mechanisms §2.1.2, §2.1.3, §2.3.3
// and §2.3.4).
func importedValues(private crypto.Signer) (public, secret []*pkcs11.Attribute, err error) {
	switch key := private.(type) {
	case *rsa.PrivateKey:
		if len(key.Primes) != 2 {
			return nil, nil, errors.New("an RSA key with more than two primes")
		}
		key.Precompute()
		if public, err = (rsaPair{&key.PublicKey}).values(); err != nil {
			return nil, nil, err
		}
		return public, append(append([]*pkcs11.Attribute{}, public...),
			attr(pkcs11.CKA_PRIVATE_EXPONENT, key.D.Bytes()),
			attr(pkcs11.CKA_PRIME_1, key.Primes[0].Bytes()), attr(pkcs11.CKA_PRIME_2, key.Primes[1].Bytes()),
			attr(pkcs11.CKA_EXPONENT_1, key.Precomputed.Dp.Bytes()), attr(pkcs11.CKA_EXPONENT_2, key.Precomputed.Dq.Bytes()),
			attr(pkcs11.CKA_COEFFICIENT, key.Precomputed.Qinv.Bytes())), nil
	case *ecdsa.PrivateKey:
		value, err := key.Bytes() // big-endian, as long as the order
		if err != nil {
			return nil, nil, err
		}
		if public, err = (ecPair{&key.PublicKey}).values(); err != nil {
			return nil, nil, err
		}
		return public, append(public[:2:2], attr(pkcs11.CKA_VALUE, value)), nil // the same kind and curve
	}
	return nil, nil, errors.New("a key that is neither RSA nor EC")
}
