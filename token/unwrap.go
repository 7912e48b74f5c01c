package token

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/guard"
)

// Generate makes a session key where the session keys of this pair live: on the
// token (C_GenerateKey), or in memory from the token's random numbers.
func (p *KeyPair) Generate(ctx context.Context, spec keyspec.Key) (keyspec.Transit, error) {
	switch where, err := p.Residence(ctx); {
	case err != nil:
		return nil, err
	case where == keyspec.InToken:
		return p.token.Generate(ctx, spec)
	}
	if err := spec.Check(); err != nil {
		return nil, p.token.fail("generate session key", errors.ErrUnsupported, err)
	}
	random, err := p.token.Random()
	if err != nil {
		return nil, err
	}
	var key *memoryKey
	err = withoutTrace(func() error {
		value := make([]byte, spec.Size)
		_, err := io.ReadFull(random, value)
		if err != nil {
			clear(value)
			return p.token.fail("generate session key", nil, err)
		}
		key, err = p.token.keepKey(spec, value)
		return err
	})
	return asTransit(key, err)
}

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
		return p.token.fail(op, ErrWrapped, errors.New("there is none"))
	}
	if err := o.wrapped.check(p, o.spec); err != nil {
		return p.token.fail(op, ErrWrapped, err)
	}
	return nil
}

