package token

import (
	"context"
	"fmt"

	"github.com/miekg/pkcs11"
)

// A Mismatch is a public key or certificate that has the id of a pair and not its key. It is not
// used for anything.
type Mismatch struct {
	What string // describes the object, in a phrase

	// Unexplained is set if nothing on the token accounts for the object. It takes no PIN to
	// write one.
	Unexplained bool
}

// Mismatches returns the objects that were skipped when the pair was found. Most are innocent: a
// malformed certificate, that of a certification authority, the halves of another pair with the
// same id.
func (p *KeyPair) Mismatches(ctx context.Context) ([]Mismatch, error) {
	if len(p.mismatches) == 0 {
		return nil, nil
	}
	others, err := p.sameID(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Mismatch, len(p.mismatches))
	for i, c := range p.mismatches {
		all[i] = c.explain(others)
	}
	return all, nil
}

func (c candidate) explain(others []string) Mismatch {
	switch {
	case c.unreadable != nil:
		return Mismatch{What: fmt.Sprintf("a certificate that cannot be read (%v)", c.unreadable)}
	case c.certificate != nil && c.certificate.IsCA:
		return Mismatch{What: fmt.Sprintf("the certificate of the certification authority %q", c.certificate.Subject)}
	}
	what := "a public key that is another one"
	if c.certificate != nil {
		what = fmt.Sprintf("a certificate of another key, issued to %q", c.certificate.Subject)
	}
	if len(others) > 0 {
		return Mismatch{What: fmt.Sprintf("%s; the private key %s has the same id", what, others[0])}
	}
	return Mismatch{What: what + "; no private key on the token goes with it", Unexplained: true}
}

// sameID returns the labels of the other private keys with the pair's id.
func (p *KeyPair) sameID(ctx context.Context) ([]string, error) {
	t := p.token
	found, err := t.findPrivate(ctx, PairName{ID: p.id}, func(string) bool { return true })
	if err != nil {
		return nil, err
	}
	var names []string
	err = p.with(ctx, func(s pkcs11.SessionHandle, own pkcs11.ObjectHandle) error {
		names = nil
		for _, other := range found {
			if other == own {
				continue
			}
			label, err := t.optionalAttribute(s, other, pkcs11.CKA_LABEL)
			if err != nil {
				return err
			}
			names = append(names, fmt.Sprintf("%q", label))
		}
		return nil
	})
	return names, err
}
