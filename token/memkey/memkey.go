// Package memkey keeps session keys in the memory of this process, for tokens that can hold none and
// for pairs that are in memory themselves, and has the operations of CMS that use their values.
//
// While a key is used, the state of a cipher or hash is in ordinary memory, and is overwritten
// before the function returns; TestNothingIsLeftOfAKeyInMemory of package token searches for it.
package memkey

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"sync"

	"github.com/awnumar/memcall"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// secret is a value in pages of its own: locked and kept out of core dumps if the system allows
// it, and overwritten when it is closed.
type secret struct {
	mu    sync.RWMutex // read-locked while the value is in use
	pages []byte       // nil when closed
}

// newSecret moves a value into a secret, and overwrites the original.
func newSecret(value []byte) (*secret, error) {
	defer clear(value)
	pages, err := memcall.Alloc(len(value))
	if err != nil {
		return nil, err
	}
	_ = memcall.Lock(pages) // fails if a limit (RLIMIT_MEMLOCK) is reached: then it is not locked
	copy(pages, value)
	return &secret{pages: pages}, nil
}

// A Key is a session key in memory, in use or in transit: a [keyspec.SessionKey] and a
// [keyspec.Transit].
type Key struct {
	*secret
	spec keyspec.Key
	fail Fail
}

// A Fail returns the error of an operation that failed, of one of the kinds that [errors.Is] finds.
// It returns nil if kind and err are nil.
type Fail func(op string, kind, err error) error

// New moves a value into a key, and overwrites the original. The error is a [keyspec.ErrWrapped] if
// it has another size than the key.
func New(spec keyspec.Key, value []byte, fail Fail) (*Key, error) {
	if len(value) != spec.Size {
		defer clear(value)
		return nil, fail("unwrap session key", keyspec.ErrWrapped, fmt.Errorf("it has %d bytes, not %d", len(value), spec.Size))
	}
	kept, err := newSecret(value)
	if err != nil {
		return nil, fail("keep the session key in memory", nil, err)
	}
	return &Key{kept, spec, fail}, nil
}

func (k *Key) Key() keyspec.Key { return k.spec }

func (k *Key) Residence() keyspec.Residence { return keyspec.InMemory }

// Do calls f with the value.
func (k *Key) Do(ctx context.Context, op string, f func(value []byte) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.pages == nil {
		return k.fail("use the session key", keyspec.ErrClosed, nil)
	}
	return k.fail(op, nil, WithoutTrace(func() error { return f(k.pages) }))
}

// Close overwrites the key.
func (k *Key) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pages == nil {
		return nil
	}
	pages := k.pages
	k.pages = nil
	return k.fail("destroy the session key", nil, memcall.Free(pages)) // which overwrites it
}

func (k *Key) WrapData(ctx context.Context, data []byte) (wrapped []byte, err error) {
	const op = "wrap data key"
	if k.spec.Purpose != keyspec.WrapKeys {
		return nil, k.fail(op, errors.ErrUnsupported, ErrPurpose)
	}
	if err := CheckData(len(data)); err != nil {
		return nil, k.fail(op, errors.ErrUnsupported, err)
	}
	err = k.Do(ctx, op, func(value []byte) (err error) {
		wrapped, err = KeyWrap(value, data)
		return err
	})
	return wrapped, err
}

func (k *Key) UnwrapData(ctx context.Context, wrapped []byte) (data []byte, err error) {
	const op = "unwrap data key"
	if k.spec.Purpose != keyspec.WrapKeys {
		return nil, k.fail(op, errors.ErrUnsupported, ErrPurpose)
	}
	if err := CheckData(len(wrapped) - 8); err != nil {
		return nil, k.fail(op, keyspec.ErrWrapped, err)
	}
	err = k.Do(ctx, op, func(value []byte) (err error) {
		if data, err = KeyUnwrap(value, wrapped); err != nil {
			return k.fail(op, keyspec.ErrWrapped, err)
		}
		return nil
	})
	return data, err
}

var Hashes = map[keyspec.Algorithm]crypto.Hash{
	keyspec.HMACSHA256: crypto.SHA256, keyspec.HMACSHA384: crypto.SHA384, keyspec.HMACSHA512: crypto.SHA512,
}

func (k *Key) MAC(ctx context.Context, message []byte) (mac []byte, err error) {
	const op = "compute HMAC"
	if k.spec.Purpose != keyspec.Authenticate {
		return nil, k.fail(op, errors.ErrUnsupported, ErrPurpose)
	}
	err = k.Do(ctx, op, func(value []byte) error {
		mac = authenticate(Hashes[k.spec.Algorithm], value, message)
		return nil
	})
	return mac, err
}

// authenticate returns the HMAC of a message (RFC 2104 §2) under a key that is no longer than a
// block. It exists because crypto/hmac keeps the padded key.
func authenticate(hash crypto.Hash, key, message []byte) []byte {
	keyed := func(padding byte, message []byte) []byte {
		h := hash.New()
		defer wipe(h)
		block := make([]byte, h.BlockSize())
		defer clear(block)
		copy(block, key)
		for i := range block {
			block[i] ^= padding
		}
		h.Write(block)
		h.Write(message)
		return h.Sum(nil)
	}
	inner := keyed(0x36, message)
	defer clear(inner)
	return keyed(0x5c, inner)
}

func (k *Key) Wrap(ctx context.Context, to crypto.PublicKey, hash crypto.Hash) (wrapped keyspec.Wrapped, err error) {
	const op = "wrap session key"
	if err := checkRecipient(to, hash); err != nil {
		return nil, k.fail(op, errors.ErrUnsupported, err)
	}
	if !k.spec.WrapsTo(to) {
		return nil, k.fail(op, errors.ErrUnsupported, ShortForEC(k.spec))
	}
	err = k.Do(ctx, op, func(value []byte) error {
		return MatchPublic(to,
			func(to *rsa.PublicKey) (err error) {
				wrapped, err = WrapRSA(to, hash, value)
				return err
			},
			func(to *ecdsa.PublicKey) (err error) {
				wrapped, err = WrapEC(to, value)
				return err
			})
	})
	if err != nil {
		return nil, err
	}
	return wrapped, nil
}

// ErrPurpose is the error for a session key that is used for another purpose than its own.
var ErrPurpose = errors.New("the session key has another purpose")