// Unwrap unwraps a session key for its one use: in the token (C_UnwrapKey; for EC after
// C_DeriveKey), or where it cannot hold session keys into memory (C_Decrypt, or
// C_DeriveKey and the key derivation and key wrap here). Its error is [ErrWrapped] when
// the wrapped key is not for this pair or damaged, and [errors.ErrUnsupported] for the key of a
// legacy cipher.
func (p *KeyPair) Unwrap(ctx context.Context, wrapped keyspec.WrappedKey) (keyspec.SessionKey, error) {
	spec := wrapped.Key
	if spec.Algorithm.IsLegacy() {
		return nil, p.token.fail("unwrap session key", errors.ErrUnsupported, errors.New("nothing is done here with the key of a legacy cipher; it can be loaded and revealed"))
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

// UnwrapTransit unwraps a session key so that it can be wrapped to others. The key of a
// legacy cipher comes into memory where it may: no token tells how long it is, and many
// do not tell one from another.
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
		return asTransit(p.token.keepKey(spec, value))
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

// mustConfirmTransit is mustConfirm for the key of a legacy cipher.
func (p *KeyPair) mustConfirmTransit(ctx context.Context, key *tokenTransit, want []byte) error {
	got, err := key.Confirmation(ctx)
	if err == nil {
		err = p.token.sameKey(got, want)
	}
	if err != nil {
		return also(err, key.Close())
	}
	return nil
}

// asTransit keeps a nil key from becoming a Transit that is not nil.
func asTransit(key *memoryKey, err error) (keyspec.Transit, error) {
	if err != nil {
		return nil, err
	}
	return key, nil
}

// Load unwraps a session key into a token object that other applications can
// use by its label. It refuses with [ErrTaken] when a secret key with that id is there,
// or one with that label whose id is none of those in beside. Where session keys pass
// through memory the token is given the value (C_CreateObject), if it takes any.
func (p *KeyPair) Load(ctx context.Context, wrapped keyspec.WrappedKey, label string, id []byte, beside ...[]byte) error {
	spec := wrapped.Key
	if err := p.free(ctx, label, id, beside); err != nil {
		return err
	}
	if spec.Algorithm.IsLegacy() { // it may decrypt and nothing else, so it is looked at before
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
	return inMemory.use(ctx, opLoad, func(value []byte) error { return p.store(ctx, spec, value, label, id) })
}

// Reveal unwraps a session key and reads its value. The caller overwrites it
// after use.
func (p *KeyPair) Reveal(ctx context.Context, wrapped keyspec.WrappedKey) ([]byte, error) {
	return p.reveal(ctx, openingOf(wrapped))
}

func (p *KeyPair) reveal(ctx context.Context, o opening) ([]byte, error) {
	var value []byte
	inMemory, err := p.unwrap(ctx, o, revealed(o.spec), func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
		var err error
		value, err = p.token.readValue(s, handle)
		return also(err, p.token.ctx.DestroyObject(s, handle))
	})
	if inMemory != nil {
		defer inMemory.Close()
		err = inMemory.use(ctx, "reveal session key", func(secret []byte) error {
			value = bytes.Clone(secret)
			return nil
		})
	}
	if err == nil && len(value) != o.spec.Size {
		err = p.token.fail("reveal session key", ErrWrapped, fmt.Errorf("it has %d bytes, not %d", len(value), o.spec.Size))
	}
	if err == nil {
		err = p.token.mustConfirmValue(ctx, o.spec, value, o.confirmation)
	}
	if err != nil {
		clear(value)
		return nil, err
	}
	return value, nil
}

// unwrap unwraps a session key where it is to live: into an object of the token that
// look has seen, or where the token cannot hold it into the key that it gives.
func (p *KeyPair) unwrap(ctx context.Context, o opening, template []*pkcs11.Attribute,
	look func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error) (*memoryKey, error) {
	if err := o.check(p); err != nil {
		return nil, err
	}
	where, err := p.Residence(ctx)
	if err == nil && where == keyspec.InToken {
		err = p.unwrapInToken(ctx, o.wrapped, template, look)
		if !p.cannotHold(err) {
			return nil, err
		}
		err = p.settle(err)
	}
	if err != nil {
		return nil, err
	}
	var key *memoryKey
	err = withoutTrace(func() error {
		value, err := o.wrapped.open(ctx, p)
		if err == nil {
			key, err = p.token.keepKey(o.spec, value)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := key.mustConfirm(ctx, o.confirmation); err != nil {
		return nil, also(err, key.Close())
	}
	return key, nil
}

// cannotHold says whether a token does not unwrap at all, against what its list of
// mechanisms says, or what was remembered. What refuses parameters may refuse this wrapping
// alone.
func (p *KeyPair) cannotHold(err error) bool {
	p.home.mu.Lock()
	defer p.home.mu.Unlock()
	return p.home.recalled && refuses(err) || is(err, pkcs11.CKR_FUNCTION_NOT_SUPPORTED, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT)
}

// unwrapInToken runs C_UnwrapKey and then a look at the new object, in one session.
// When that look fails the object is destroyed.
func (p *KeyPair) unwrapInToken(ctx context.Context, wrapped wrappedKey, template []*pkcs11.Attribute,
	look func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error) error {
	t := p.token
	err := p.with(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) error {
		t.objects.Store(true)
		handle, err := wrapped.unwrap(p, s, key, template)
		if err != nil {
			return err
		}
		return t.lookOrDestroy(s, handle, look)
	})
	kind := unwrapKind(err)
	if wrapped.refused(err) {
		kind = errors.ErrUnsupported
	}
	return t.fail("unwrap session key", kind, err)
}

// lookOrDestroy destroys a new object that does not stand a look at it.
func (t *Token) lookOrDestroy(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle, look func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error) error {
	if err := look(s, handle); err != nil {
		return also(err, t.destroyQuietly(s, handle))
	}
	return nil
}

// destroyQuietly destroys an object that may be gone already.
func (t *Token) destroyQuietly(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
	if err := t.ctx.DestroyObject(s, handle); !is(err, pkcs11.CKR_OBJECT_HANDLE_INVALID) {
		return err
	}
	return nil
}

// unwrapKind tells a wrapped key that does not hold from a token that fails.
// SoftHSM says CKR_GENERAL_ERROR for the first, others name it.
func unwrapKind(err error) error {
	if is(err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_WRAPPED_KEY_INVALID, pkcs11.CKR_WRAPPED_KEY_LEN_RANGE,
		pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE) {
		return ErrWrapped
	}
	return nil
}

// checkProtected reads back that the token has made the key as the template asks, for its
// uses and for nobody without the PIN, and keeps it to itself, which some do not although
// they took the template; and that it has the size it should have.
func (t *Token) checkProtected(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle, spec keyspec.Key, template []*pkcs11.Attribute) error {
	const op = "unwrap session key"
	if err := t.checkFlags(s, handle, template); err != nil {
		return err
	}
	if err := t.checkKept(s, handle); err != nil {
		return err
	}
	// SoftHSM has no length for a key that was unwrapped; others may not have
	// the attribute.
	a, err := t.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{attr(pkcs11.CKA_VALUE_LEN, nil)})
	if err != nil {
		return nil // there is nothing to compare
	}
	if size := attr(pkcs11.CKA_VALUE_LEN, spec.Size).Value; !bytes.Equal(a[0].Value, size) && !isZero(a[0]) {
		return t.fail(op, ErrWrapped, fmt.Errorf("it does not have %d bytes", spec.Size))
	}
	return nil
}

// flags are the attributes of secret keys that are true or false, which decide who may do
// what with a key.
var flags = map[uint]string{
	pkcs11.CKA_TOKEN: "CKA_TOKEN", pkcs11.CKA_PRIVATE: "CKA_PRIVATE", pkcs11.CKA_SENSITIVE: "CKA_SENSITIVE", pkcs11.CKA_EXTRACTABLE: "CKA_EXTRACTABLE",
	pkcs11.CKA_WRAP: "CKA_WRAP", pkcs11.CKA_UNWRAP: "CKA_UNWRAP", pkcs11.CKA_ENCRYPT: "CKA_ENCRYPT", pkcs11.CKA_DECRYPT: "CKA_DECRYPT",
	pkcs11.CKA_SIGN: "CKA_SIGN", pkcs11.CKA_VERIFY: "CKA_VERIFY", pkcs11.CKA_DERIVE: "CKA_DERIVE",
}

// checkFlags reads back that a new object has the flags of the template it was made from.
func (t *Token) checkFlags(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle, template []*pkcs11.Attribute) error {
	var asked, read []*pkcs11.Attribute
	for _, a := range template {
		if flags[a.Type] != "" {
			asked, read = append(asked, a), append(read, attr(a.Type, nil))
		}
	}
	got, err := t.ctx.GetAttributeValue(s, handle, read)
	if err != nil {
		return err
	}
	for i, a := range asked {
		if isTrue(got[i]) != isTrue(a) {
			return t.fail("make a key", ErrUnsafe, fmt.Errorf("the token made it with %s %t, not %t", flags[a.Type], isTrue(got[i]), isTrue(a)))
		}
	}
	return nil
}

const (
	leaksNot = 1 + iota
	leaksIt
)

// checkKept tries once for each Token whether it keeps a sensitive value to itself:
// a module may say that a key is sensitive and give it to whoever asks.
func (t *Token) checkKept(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
	if t.leaks.Load() == 0 {
		value, err := t.readValue(s, handle)
		clear(value)
		if err == nil && len(value) > 0 {
			t.leaks.Store(leaksIt)
		} else {
			t.leaks.Store(leaksNot)
		}
	}
	if t.leaks.Load() == leaksIt && t.cfg.RequireToken {
		return &Error{Op: "keep session keys on the token", Token: t.info.Label, Kind: ErrResidence,
			Err: errors.New("it reveals the value of a sensitive key"), Facts: ErrReveals}
	}
	return nil
}

func isZero(a *pkcs11.Attribute) bool { return len(bytes.Trim(a.Value, "\x00")) == 0 }

func isTrue(a *pkcs11.Attribute) bool { return len(a.Value) == 1 && a.Value[0] != 0 }

// readValue reads CKA_VALUE. The caller overwrites it if it is secret.
func (t *Token) readValue(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) ([]byte, error) {
	return guard.Take(func() error {
		_, err := t.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{attr(pkcs11.CKA_VALUE, nil)})
		return err
	})
}
