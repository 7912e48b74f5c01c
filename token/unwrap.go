package token

import (
	"context"
	"errors"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// A wrappedKey is a wrapped session key, as a key exchange pair opens it. There is one type for
// each kind of key exchange pair.
type wrappedKey interface {
	// check returns an error if nothing of this form is wrapped to the pair. It looks at what
	// the module, which is C code, is going to be handed.
	check(*KeyPair, keyspec.Key) error
	// unwrap unwraps the key into an object of the token (C_UnwrapKey).
	unwrap(p *KeyPair, s pkcs11.SessionHandle, private pkcs11.ObjectHandle, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error)
	// refused reports whether an error of unwrap says that the token does not unwrap such keys.
	refused(error) bool
	// open returns the value of a session key that the token cannot hold. The caller overwrites
	// it.
	open(context.Context, *KeyPair) ([]byte, error)
}

// opening is a [keyspec.WrappedKey] for this package, which knows one more kind of them.
type opening struct {
	spec         keyspec.Key
	wrapped      wrappedKey
	confirmation []byte
}

func openingOf(key keyspec.WrappedKey) opening {
	o := opening{spec: key.Key, confirmation: key.Confirmation}
	if key.Wrapped != nil {
		o.wrapped = keyspec.Match(key.Wrapped,
			func(t *keyspec.KeyTransport) wrappedKey {
				return &rsaWrapped{hash: t.OAEPHash, encrypted: t.EncryptedKey}
			},
			func(a *keyspec.KeyAgreement) wrappedKey { return ecdhWrapped{a} })
	}
	return o
}

// check returns an error that is an [ErrWrapped], or an [errors.ErrUnsupported] if there are no
// such session keys.
func (o opening) check(p *KeyPair) error {
	const op = "unwrap session key"
	if err := o.spec.Check(); err != nil {
		return p.token.fail(op, errors.ErrUnsupported, err)
	}
	if o.wrapped == nil {
		return p.token.fail(op, ErrWrapped, errors.New("there is no wrapped key"))
	}
	if err := o.wrapped.check(p, o.spec); err != nil {
		return p.token.fail(op, ErrWrapped, err)
	}
	return nil
}

// Unwrap unwraps a session key for its one purpose: into an object of the token (C_UnwrapKey; for
// EC after C_DeriveKey), or if the token cannot hold session keys into memory (C_Decrypt; for EC
// C_DeriveKey, and key derivation and key wrap in this process). The error is [ErrWrapped] if the
// wrapped key is not for this pair, damaged, or not the one that its confirmation belongs to, and
// [errors.ErrUnsupported] for a key of a legacy cipher.
func (p *KeyPair) Unwrap(ctx context.Context, wrapped keyspec.WrappedKey) (keyspec.SessionKey, error) {
	spec := wrapped.Key
	if spec.Algorithm.IsLegacy() {
		return nil, p.token.fail("unwrap session key", errors.ErrUnsupported, errors.New("a key of a legacy cipher cannot be used here; it can be loaded and revealed"))
	}
	key := &tokenKey{spec: spec}
	inMemory, err := p.unwrap(ctx, openingOf(wrapped), inUse(spec), func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
		key.token, key.handle, key.generation = p.token, handle, p.token.generation.Load()
		if err := p.token.checkProtected(s, handle, spec, inUse(spec)); err != nil {
			return err
		}
		return p.token.mustConfirm(s, handle, spec, wrapped.Confirmation)
	})
	if err != nil {
		return nil, err
	}
	if inMemory != nil {
		return inMemory, nil
	}
	return key, nil
}

// UnwrapTransit unwraps a session key so that it can be wrapped to others. A key of a legacy
// cipher passes through memory unless [Config.RequireToken] is set: no token tells its length, and
// many cannot tell one cipher from another.
func (p *KeyPair) UnwrapTransit(ctx context.Context, wrapped keyspec.WrappedKey) (keyspec.Transit, error) {
	return p.unwrapTransit(ctx, openingOf(wrapped))
}

