// Package softpair has key exchange pairs whose private key is in the memory of this process: for
// tests of what does not depend on a token, and for keys that are assembled in memory for a moment.
//
// A [Pair] wraps, unwraps and signs as one on a token does, so that each opens what is wrapped to
// the other. It keeps the private key no safer than the standard library does.
package softpair

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// A Pair is a key exchange pair in memory. It may be used by several goroutines at once.
type Pair struct {
	private crypto.Signer
	kind    privateKey

	mu          sync.Mutex
	certificate *x509.Certificate
	records     []keyspec.Record
	made        uint // records so far
}

// A privateKey opens what is wrapped to its kind of key.
type privateKey interface {
	scheme() keyspec.Scheme
	usage() x509.KeyUsage
	// open returns the value of a session key, which the caller must overwrite.
	open(keyspec.Key, keyspec.Wrapped) ([]byte, error)
}

// New returns the pair of a private key: an [*rsa.PrivateKey] of [keyspec.MinRSABits] to
// [keyspec.MaxRSABits], or an [*ecdsa.PrivateKey] on P-256, P-384 or P-521. All other keys are an
// [errors.ErrUnsupported].
func New(private crypto.Signer) (*Pair, error) {
	refuse := func(err error) (*Pair, error) {
		return nil, fail("make a pair in memory", errors.ErrUnsupported, err)
	}
	switch key := private.(type) {
	case *rsa.PrivateKey:
		if err := memkey.CheckRSA(&key.PublicKey); err != nil {
			return refuse(err)
		}
		if err := key.Validate(); err != nil {
			return refuse(err)
		}
		return &Pair{private: key, kind: rsaKey{key}}, nil
	case *ecdsa.PrivateKey:
		if _, err := keyspec.SubjectKeyID(&key.PublicKey); err != nil {
			return refuse(err)
		}
		own, err := key.ECDH()
		if err != nil {
			return refuse(err)
		}
		return &Pair{private: key, kind: ecKey{own}}, nil
	}
	return refuse(fmt.Errorf("a key of type %T", private))
}

// fail returns the error of an operation.
func fail(op string, kind, err error) error {
	switch {
	case kind == nil && err == nil:
		return nil
	case kind == nil:
		return fmt.Errorf("pair in memory: %s: %w", op, err)
	case err == nil:
		return fmt.Errorf("pair in memory: %s: %w", op, kind)
	}
	return fmt.Errorf("pair in memory: %s: %w: %w", op, kind, err)
}

// Public returns the public key.
func (p *Pair) Public() crypto.PublicKey { return p.private.Public() }

// Signer returns the private key and its scheme: the pair signs itself.
func (p *Pair) Signer() (crypto.Signer, keyspec.Scheme) { return p.private, p.kind.scheme() }

// Random returns [rand.Reader].
func (p *Pair) Random() (io.Reader, error) { return rand.Reader, nil }

// Residence returns [keyspec.InMemory].
func (p *Pair) Residence(context.Context) (keyspec.Residence, error) { return keyspec.InMemory, nil }

// Check returns nil: memory does not go away.
func (p *Pair) Check(context.Context) error { return nil }

// CheckOpens returns nil: every pair opens what is wrapped to it.
func (p *Pair) CheckOpens(context.Context) error { return nil }

// CheckComputed returns nil: the pair takes session keys that were computed elsewhere.
func (p *Pair) CheckComputed() error { return nil }

// Generate makes a session key.
func (p *Pair) Generate(_ context.Context, spec keyspec.Key) (keyspec.Transit, error) {
	const op = "generate session key"
	if err := spec.Check(); err != nil || spec.Algorithm.IsLegacy() {
		return nil, fail(op, errors.ErrUnsupported, err)
	}
	value := make([]byte, spec.Size)
	_, _ = rand.Read(value) // which never fails
	key, err := memkey.New(spec, value, fail)
	if err != nil {
		return nil, err
	}
	return key, nil
}

