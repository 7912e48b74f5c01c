package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"sync"

	"github.com/miekg/pkcs11"
)

// Use is the one thing that a session key may do (NIST SP 800-57 part 1 §5.2: a
// key is used for one purpose).
type Use int

const (
	WrapKeys     Use = iota + 1 // AES: wraps and unwraps data keys
	EncryptData                 // AES: encrypts and decrypts data
	Authenticate                // generic secret: HMAC
)

// Spec is what a session key is: its use, which settles its type, and its size
// in bytes: 16, 24 or 32 for AES; 32, 48 or 64 for HMAC with SHA-256, SHA-384 or
// SHA-512, as long as the hash (RFC 2104 §3).
type Spec struct {
	Use  Use
	Size int
}

func (s Spec) check() error {
	switch {
	case s.Use == WrapKeys || s.Use == EncryptData:
		if s.Size == 16 || s.Size == 24 || s.Size == 32 {
			return nil
		}
	case s.Use == Authenticate:
		if s.Size == 32 || s.Size == 48 || s.Size == 64 {
			return nil
		}
	}
	return fmt.Errorf("no session key has use %d and %d bytes", s.Use, s.Size)
}

func (s Spec) keyType() uint {
	if s.Use == Authenticate {
		return pkcs11.CKK_GENERIC_SECRET
	}
	return pkcs11.CKK_AES
}

func (s Spec) generator() uint {
	if s.Use == Authenticate {
		return pkcs11.CKM_GENERIC_SECRET_KEY_GEN
	}
	return pkcs11.CKM_AES_KEY_GEN
}

// Wrapped is a session key wrapped to an RSA public key with RSAES-OAEP, empty
// label, MGF1 with the same hash (RFC 8017 §7.1).
type Wrapped struct {
	Hash crypto.Hash // SHA-256, or SHA-1 where a token can do no better
	Key  []byte      // as long as the modulus
}

// SessionKey is a session key in use, wherever it lives.
type SessionKey interface {
	Spec() Spec
	// WrapData wraps a data key of 16 to 64 bytes, a multiple of 8, with AES key
	// wrap (RFC 3394). The result is 8 bytes longer.
	WrapData(ctx context.Context, data []byte) ([]byte, error)
	// UnwrapData undoes WrapData. Its error is ErrWrapped when the wrapped key
	// was not made by WrapData under this key.
	UnwrapData(ctx context.Context, wrapped []byte) ([]byte, error)
	// MAC computes the HMAC of a message, with the hash that Spec's size stands for.
	MAC(ctx context.Context, message []byte) ([]byte, error)
	// Close destroys the key. Closing twice is no error.
	Close() error
}

// object is a session object that is destroyed once.
type object struct {
	token  *Token
	handle pkcs11.ObjectHandle

	// Read-locked while the handle is in use: a token may give the handle of an
	// object that is destroyed to the next one.
	mu     sync.RWMutex
	closed bool
}

// use runs f on a session, with the object's handle.
func (o *object) use(ctx context.Context, f func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error) error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.closed {
		return o.token.fail("use the session key", ErrClosed, nil)
	}
	return o.token.with(ctx, func(s pkcs11.SessionHandle) error { return f(s, o.handle) })
}

func (o *object) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	// Not the caller's context: a key is destroyed even when it was cancelled.
	err := o.token.with(context.Background(), func(s pkcs11.SessionHandle) error {
		return o.token.destroyQuietly(s, o.handle)
	})
	if errors.Is(err, ErrClosed) { // a closed Token has destroyed it already
		return nil
	}
	return o.token.fail("destroy the session key", nil, err)
}

// Transit is a session key that is here to be wrapped, see the package's
// documentation.
type Transit struct {
	object
	spec Spec
}

// Generate makes a session key on the token (C_GenerateKey).
func (t *Token) Generate(ctx context.Context, spec Spec) (*Transit, error) {
	const op = "generate session key"
	if err := spec.check(); err != nil {
		return nil, t.fail(op, ErrUnsupported, err)
	}
	var handle pkcs11.ObjectHandle
	err := t.with(ctx, func(s pkcs11.SessionHandle) (err error) {
		handle, err = t.ctx.GenerateKey(s, mechanism(spec.generator(), nil),
			append(spec.inTransit(), attr(pkcs11.CKA_VALUE_LEN, spec.Size)))
		return err
	})
	if err != nil {
		return nil, t.fail(op, nil, err)
	}
	return &Transit{object: object{token: t, handle: handle}, spec: spec}, nil
}