func (p *KeyPair) unwrapTransit(ctx context.Context, o opening) (keyspec.Transit, error) {
	spec := o.spec
	if spec.Algorithm.IsLegacy() && !p.token.cfg.RequireToken {
		value, err := p.reveal(ctx, o)
		if err != nil {
			return nil, err
		}
		return asTransit(memkey.New(spec, value, p.token.fail))
	}
	key := &tokenTransit{spec: spec}
	inMemory, err := p.unwrap(ctx, o, inTransitAgain(spec), func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
		key.token, key.handle, key.generation = p.token, handle, p.token.generation.Load()
		if spec.Algorithm.IsLegacy() {
			return nil
		}
		return p.token.mustConfirm(s, handle, spec, o.confirmation)
	})
	if err == nil && inMemory == nil && spec.Algorithm.IsLegacy() {
		err = p.mustConfirmTransit(ctx, key, o.confirmation)
	}
	if err != nil {
		return nil, err
	}
	if inMemory != nil {
		return inMemory, nil
	}
	return key, nil
}

// mustConfirmTransit is [Token.mustConfirm] for a key of a legacy cipher.
func (p *KeyPair) mustConfirmTransit(ctx context.Context, key *tokenTransit, want []byte) error {
	got, err := key.Confirmation(ctx)
	if err == nil {
		err = p.token.checkSameKey(got, want)
	}
	if err != nil {
		return also(err, key.Close())
	}
	return nil
}

// asTransit keeps a nil *memoryKey from becoming a Transit that is not nil.
func asTransit(key *memkey.Key, err error) (keyspec.Transit, error) {
	if err != nil {
		return nil, err
	}
	return key, nil
}

// unwrap unwraps a session key where it is to live: into an object of the token that passes check,
// or into the key that it returns if the token cannot hold it.
func (p *KeyPair) unwrap(ctx context.Context, o opening, template []*pkcs11.Attribute,
	check func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error) (*memkey.Key, error) {
	if err := o.check(p); err != nil {
		return nil, err
	}
	where, err := p.Residence(ctx)
	if err == nil && where == keyspec.InToken {
		err = p.unwrapInToken(ctx, o.wrapped, template, check)
		if !p.cannotHold(err) {
			return nil, err
		}
		err = p.fallBackToMemory(err)
	}
	if err != nil {
		return nil, err
	}
	var key *memkey.Key
	err = memkey.WithoutTrace(func() error {
		value, err := o.wrapped.open(ctx, p)
		if err == nil {
			key, err = memkey.New(o.spec, value, p.token.fail)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := key.MustConfirm(ctx, o.confirmation); err != nil {
		return nil, also(err, key.Close())
	}
	return key, nil
}

// cannotHold reports whether err says that the token does not unwrap at all, contrary to its list
// of mechanisms or the cache. A token that refuses parameters may refuse this wrapping alone.
func (p *KeyPair) cannotHold(err error) bool {
	p.residence.mu.Lock()
	defer p.residence.mu.Unlock()
	return p.residence.cached && refuses(err) || is(err, pkcs11.CKR_FUNCTION_NOT_SUPPORTED, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT)
}

// unwrapInToken runs C_UnwrapKey and then check on the new object, in one session. The object is
// destroyed if check fails.
func (p *KeyPair) unwrapInToken(ctx context.Context, wrapped wrappedKey, template []*pkcs11.Attribute,
	check func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error) error {
	t := p.token
	err := p.with(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) error {
		t.objects.Store(true)
		handle, err := wrapped.unwrap(p, s, key, template)
		if err != nil {
			return err
		}
		return t.checkOrDestroy(s, handle, check)
	})
	kind := unwrapKind(err)
	if wrapped.refused(err) {
		kind = errors.ErrUnsupported
	}
	return t.fail("unwrap session key", kind, err)
}
