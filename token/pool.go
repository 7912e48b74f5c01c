package token

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/miekg/pkcs11"
)

// MaxSessions is how many sessions a Token opens at most for its own calls; crypto11 opens as many
// again. Sessions are opened when they are needed.
const MaxSessions = 16

// A pool lends sessions, each to one call at a time: a PKCS #11 session runs one operation at once
// (§5.1.2).
type pool struct {
	token *Token
	slots chan struct{} // one for each session that may be lent at the same time

	mu       sync.Mutex
	idle     []pkcs11.SessionHandle
	unusable []pkcs11.SessionHandle // no longer usable, but session objects may have been made in them
	gone     []pkcs11.SessionHandle // lost, and their session objects with them; see buryLost
	closed   bool
	calls    sync.WaitGroup // under way, see enter
}

func newPool(t *Token, size int) *pool {
	return &pool{token: t, slots: make(chan struct{}, size)}
}

// with calls f with a session of its own, and waits for one until ctx is done. A call that has
// reached the token cannot be interrupted.
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
	leave, err := t.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := t.revive(ctx); err != nil {
		return err
	}
	t.alive.RLock()
	defer t.alive.RUnlock()
	s, err := p.get()
	if err != nil {
		return t.noteLoss(err)
	}
	err = f(s)
	p.put(s, err)
	return t.noteLoss(err)
}

// Sessions returns how many sessions are open for the Token's own calls.
func (t *Token) Sessions() int {
	p := t.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0
	}
	return 1 + len(p.idle) + len(p.unusable) + len(p.slots) // the anchor, and those that are lent
}

// enter begins a call that Close must wait for, and leave ends it. Every call that reaches the
// module is between the two, also those through crypto11: after Close the module may be unloaded,
// and calling it would crash.
func (t *Token) enter() (leave func(), err error) {
	p := t.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, &Error{Op: "use the token", Token: t.info.Label, Kind: ErrClosed}
	}
	p.calls.Add(1)
	return p.calls.Done, nil
}

func (p *pool) get() (pkcs11.SessionHandle, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		s := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return s, nil
	}
	p.mu.Unlock()
	s, err := p.token.openSession()
	return s, p.token.fail("open a session", nil, err)
}

// put keeps the session, even after an error: closing it would destroy the session objects that
// were made in it. Only an unusable session is closed, if there are none.
func (p *pool) put(s pkcs11.SessionHandle, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case sessionGone(err) && p.token.lost(err): // else nobody buries it
		p.gone = append(p.gone, s)
	case !errors.As(err, new(*unusableSession)) && !is(err, pkcs11.CKR_OPERATION_ACTIVE):
		p.idle = append(p.idle, s)
	case p.token.objects.Load():
		p.unusable = append(p.unusable, s)
	default:
		_ = p.token.ctx.CloseSession(s)
	}
}

// buryLost closes the sessions that were lost, in case that they still exist, and all others: what was made in any
// session counts as lost from now on, as nobody knows in which, and the token may use the handles again for other
// objects. A key in a session that is well ends with it. No call may be under way.
func (p *pool) buryLost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.gone) == 0 {
		return
	}
	p.closeAll()
	p.token.generation.Add(1)
}

// closeAll closes the sessions that are not lent. A token that fails at that may do it the second time.
func (p *pool) closeAll() {
	for _, s := range slices.Concat(p.idle, p.unusable, p.gone) {
		if err := p.token.ctx.CloseSession(s); err != nil && !is(err, pkcs11.CKR_SESSION_HANDLE_INVALID) {
			_ = p.token.ctx.CloseSession(s)
		}
	}
	p.idle, p.unusable, p.gone = nil, nil, nil
}

// unusableSession marks the error of an operation that some modules leave active in its session
// when it fails: the session then refuses every other operation.
type unusableSession struct{ error }

func (b *unusableSession) Unwrap() error { return b.error }

// unusable marks err, which may be nil.
func unusable(err error) error {
	if err == nil {
		return nil
	}
	return &unusableSession{err}
}

// forget drops sessions that no longer exist.
func (p *pool) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle, p.unusable, p.gone = nil, nil, nil
}

// close refuses new calls, waits for those under way and closes all sessions.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.calls.Wait()
	p.closeAll()
}

// atOnce returns how many calls the token gets at the same time. A token that cannot hold session
// keys is a card or a TPM, which does one thing at a time anyway, and modules for such tokens have
// been seen to crash with more than one thread (openCryptoki 3.8.1's software token, in
// C_Decrypt).
func (t *Token) atOnce(sessions uint) int {
	if most := poolSize(sessions); t.cfg.Sessions > 0 {
		return min(t.cfg.Sessions, most)
	}
	if !t.info.Mechanisms.GenerateAES || !t.info.Mechanisms.WrapAES {
		return 1
	}
	return poolSize(sessions)
}

// leastSessions is how many sessions are needed: the anchor and one for calls, and the same for
// crypto11.
const leastSessions = 4

// poolSize returns half of what the token allows, because crypto11 has a pool as well. It is 0 if
// the token allows too few.
func poolSize(most uint) int {
	switch {
	case most == pkcs11.CK_EFFECTIVELY_INFINITE, most == pkcs11.CK_UNAVAILABLE_INFORMATION, most > 2*MaxSessions+2:
		return MaxSessions
	case most < leastSessions:
		return 0
	default:
		return int(most-2) / 2
	}
}

func (t *Token) openSession() (pkcs11.SessionHandle, error) {
	return t.ctx.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
}