// CheckValue is the key's CKA_CHECK_VALUE, 3 bytes (PKCS #11 §4.10.2), or nil where
// the token has none for this key. Tokens have one for keys that they make, and
// some none for keys that they unwrap: then the token computes it as the standard
// says.
func (k *Transit) CheckValue(ctx context.Context) ([]byte, error) {
	var value []byte
	err := k.use(ctx, func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
		attributes, err := k.token.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{attr(pkcs11.CKA_CHECK_VALUE, nil)})
		if err == nil && len(attributes[0].Value) == checkValueSize {
			value = attributes[0].Value
			return nil
		}
		if err != nil && !is(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID) {
			return err
		}
		value, err = k.computeCheckValue(s, handle)
		if gone(err) {
			return err
		}
		return nil // that the token does not do it is an answer
	})
	return value, k.token.fail("read the key check value", nil, err)
}

const checkValueSize = 3

// computeCheckValue encrypts one block of zeros (AES), or takes the SHA-1 of the
// value (generic secrets).
func (k *Transit) computeCheckValue(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) ([]byte, error) {
	t := k.token
	var out []byte
	var err error
	if k.spec.keyType() == pkcs11.CKK_AES {
		if err = t.ctx.EncryptInit(s, mechanism(pkcs11.CKM_AES_ECB, nil), handle); err == nil {
			out, err = t.ctx.Encrypt(s, make([]byte, 16))
		}
	} else {
		if err = t.ctx.DigestInit(s, mechanism(pkcs11.CKM_SHA_1, nil)); err == nil {
			if err = t.ctx.DigestKey(s, handle); err == nil {
				out, err = t.ctx.DigestFinal(s)
			}
		}
	}
	if err != nil || len(out) < checkValueSize {
		return nil, err
	}
	return out[:checkValueSize], nil
}

// Wrap wraps the key to an RSA public key of 2048 bits or more in the token
// (C_WrapKey), with the given OAEP hash, SHA-256 or SHA-1, or with SHA-1 where the
// token does not take SHA-256.
func (k *Transit) Wrap(ctx context.Context, to *rsa.PublicKey, hash crypto.Hash) (Wrapped, error) {
	const op = "wrap session key"
	t := k.token
	if hash != crypto.SHA256 && hash != crypto.SHA1 {
		return Wrapped{}, t.fail(op, ErrUnsupported, fmt.Errorf("OAEP with %v", hash))
	}
	if t.sha1Only.Load() {
		hash = crypto.SHA1
	}
	public, err := t.importPublicKey(ctx, to)
	if err != nil {
		return Wrapped{}, err
	}
	wrapped := Wrapped{Hash: hash}
	err = k.use(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) (err error) {
		wrapped.Key, err = t.ctx.WrapKey(s, oaep(wrapped.Hash), public, key)
		if wrapped.Hash == crypto.SHA1 || !refusesParameters(err) {
			return err
		}
		wrapped.Hash = crypto.SHA1
		if wrapped.Key, err = t.ctx.WrapKey(s, oaep(wrapped.Hash), public, key); err == nil {
			t.sha1Only.Store(true) // it was the hash and nothing else
		}
		return err
	})
	if err != nil {
		return Wrapped{}, t.fail(op, nil, err)
	}
	if len(wrapped.Key) != to.Size() {
		return Wrapped{}, t.fail(op, ErrUnsafe, fmt.Errorf("%d bytes came back for a key of %d", len(wrapped.Key), to.Size()))
	}
	return wrapped, nil
}

// refusesParameters says whether a token may do OAEP, but not with this hash.
func refusesParameters(err error) bool {
	return is(err, pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_MECHANISM_INVALID)
}

func mechanism(kind uint, parameter any) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(kind, parameter)}
}

// oaep is RSAES-OAEP with an empty label and MGF1 over the same hash.
func oaep(hash crypto.Hash) []*pkcs11.Mechanism {
	digest, mgf := uint(pkcs11.CKM_SHA_1), uint(pkcs11.CKG_MGF1_SHA1)
	if hash == crypto.SHA256 {
		digest, mgf = pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256
	}
	return mechanism(pkcs11.CKM_RSA_PKCS_OAEP, pkcs11.NewOAEPParams(digest, mgf, pkcs11.CKZ_DATA_SPECIFIED, nil))
}

// Unwrap makes the token unwrap a session key for its one use (C_UnwrapKey). Its
// error is [ErrWrapped] when the wrapped key is not for this pair or damaged.
func (p *KeyPair) Unwrap(ctx context.Context, spec Spec, wrapped Wrapped) (SessionKey, error) {
	key := &tokenKey{spec: spec}
	err := p.unwrap(ctx, spec, wrapped, spec.inUse(), func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
		key.token, key.handle = p.token, handle
		return p.token.checkProtected(s, handle, spec)
	})
	if err != nil {
		return nil, err
	}
	return key, nil
}

// UnwrapTransit unwraps a session key so that it can be wrapped to others.
func (p *KeyPair) UnwrapTransit(ctx context.Context, spec Spec, wrapped Wrapped) (*Transit, error) {
	key := &Transit{spec: spec}
	err := p.unwrap(ctx, spec, wrapped, spec.inTransitAgain(), func(_ pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
		key.token, key.handle = p.token, handle
		return nil
	})
	if err != nil {
		return nil, err
	}
	return key, nil
}

