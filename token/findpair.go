package token

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"slices"

	"github.com/miekg/pkcs11"
)

// pairsFound returns the names of private keys, for an error.
func (t *Token) pairsFound(ctx context.Context, found []pkcs11.ObjectHandle) *PairsFound {
	const most = 8
	facts := &PairsFound{More: max(0, len(found)-most)}
	_ = t.with(ctx, func(s pkcs11.SessionHandle) error { // a name that cannot be read stays empty
		for _, handle := range found[:min(len(found), most)] {
			id, _ := t.optionalAttribute(s, handle, pkcs11.CKA_ID)
			label, _ := t.optionalAttribute(s, handle, pkcs11.CKA_LABEL)
			facts.Pairs = append(facts.Pairs, PairName{Label: string(label), ID: id})
		}
		return nil
	})
	return facts
}

// SeveralPairs reports whether there is more than one private key to choose from.
func (t *Token) SeveralPairs(ctx context.Context) (bool, error) {
	found, err := t.findPrivate(ctx, PairName{}, finished)
	return len(found) > 1, t.fail("find the key exchange pairs", nil, err)
}

// KeyPairs finds the key exchange pairs on the token for whose public key wanted returns true, as
// [Token.KeyPair] would find them. Pairs that cannot be used here are left out. Those with other
// public keys are not tried: a card has keys for other purposes, and asks for the PIN at each use
// of some of them.
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
		case errors.Is(err, ErrUnsafe), errors.Is(err, errors.ErrUnsupported):
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

// findPrivate finds private keys that only somebody with the PIN can have made.
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
			if label, err := t.optionalAttribute(s, handle, pkcs11.CKA_LABEL); err != nil {
				return err
			} else if wanted(string(label)) {
				keep = append(keep, handle)
			}
		}
		return nil
	})
	return keep, err
}

// findByPublicLabel finds private keys by the label of a public key or certificate with the same
// id. The label only leads to the private key, which decides what the public key of the pair is.
func (t *Token) findByPublicLabel(ctx context.Context, name PairName, wanted func(label string) bool) ([]pkcs11.ObjectHandle, error) {
	var ids [][]byte
	for _, class := range []uint{pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_CERTIFICATE} {
		found, err := t.findObjects(ctx, append(name.template(), attr(pkcs11.CKA_CLASS, class)))
		if err != nil {
			return nil, err
		}
		err = t.with(ctx, func(s pkcs11.SessionHandle) error {
			for _, handle := range found {
				id, err := t.optionalAttribute(s, handle, pkcs11.CKA_ID)
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
