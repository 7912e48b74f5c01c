package token

import (
	"context"
	"errors"
	"sync"

	"github.com/miekg/pkcs11"
)

// sessionObject is a session object that is destroyed once.
type sessionObject struct {
	token      *Token
	handle     pkcs11.ObjectHandle
	generation uint64 // of the Token, in which the object was made

	// Read-locked while the handle is in use: a token may use the handle of a destroyed object
	// again.
	mu     sync.RWMutex
	closed bool
}

// use calls f with a session and the object's handle.
func (o *sessionObject) use(ctx context.Context, f func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error) error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.closed {
		return o.token.fail("use the session key", ErrClosed, nil)
	}
	return o.token.with(ctx, func(s pkcs11.SessionHandle) error {
		if o.generation != o.token.generation.Load() {
			return o.token.fail("use the session key", ErrLost, o.token.keyLost())
		}
		return f(s, o.handle)
	})
}

func (o *sessionObject) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	// Not the caller's context: a key is destroyed even if that is done.
	err := o.token.with(context.Background(), func(s pkcs11.SessionHandle) error {
		if o.generation != o.token.generation.Load() {
			return nil // gone with its session
		}
		return o.token.destroyQuietly(s, o.handle)
	})
	if errors.Is(err, ErrLost) {
		o.token.bury()
		return nil
	}
	if errors.Is(err, ErrClosed) { // it is gone already
		return nil
	}
	return o.token.fail("destroy the session key", nil, err)
}
