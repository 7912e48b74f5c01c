package token

import (
	"context"
	"errors"

	"github.com/miekg/pkcs11"
)

// login looks at the flags, asks for the PIN and tries it once. librariesMu must
// be held; it is given back while the PIN is asked for, which may take as long as
// somebody takes to type it. The door keeps a second login to the same token
// waiting meanwhile, so that nobody is asked twice.
func (t *Token) login(ctx context.Context, cfg Config) error {
	door := t.lib.loginLock(t.slot)
	librariesMu.Unlock()
	select {
	case door <- struct{}{}:
		defer func() { <-door }()
		librariesMu.Lock()
	case <-ctx.Done():
		librariesMu.Lock()
		return ctx.Err()
	}
	if t.lib.logins[t.slot] > 0 {
		t.countLogin()
		return nil
	}
	letLogIn := lockLogin(t.cfg.Cache, t.info.Module, false)
	now, err := readInfo(t.ctx, t.info.Module, t.slot)
	letLogIn()
	if err != nil {
		return t.fail("read the PIN's state", nil, err)
	}
	if e := now.PIN.refuses(cfg.FinalTry); e != nil {
		e.Op, e.Token = "log in", t.info.Label
		return e
	}
	var pin []byte
	if t.info.PINPad { // there the person types it, and the module waits for that
		if cfg.PINPad != nil {
			cfg.PINPad(now)
		}
	} else {
		pin, err = t.askPIN(ctx, cfg, now)
		defer clear(pin)
		if err != nil {
			return err
		}
		if e := checkPIN(pin, now, cfg.AnyPINLength); e != nil {
			return e
		}
	}
	err = t.sendPIN(pin)
	if err == nil || is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
		t.countLogin()
		return nil
	}
	kind := loginKind(err)
	if len(pin) == 0 && is(err, pkcs11.CKR_ARGUMENTS_BAD) { // what SoftHSM says to an empty PIN
		kind = ErrPIN
	}
	e := &Error{Op: "log in", Token: t.info.Label, Kind: kind, Err: err}
	if kind == ErrPIN || kind == ErrPINLocked {
		tried := &PINTried{}
		if now, err := readInfo(t.ctx, t.info.Module, t.slot); err == nil {
			tried.PIN = &now.PIN
		}
		e.Facts = tried
	}
	return e
}

// sendPIN logs in with the PIN, or has it typed on the token's reader.
func (t *Token) sendPIN(pin []byte) error {
	if !t.info.PINPad { // where a person types, who may take long
		defer lockLogin(t.cfg.Cache, t.info.Module, true)()
	}
	return withoutTrace(func() error { return t.ctx.Login(t.anchor, pkcs11.CKU_USER, pinString(pin)) })
}

// contextLogin gives the PIN for one operation of a key that wants it each time. It
// is asked for anew: no PIN is kept.
func (t *Token) contextLogin(s pkcs11.SessionHandle) error {
	if t.cfg.PIN == nil {
		return t.fail("log in for one use of the key", ErrPIN, errors.New("there is nobody to ask for the PIN"))
	}
	var pin []byte
	if t.info.PINPad {
		if t.cfg.PINPad != nil {
			t.cfg.PINPad(t.info)
		}
	} else {
		var err error
		pin, err = t.cfg.PIN(context.Background(), t.info)
		defer clear(pin)
		if err != nil {
			return err
		}
		if e := checkPIN(pin, t.info, t.cfg.AnyPINLength); e != nil {
			return e
		}
	}
	err := withoutTrace(func() error { return t.ctx.Login(s, pkcs11.CKU_CONTEXT_SPECIFIC, pinString(pin)) })
	return t.fail("log in for one use of the key", loginKind(err), err)
}

// countLogin and logout keep the login for as long as somebody uses it.
// librariesMu must be held for both.
func (t *Token) countLogin() {
	t.lib.logins[t.slot]++
	t.loggedIn = true
}

func (t *Token) logout() error {
	if !t.loggedIn {
		return nil
	}
	if t.lib.logins[t.slot]--; t.lib.logins[t.slot] > 0 {
		return nil
	}
	return t.ctx.Logout(t.anchor)
}

// askPIN calls the caller's PIN function without librariesMu.
func (t *Token) askPIN(ctx context.Context, cfg Config, info Info) ([]byte, error) {
	librariesMu.Unlock()
	defer librariesMu.Lock()
	pin, err := cfg.PIN(ctx, info)
	if err == nil {
		err = ctx.Err()
	}
	return pin, err
}

// refuses says, from the flags alone, why no PIN is tried.
func (p PIN) refuses(finalTry bool) *Error {
	switch {
	case !p.Initialized:
		return &Error{Kind: ErrPIN, Err: ErrNoUserPIN}
	case p.Locked:
		return &Error{Kind: ErrPINLocked}
	case p.FinalTry && !finalTry:
		return &Error{Kind: ErrFinalTry}
	}
	return nil
}

// loginKind tells a PIN that was refused from a token that fails.
func loginKind(err error) error {
	switch {
	case is(err, pkcs11.CKR_PIN_LOCKED):
		return ErrPINLocked
	case is(err, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_EXPIRED,
		pkcs11.CKR_USER_PIN_NOT_INITIALIZED):
		return ErrPIN
	}
	return nil
}

// authenticate gives the PIN once more, for the one operation that was begun in this
// session, where the key wants it (CKA_ALWAYS_AUTHENTICATE, PKCS #11 §5.6.6).
func (p *KeyPair) authenticate(s pkcs11.SessionHandle) error {
	if !p.private.alwaysAuthenticate {
		return nil
	}
	return p.token.contextLogin(s)
}

// loginLock gives a slot's door. librariesMu must be held.
func (l *library) loginLock(slot uint) chan struct{} {
	if l.loginLocks[slot] == nil {
		l.loginLocks[slot] = make(chan struct{}, 1)
	}
	return l.loginLocks[slot]
}