// Load unwraps a session key into a token object that other applications can
// use by its label. It refuses with [ErrExists] when a secret key with that
// label or id is there.
func (p *KeyPair) Load(ctx context.Context, spec Spec, wrapped Wrapped, label string, id []byte) error {
	if label == "" || len(id) == 0 {
		return p.token.fail("load the session key", ErrUnsupported, errors.New("it needs a label and an id to be found by"))
	}
	for _, name := range [][]*pkcs11.Attribute{{attr(pkcs11.CKA_LABEL, label)}, {attr(pkcs11.CKA_ID, id)}} {
		found, err := p.token.findObjects(ctx, append(name, attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), attr(pkcs11.CKA_TOKEN, true)))
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return p.token.fail(fmt.Sprintf("load the session key as %q", label), ErrExists, nil)
		}
	}
	return p.unwrap(ctx, spec, wrapped, spec.loaded(label, id), func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
		return p.token.checkProtected(s, handle, spec)
	})
}

// Reveal unwraps a session key and reads its value. The caller overwrites it
// after use.
func (p *KeyPair) Reveal(ctx context.Context, spec Spec, wrapped Wrapped) ([]byte, error) {
	var value []byte
	err := p.unwrap(ctx, spec, wrapped, spec.revealed(), func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
		var err error
		value, err = p.token.readValue(s, handle)
		return also(err, p.token.ctx.DestroyObject(s, handle))
	})
	if err == nil && len(value) != spec.Size {
		err = p.token.fail("reveal session key", ErrWrapped, fmt.Errorf("it has %d bytes, not %d", len(value), spec.Size))
	}
	if err != nil {
		clear(value)
		return nil, err
	}
	return value, nil
}

// unwrap runs C_UnwrapKey and then a look at the new object, in one session.
// When that look fails the object is destroyed.
func (p *KeyPair) unwrap(ctx context.Context, spec Spec, wrapped Wrapped, template []*pkcs11.Attribute,
	look func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error) error {
	const op = "unwrap session key"
	t := p.token
	if err := spec.check(); err != nil {
		return t.fail(op, ErrUnsupported, err)
	}
	// The module is C code: what it is handed is checked first.
	if len(wrapped.Key) != p.public.Size() || wrapped.Hash != crypto.SHA1 && wrapped.Hash != crypto.SHA256 {
		return t.fail(op, ErrWrapped, fmt.Errorf("%d bytes with %v, for a key of %d bytes", len(wrapped.Key), wrapped.Hash, p.public.Size()))
	}
	err := t.with(ctx, func(s pkcs11.SessionHandle) error {
		handle, err := t.ctx.UnwrapKey(s, oaep(wrapped.Hash), p.private, wrapped.Key, template)
		if err != nil {
			return err
		}
		if err := look(s, handle); err != nil {
			return also(err, t.destroyQuietly(s, handle))
		}
		return nil
	})
	kind := unwrapKind(err)
	if wrapped.Hash != crypto.SHA1 && refusesParameters(err) {
		kind = ErrUnsupported
	}
	return t.fail(op, kind, err)
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

// checkProtected reads back that the token keeps the key to itself, which some do
// not although they took the template, and that it has the size it should have.
func (t *Token) checkProtected(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle, spec Spec) error {
	const op = "unwrap session key"
	a, err := t.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{
		attr(pkcs11.CKA_SENSITIVE, nil), attr(pkcs11.CKA_EXTRACTABLE, nil),
	})
	if err != nil {
		return err
	}
	if !isTrue(a[0]) || isTrue(a[1]) {
		return t.fail(op, ErrUnsafe, errors.New("the token made it readable or extractable"))
	}
	// SoftHSM has no length for a key that was unwrapped; others may not have
	// the attribute.
	a, err = t.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{attr(pkcs11.CKA_VALUE_LEN, nil)})
	if err != nil {
		return nil // there is nothing to compare
	}
	if size := attr(pkcs11.CKA_VALUE_LEN, spec.Size).Value; !bytes.Equal(a[0].Value, size) && !isZero(a[0]) {
		return t.fail(op, ErrWrapped, fmt.Errorf("it does not have %d bytes", spec.Size))
	}
	return nil
}

func isZero(a *pkcs11.Attribute) bool { return len(bytes.Trim(a.Value, "\x00")) == 0 }

func isTrue(a *pkcs11.Attribute) bool { return len(a.Value) == 1 && a.Value[0] != 0 }

// readValue reads CKA_VALUE.
func (t *Token) readValue(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) ([]byte, error) {
	attributes, err := t.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{attr(pkcs11.CKA_VALUE, nil)})
	if err != nil {
		return nil, err
	}
	return attributes[0].Value, nil
}
