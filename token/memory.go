package token

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

// Session keys that live in the memory of this process, because the token can hold none. While a
// key is used, the state of a cipher or hash is in ordinary memory, and is overwritten before the
// function returns; TestNothingIsLeftOfAKeyInMemory searches for it.

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

// memoryKey is a session key in memory, in use or in transit.
type memoryKey struct {
	*secret
	token *Token // for messages
	spec  keyspec.Key
}

func (t *Token) newMemoryKey(spec keyspec.Key, value []byte) (*memoryKey, error) {
	if len(value) != spec.Size {
		defer clear(value)
		return nil, t.fail("unwrap session key", ErrWrapped, fmt.Errorf("it has %d bytes, not %d", len(value), spec.Size))
	}
	kept, err := newSecret(value)
	if err != nil {
		return nil, t.fail("keep the session key in memory", nil, err)
	}
	return &memoryKey{kept, t, spec}, nil
}

func (k *memoryKey) Key() keyspec.Key { return k.spec }

func (k *memoryKey) Residence() keyspec.Residence { return keyspec.InMemory }

// use calls f with the value.
func (k *memoryKey) use(ctx context.Context, op string, f func(value []byte) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.pages == nil {
		return k.token.fail("use the session key", ErrClosed, nil)
	}
	return k.token.fail(op, nil, withoutTrace(func() error { return f(k.pages) }))
}

// Close overwrites the key.
func (k *memoryKey) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pages == nil {
		return nil
	}
	pages := k.pages
	k.pages = nil
	return k.token.fail("destroy the session key", nil, memcall.Free(pages)) // which overwrites it
}

func (k *memoryKey) WrapData(ctx context.Context, data []byte) (wrapped []byte, err error) {
	const op = "wrap data key"
	if k.spec.Purpose != keyspec.WrapKeys {
		return nil, k.token.fail(op, errors.ErrUnsupported, errUse)
	}
	if err := checkData(len(data)); err != nil {
		return nil, k.token.fail(op, errors.ErrUnsupported, err)
	}
	err = k.use(ctx, op, func(value []byte) (err error) {
		wrapped, err = keyWrap(value, data)
		return err
	})
	return wrapped, err
}

func (k *memoryKey) UnwrapData(ctx context.Context, wrapped []byte) (data []byte, err error) {
	const op = "unwrap data key"
	if k.spec.Purpose != keyspec.WrapKeys {
		return nil, k.token.fail(op, errors.ErrUnsupported, errUse)
	}
	if err := checkData(len(wrapped) - 8); err != nil {
		return nil, k.token.fail(op, ErrWrapped, err)
	}
	err = k.use(ctx, op, func(value []byte) (err error) {
		if data, err = keyUnwrap(value, wrapped); err != nil {
			return k.token.fail(op, ErrWrapped, err)
		}
		return nil
	})
	return data, err
}

var hmacHashes = map[keyspec.Algorithm]crypto.Hash{
	keyspec.HMACSHA256: crypto.SHA256, keyspec.HMACSHA384: crypto.SHA384, keyspec.HMACSHA512: crypto.SHA512,
}

func (k *memoryKey) MAC(ctx context.Context, message []byte) (mac []byte, err error) {
	const op = "compute HMAC"
	if k.spec.Purpose != keyspec.Authenticate {
		return nil, k.token.fail(op, errors.ErrUnsupported, errUse)
	}
	err = k.use(ctx, op, func(value []byte) error {
		mac = authenticate(hmacHashes[k.spec.Algorithm], value, message)
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

func (k *memoryKey) Wrap(ctx context.Context, to crypto.PublicKey, hash crypto.Hash) (wrapped keyspec.Wrapped, err error) {
	const op = "wrap session key"
	if err := checkRecipient(to, hash); err != nil {
		return nil, k.token.fail(op, errors.ErrUnsupported, err)
	}
	if !k.spec.WrapsTo(to) {
		return nil, k.token.fail(op, errors.ErrUnsupported, errShortForEC(k.spec))
	}
	err = k.use(ctx, op, func(value []byte) error {
		return matchPublic(to,
			func(to *rsa.PublicKey) (err error) {
				wrapped, err = wrapRSA(to, hash, value)
				return err
			},
			func(to *ecdsa.PublicKey) (err error) {
				wrapped, err = wrapEC(to, value)
				return err
			})
	})
	if err != nil {
		return nil, err
	}
	return wrapped, nil
}
