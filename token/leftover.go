package token

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// What a process that is killed while it makes a pair leaves on the token.

// CleanUp deletes what an interrupted [Token.GenerateKeyPair] has left under a label and nothing
// can use: halves without their final name, and public keys and certificates whose id shows that
// they were made here and whose private key is not on the token. It returns the number of objects
// that it has deleted.
func (t *Token) CleanUp(ctx context.Context, label string) (int, error) {
	const op = "clean up after an interrupted init"
	var remove []pkcs11.ObjectHandle
	for _, class := range []uint{pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_PRIVATE_KEY} {
		found, err := t.findObjects(ctx, []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, class), attr(pkcs11.CKA_LABEL, label+unfinished), attr(pkcs11.CKA_TOKEN, true)})
		if err != nil {
			return 0, t.fail(op, nil, err)
		}
		for _, handle := range found {
			// The public half is renamed last, when the pair is complete.
			half, err := t.isOfPair(ctx, class, handle)
			if err != nil {
				return 0, t.fail(op, nil, err)
			}
			if !half {
				remove = append(remove, handle)
			}
		}
	}
	for _, class := range []uint{pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_CERTIFICATE} {
		found, err := t.findObjects(ctx, []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, class), attr(pkcs11.CKA_LABEL, label), attr(pkcs11.CKA_TOKEN, true)})
		if err != nil {
			return 0, t.fail(op, nil, err)
		}
		for _, handle := range found {
			orphan, err := t.isOrphan(ctx, class, handle)
			if err != nil {
				return 0, t.fail(op, nil, err)
			}
			if orphan {
				remove = append(remove, handle)
			}
		}
	}
	err := t.with(ctx, func(s pkcs11.SessionHandle) error {
		var err error
		for _, handle := range remove {
			err = also(err, t.destroyQuietly(s, handle))
		}
		return err
	})
	return len(remove), t.fail(op, nil, err)
}

// isOfPair reports whether a public key without its final name belongs to a private key that has
// it.
func (t *Token) isOfPair(ctx context.Context, class uint, object pkcs11.ObjectHandle) (bool, error) {
	if class != pkcs11.CKO_PUBLIC_KEY {
		return false, nil
	}
	var id []byte
	err := t.with(ctx, func(s pkcs11.SessionHandle) (err error) {
		id, err = t.optionalAttribute(s, object, pkcs11.CKA_ID)
		return err
	})
	if err != nil || len(id) == 0 {
		return false, err
	}
	private, err := t.findPrivate(ctx, PairName{ID: id}, finished)
	return len(private) > 0, err
}

// isOrphan reports whether a public key or certificate has an id that was made here from its key,
// and no private key has that id.
func (t *Token) isOrphan(ctx context.Context, class uint, object pkcs11.ObjectHandle) (bool, error) {
	var id []byte
	var key any
	err := t.with(ctx, func(s pkcs11.SessionHandle) (err error) {
		if id, err = t.optionalAttribute(s, object, pkcs11.CKA_ID); err != nil {
			return err
		}
		if class == pkcs11.CKO_PUBLIC_KEY {
			key, err = t.readPublic(s, object)
			return err
		}
		der, err := t.readValue(s, object)
		if c, invalid := x509.ParseCertificate(der); err == nil && invalid == nil {
			key = c.PublicKey
		}
		return err
	})
	public, ok := key.(publicKey)
	if err != nil || !ok || !bytes.Equal(id, keyID(public)) {
		return false, err
	}
	private, err := t.findObjects(ctx, []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_ID, id)})
	return len(private) == 0, err
}

// LeftoverPair returns the pair with a label that an interrupted [Token.GenerateKeyPair] may have
// left: one that was made on this token, works, and is of the kind, or of any for 0. It makes anew
// what is missing of the public half. The caller must know whether the pair is in use already. The
// errors are those of [Token.KeyPair], and [ErrTaken] for any other pair.
func (t *Token) LeftoverPair(ctx context.Context, label string, kind KeyType) (*KeyPair, error) {
	op := fmt.Sprintf("take over the key exchange pair %q", label)
	p, err := t.KeyPair(ctx, PairName{Label: label})
	if err != nil {
		return nil, err
	}
	if got := keyTypeOf(p.public); kind != 0 && got != kind {
		return nil, t.fail(op, ErrTaken, fmt.Errorf("it is %v, not %v", got, kind))
	}
	switch err := p.checkBorn(ctx); {
	case errors.Is(err, ErrUnsafe):
		return nil, t.fail(op, ErrTaken, err)
	case err != nil:
		return nil, err
	}
	if err := p.CheckOpens(ctx); err != nil {
		return nil, err
	}
	return p, p.completePublic(ctx, label)
}

// completePublic renames the public half, or makes it anew, for other software: nothing here needs
// it. It does nothing if the token does not allow that.
func (p *KeyPair) completePublic(ctx context.Context, label string) error {
	t := p.token
	halves, err := t.findObjects(ctx, append(p.publicTemplate(), attr(pkcs11.CKA_TOKEN, true)))
	if err != nil {
		return err
	}
	err = t.with(ctx, func(s pkcs11.SessionHandle) error {
		for _, half := range halves {
			if named, err := t.optionalAttribute(s, half, pkcs11.CKA_LABEL); err != nil {
				return err
			} else if string(named) == label+unfinished {
				return t.ctx.SetAttributeValue(s, half, []*pkcs11.Attribute{attr(pkcs11.CKA_LABEL, label)})
			}
		}
		if len(halves) > 0 || len(p.id) == 0 {
			return nil
		}
		values, err := p.kind().values()
		if err != nil {
			return err
		}
		public, _ := pairTemplates(p.id, label, keyTypeOf(p.public))
		public = withoutExponent(public) // which is one of the values
		_, err = t.ctx.CreateObject(s, append(append(public, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY)), values...))
		return err
	})
	if refuses(err) || refusesRecords(err) {
		return nil
	}
	return t.fail("complete the public half of the pair", nil, err)
}