// open unwraps a session key, and compares its confirmation.
func (p *Pair) open(ctx context.Context, wrapped keyspec.WrappedKey) (*memkey.Key, error) {
	const op = "unwrap session key"
	if err := wrapped.Key.Check(); err != nil {
		return nil, fail(op, errors.ErrUnsupported, err)
	}
	if wrapped.Wrapped == nil {
		return nil, fail(op, keyspec.ErrWrapped, errors.New("there is no wrapped key"))
	}
	var key *memkey.Key
	err := memkey.WithoutTrace(func() error {
		value, err := p.kind.open(wrapped.Key, wrapped.Wrapped)
		if err != nil {
			return fail(op, keyspec.ErrWrapped, err)
		}
		key, err = memkey.New(wrapped.Key, value, fail)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := key.MustConfirm(ctx, wrapped.Confirmation); err != nil {
		return nil, errors.Join(err, key.Close())
	}
	return key, nil
}

// Unwrap unwraps a session key for its purpose. The error is [keyspec.ErrWrapped] if the key is not
// wrapped to this pair, damaged, or not the one that its confirmation belongs to, and
// [errors.ErrUnsupported] for a key of a legacy cipher.
func (p *Pair) Unwrap(ctx context.Context, wrapped keyspec.WrappedKey) (keyspec.SessionKey, error) {
	if wrapped.Key.Algorithm.IsLegacy() {
		return nil, fail("unwrap session key", errors.ErrUnsupported, errors.New("a key of a legacy cipher cannot be used here; it can be revealed"))
	}
	key, err := p.open(ctx, wrapped)
	if err != nil {
		return nil, err
	}
	return key, nil
}

// UnwrapTransit unwraps a session key so that it can be wrapped to others.
func (p *Pair) UnwrapTransit(ctx context.Context, wrapped keyspec.WrappedKey) (keyspec.Transit, error) {
	key, err := p.open(ctx, wrapped)
	if err != nil {
		return nil, err
	}
	return key, nil
}

// Reveal unwraps a session key and returns its value, which the caller must overwrite.
func (p *Pair) Reveal(ctx context.Context, wrapped keyspec.WrappedKey) ([]byte, error) {
	key, err := p.open(ctx, wrapped)
	if err != nil {
		return nil, err
	}
	defer key.Close()
	value := make([]byte, wrapped.Key.Size)
	err = key.Do(ctx, "reveal session key", func(v []byte) error {
		copy(value, v)
		return nil
	})
	return value, err
}

// Use returns a session key with a value that was computed elsewhere.
func (p *Pair) Use(_ context.Context, spec keyspec.Key, value []byte) (keyspec.SessionKey, error) {
	if err := spec.Check(); err != nil || spec.Algorithm.IsLegacy() || len(value) != spec.Size {
		return nil, fail("use the session key", errors.ErrUnsupported, err)
	}
	key, err := memkey.New(spec, append([]byte(nil), value...), fail)
	if err != nil {
		return nil, err
	}
	return key, nil
}

// ReadBack unwraps a session key that was wrapped to the pair, and compares it with the original.
func (p *Pair) ReadBack(ctx context.Context, original keyspec.Transit, wrapped keyspec.WrappedKey) error {
	const op = "read back the wrapped session key"
	first, ok := original.(*memkey.Key)
	if !ok {
		return fail(op, errors.ErrUnsupported, fmt.Errorf("a key of type %T", original))
	}
	value, err := p.Reveal(ctx, wrapped)
	if err != nil {
		return err
	}
	defer clear(value)
	return first.Do(ctx, op, func(want []byte) error {
		if subtle.ConstantTimeCompare(want, value) != 1 {
			return fail(op, keyspec.ErrWrapped, memkey.ErrAnother)
		}
		return nil
	})
}

// Rehearse does with a wrapped session key what a recovery does, and keeps nothing.
func (p *Pair) Rehearse(ctx context.Context, wrapped keyspec.WrappedKey) error {
	key, err := p.UnwrapTransit(ctx, wrapped)
	if err != nil {
		return err
	}
	defer key.Close()
	again := wrapped
	if again.Wrapped, err = key.Wrap(ctx, p.Public(), crypto.SHA256); err != nil {
		return err
	}
	return p.ReadBack(ctx, key, again)
}
