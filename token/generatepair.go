package token

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"
)

// unfinished marks a pair that was not checked yet. A process that is killed during
// GenerateKeyPair leaves one behind, and the next call removes it.
const unfinished = " (unfinished)"

// generating keeps two calls in this process from taking each other's pair for a leftover. Key
// generation is rare and slow, so the wait does not matter.
var generating = make(chan struct{}, 1)

// GenerateKeyPair makes a key exchange pair on the token. The error is [ErrTaken] if a pair or
// certificate with that label exists.
//
// The public key and the protections of the private key are read back, and a signature and a
// session key go through the new pair. A pair that fails is destroyed. Its CKA_ID is the
// [keyspec.SubjectKeyID].
func (t *Token) GenerateKeyPair(ctx context.Context, label string, kind KeyType) (*KeyPair, error) {
	op := fmt.Sprintf("make the key exchange pair %q", label)
	if !kind.valid() {
		return nil, t.fail(op, errors.ErrUnsupported, fmt.Errorf("RSA has 2048, 3072 or 4096 bits and EC 256, 384 or 521, not %d", int(kind)))
	}
	if err := kind.maker().missing(t.info.Mechanisms); err != nil {
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
		// Not ctx: a half-made pair is removed even if the caller has given up.
		return nil, t.fail(op, nil, also(err, t.removeUnfinished(context.Background(), label)))
	}
	return p, nil
}

// generateTwice makes a pair under a preliminary name, and once more under its final one if the
// token cannot rename objects. Only then can a process that is killed leave a pair that was not
// checked under the final label, with a random id.
func (t *Token) generateTwice(ctx context.Context, label string, kind KeyType) (*KeyPair, error) {
	id := make([]byte, 20) // until the key is known from which the final id is made
	_, _ = rand.Read(id)
	p, err := t.generateNamed(ctx, PairName{Label: label + unfinished, ID: id}, kind)
	if err != nil {
		return nil, err
	}
	if err := p.checkNew(ctx, kind); err != nil {
		return nil, err
	}
	named, err := p.setFinalName(ctx, label)
	if !refuses(err) && !is(err, pkcs11.CKR_ACTION_PROHIBITED, pkcs11.CKR_GENERAL_ERROR) {
		return named, err
	}
	if err := t.removeUnfinished(ctx, label); err != nil {
		return nil, err
	}
	if p, err = t.generateNamed(ctx, PairName{Label: label, ID: id}, kind); err != nil {
		return nil, err
	}
	if err := p.checkNew(ctx, kind); err != nil {
		return nil, also(err, p.Destroy(context.Background()))
	}
	return p, nil
}

// generateNamed makes the pair under a name.
func (t *Token) generateNamed(ctx context.Context, made PairName, kind KeyType) (*KeyPair, error) {
	public, private := pairTemplates(made.ID, made.Label, kind)
	if err := t.generatePair(ctx, public, private, kind); err != nil {
		return nil, err
	}
	return t.keyPair(ctx, made, func(label string) bool { return label == made.Label })
}

// refuseExisting returns an error if the label is taken: a second pair would be hidden behind the
// first.
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

// setFinalName sets the final id and label of the new pair.
func (p *KeyPair) setFinalName(ctx context.Context, label string) (*KeyPair, error) {
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
		// The label alone no longer finds it.
		half := &KeyPair{token: t, id: id, public: p.public, modulus: p.modulus, private: p.private}
		return nil, also(err, half.Destroy(context.Background()))
	}
	return named, nil
}

// rename sets the final names of both halves. A process may be killed between any two steps, so
// their order matters: until the private half has its label the pair is unfinished, and the next
// call removes it; from then on it is found, because its public half has the same id already.
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
	// By its label alone: another process may have made a pair with the same label.
	return t.KeyPair(ctx, PairName{Label: label})
}
