package token

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/pkcs11"
)

// Tokens go away: a card is pulled, a daemon is restarted, a network HSM drops its connections. A
// Token whose sessions are lost gets new ones with the next call, once the token is back.
//
// An operation under way fails with [ErrLost], or is repeated if that is safe. What a pair does
// (signing, unwrapping) changes nothing, so it is repeated; session keys are gone, so what they do is
// not.

// usualPatience is how long a call waits for the token to come back, see [Config.Patience].
const usualPatience = 20 * time.Second

// lost reports whether an error means that sessions, login or module are gone.
func (t *Token) lost(err error) bool {
	switch {
	case is(err, pkcs11.CKR_USER_NOT_LOGGED_IN):
		return t.loggedIn // else there never was a login
	case is(err, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT,
		pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_SLOT_ID_INVALID):
		return true
	case is(err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_HOST_MEMORY):
		return !t.answers() // modules return these for many reasons
	}
	return false
}

// Check returns an [ErrLost] if the token does not answer. If it went away and is back, Check logs in
// again like every other call.
func (t *Token) Check(ctx context.Context) error {
	return t.with(ctx, func(pkcs11.SessionHandle) error {
		if t.answers() {
			return nil
		}
		t.broken.Store(true)
		return &Error{Op: "use the token", Token: t.info.Label, Kind: ErrLost, Err: errNoAnswer}
	})
}

var errNoAnswer = errors.New("it does not answer")

// answers reports whether the token returns a random byte, or if it has none is in its slot.
func (t *Token) answers() bool {
	s, err := t.openSession()
	if err != nil {
		return false
	}
	defer func() { _ = t.ctx.CloseSession(s) }()
	if t.noRandom {
		// Then check that it is in its slot, which a reader notices a moment later.
		time.Sleep(removalDelay)
		slots, err := t.ctx.GetSlotList(true)
		return err == nil && slices.Contains(slots, t.slot)
	}
	_, err = t.ctx.GenerateRandom(s, 1)
	return err == nil
}

// noteLoss returns an [ErrLost] in place of an error by which the token is lost, and remembers
// that.
func (t *Token) noteLoss(err error) error {
	if err == nil || errors.Is(err, ErrLost) || !t.lost(err) {
		return err
	}
	t.lostBy.Store(&err)
	t.broken.Store(true)
	return &Error{Op: "use the token", Token: t.info.Label, Kind: ErrLost, Err: err}
}

// keyLost returns an [ErrKeyLost] that names what the token returned when sessions were lost.
func (t *Token) keyLost() error {
	if by := t.lostBy.Load(); by != nil {
		return fmt.Errorf("%w, after %s", ErrKeyLost, ReturnValue(*by))
	}
	return ErrKeyLost
}

// revive opens new sessions, and logs in again if nobody has to be asked for a PIN. It waits for
// the token until ctx is done, at most as long as [Config.Patience].
func (t *Token) revive(ctx context.Context) error {
	if !t.broken.Load() {
		return nil
	}
	t.alive.Lock() // waits for the calls under way, which fail one by one
	defer t.alive.Unlock()
	if !t.broken.Load() {
		return nil // another call was faster
	}
	if t.refused != nil {
		return &Error{Op: "get the token back", Token: t.info.Label, Kind: ErrLost, Err: t.refused}
	}
	if t.replaceSessions() {
		return nil
	}
	if t.cfg.PIN != nil && !t.cfg.Unattended {
		return &Error{Op: "log in again", Token: t.info.Label, Kind: ErrLost, Err: ErrPINNeeded}
	}
	patience := t.cfg.Patience
	if patience == 0 {
		patience = usualPatience
	}
	give := time.Now().Add(patience)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := t.reattach(ctx)
		if err == nil {
			t.broken.Store(false)
			t.answered = 0
			return nil
		}
		if errors.As(err, new(*answeredLogin)) { // once more, later
			if t.answered++; t.answered > 1 {
				t.refused = err
			}
			pause = time.Second
		}
		// A PIN that is refused is never tried again, not by a later call either.
		if errors.Is(err, ErrPIN) || errors.Is(err, ErrPINLocked) || errors.Is(err, ErrFinalTry) {
			t.refused = err
		}
		if t.refused != nil || errors.Is(err, errShared) || time.Now().After(give) {
			return &Error{Op: "get the token back", Token: t.info.Label, Kind: ErrLost, Err: err}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// replaceSessions reports whether the token is still there: then only some sessions were lost, and they are
// replaced. t.alive must be locked.
func (t *Token) replaceSessions() bool {
	if !t.stillThere() {
		return false
	}
	t.pool.buryLost()
	t.broken.Store(false)
	return true
}

// bury does at once what the next call would do with lost sessions: a key that could not be destroyed is to go with
// its session. It does not wait for a token that is gone, which has no keys left.
func (t *Token) bury() {
	leave, err := t.enter()
	if err != nil {
		return
	}
	defer leave()
	t.alive.Lock()
	defer t.alive.Unlock()
	if t.broken.Load() {
		t.replaceSessions()
	}
}

// stillThere reports whether the login and the token still exist.
func (t *Token) stillThere() bool {
	if t.detached {
		return false
	}
	if t.loggedIn {
		return t.inUserSession() && t.answers()
	}
	_, err := t.ctx.GetSessionInfo(t.anchor)
	return err == nil && t.answers()
}

// removalDelay is how long a reader takes to notice that its card was pulled: pcscd asks it every
// 400 ms.
const removalDelay = time.Second

// errShared is for a module that other Tokens of this process use: it cannot be initialised again
// under them.
var errShared = errors.New("the module is in use by other tokens of this program")

// reattach opens the token anew. t.alive must be locked.
func (t *Token) reattach(ctx context.Context) error {
	librariesMu.Lock()
	defer librariesMu.Unlock()
	path := t.info.Module
	if !t.detached {
		if lib := libraries[path]; lib != nil && lib.users > 1 {
			return t.fail("initialise the module again", nil, errShared)
		}
		_ = t.ctx.CloseSession(t.anchor)
		_ = detach(path, t.c11) // its errors do not matter
		t.detached = true
	}
	lib, c11, info, err := attach(path, t.cfg, Selector{Label: t.info.Label, Serial: t.info.Serial, Model: t.info.Model})
	if err != nil {
		return err
	}
	t.slot, t.lib, t.ctx, t.c11, t.detached, t.loggedIn = info.Slot, lib, lib.ctx, c11, false, false
	giveUp := func(err error) error {
		_ = detach(path, c11)
		t.detached = true
		return err
	}
	if t.anchor, err = t.openSession(); err != nil {
		return giveUp(t.fail("open a session", nil, err))
	}
	if t.cfg.PIN != nil {
		if err := t.login(ctx, t.cfg); err != nil {
			_ = t.ctx.CloseSession(t.anchor)
			return giveUp(err)
		}
	}
	t.pool.forget()
	t.public.forget()
	t.generation.Add(1)
	return nil
}
