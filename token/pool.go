package token

import (
	"context"
	"sync"

	"github.com/miekg/pkcs11"
)

// A pool hands out sessions, one to a call at a time: a PKCS #11 session runs
// one operation at once (§5.1.2).
type pool struct {
	token *Token
	slots chan struct{} // one for each session that may be lent at once

	mu     sync.Mutex
	idle   []pkcs11.SessionHandle
	closed bool
	lent   sync.WaitGroup
}

func newPool(t *Token, size int) *pool {
	return &pool{token: t, slots: make(chan struct{}, size)}
}

// with runs f on a session of its own, waiting for one as long as ctx allows. A
// call that has reached the token is not interrupted: PKCS #11 cannot.
func (t *Token) with(ctx context.Context, f func(pkcs11.SessionHandle) error) error {
	p := t.pool
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s, err := p.get()
	if err != nil {
		return err
	}
	defer p.lent.Done()
	err = f(s)
	p.put(s, err)
	return err
}

func (p *pool) get() (pkcs11.SessionHandle, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, &Error{Op: "get a session", Token: p.token.info.Label, Kind: ErrClosed}
	}
	p.lent.Add(1)
	if n := len(p.idle); n > 0 {
		s := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return s, nil
	}
	s, err := p.token.openSession()
	if err != nil {
		p.lent.Done()
		return 0, p.token.fail("open a session", nil, err)
	}
	return s, nil
}

// put keeps the session, even after an error: closing it would destroy the
// session objects that were made in it. Only one that is of no more use goes.
func (p *pool) put(s pkcs11.SessionHandle, err error) {
	if gone(err) {
		_ = p.token.ctx.CloseSession(s)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, s)
}

// close lets no new call in, waits for those under way and closes all sessions.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.lent.Wait()
	for _, s := range p.idle {
		_ = p.token.ctx.CloseSession(s)
	}
	p.idle = nil
}
