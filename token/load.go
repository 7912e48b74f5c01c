package token

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Load unwraps a session key into a token object that other applications can use by its label. The
// error is [ErrTaken] if a secret key has the id, or has the label and an id that is not in
// beside. If session keys pass through memory the token is handed the value (C_CreateObject), and
// the error is an [errors.ErrUnsupported] if it does not accept one.
func (p *KeyPair) Load(ctx context.Context, wrapped keyspec.WrappedKey, label string, id []byte, beside ...[]byte) error {
	spec := wrapped.Key
	if err := p.checkFree(ctx, label, id, beside); err != nil {
		return err
	}
	if spec.Algorithm.IsLegacy() { // the loaded object may only decrypt, so the key is checked before
		key, err := p.UnwrapTransit(ctx, wrapped)
		if err != nil {
			return err
		}
		if err := key.Close(); err != nil {
			return err
		}
	}
	inMemory, err := p.unwrap(ctx, openingOf(wrapped), loaded(spec, label, id), func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
		err := p.token.checkLoaded(s, handle, spec, label, id)
		if err == nil && !spec.Algorithm.IsLegacy() {
			err = p.token.mustConfirm(s, handle, spec, wrapped.Confirmation)
		}
		return err
	})
	if spec.Algorithm.IsLegacy() && refuses(err) {
		return &Error{Op: opLoad, Token: p.token.info.Label, Kind: errors.ErrUnsupported, Err: err, Facts: ErrNoCipher}
	}
	if err != nil || inMemory == nil {
		return err
	}
	defer inMemory.Close()
	return inMemory.Do(ctx, opLoad, func(value []byte) error { return p.store(ctx, spec, value, label, id) })
}

// LoadValue is [KeyPair.Load] for a session key whose value the caller has.
func (p *KeyPair) LoadValue(ctx context.Context, spec keyspec.Key, value []byte, label string, id []byte, beside ...[]byte) error {
	if err := p.checkValue(spec, value); err != nil {
		return err
	}
	if err := p.checkFree(ctx, label, id, beside); err != nil {
		return err
	}
	return p.store(ctx, spec, value, label, id)
}

// checkFree returns an error if a secret key on the token has the id, or has the label and an id
// that is not in beside.
func (p *KeyPair) checkFree(ctx context.Context, label string, id []byte, beside [][]byte) error {
	t := p.token
	if len(id) == 0 {
		return t.fail(opLoad, errors.ErrUnsupported, errors.New("it needs an id to be found again"))
	}
	if err := ValidLabel(label); err != nil {
		return t.fail(opLoad, errors.ErrUnsupported, err)
	}
	all, err := t.Loaded(ctx)
	if err != nil {
		return err
	}
	for _, there := range all {
		sameID := bytes.Equal(there.ID, id)
		replaced := slices.ContainsFunc(beside, func(other []byte) bool { return bytes.Equal(there.ID, other) })
		if sameID || there.Label == label && !replaced {
			return t.fail(opLoad+" as "+strconv.Quote(label), ErrTaken, &LoadedAlready{there, sameID})
		}
	}
	return nil
}

const opLoad = "load the session key"

// store makes a token object of a value.
func (p *KeyPair) store(ctx context.Context, spec keyspec.Key, value []byte, label string, id []byte) error {
	confirmation, err := p.token.confirmValue(ctx, spec, value)
	if err != nil {
		return err
	}
	err = p.createChecked(ctx, append(loaded(spec, label, id), attr(pkcs11.CKA_VALUE, value)), func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
		err := p.token.checkLoaded(s, handle, spec, label, id)
		if err == nil && !spec.Algorithm.IsLegacy() { // which may only decrypt
			err = p.token.mustConfirm(s, handle, spec, confirmation)
		}
		return err
	})
	if refuses(err) || is(err, pkcs11.CKR_TOKEN_WRITE_PROTECTED, pkcs11.CKR_SESSION_READ_ONLY, pkcs11.CKR_DEVICE_MEMORY) {
		return &Error{Op: opLoad, Token: p.token.info.Label, Kind: errors.ErrUnsupported, Err: err, Facts: ErrKeepsNoKeys}
	}
	return p.token.fail(opLoad, nil, err)
}

// checkLoaded reads back that a token object is protected and persistent, and has the label and
// the id by which other applications find it.
func (t *Token) checkLoaded(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle, spec keyspec.Key, label string, id []byte) error {
	if err := t.checkProtected(s, handle, spec, loaded(spec, label, id)); err != nil {
		return err
	}
	a, err := t.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{
		attr(pkcs11.CKA_LABEL, nil), attr(pkcs11.CKA_ID, nil),
	})
	if err != nil {
		return err
	}
	if string(a[0].Value) != label || !bytes.Equal(a[1].Value, id) {
		return t.fail(opLoad, nil, fmt.Errorf("the token has made another object: label %q, id %x", a[0].Value, a[1].Value))
	}
	return nil
}
