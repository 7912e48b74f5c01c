package token

import (
	"context"
	"errors"
	"sync"

	"github.com/hsmkeys/hsmkeys/token/memkey"
	"github.com/miekg/pkcs11"
)

// login checks the flags, asks for the PIN and tries it once. librariesMu must be held; it is
// unlocked while the PIN is asked for, which takes as long as a person types. A second login to
// the same token waits for the loginLock meanwhile, so that nobody is asked twice.
func (t *Token) login(ctx context.Context, cfg Config) error {
	turn := t.lib.loginLock(t.slot)
	librariesMu.Unlock()
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
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
	if t.info.PINPad { // it is typed there, and the module waits for it
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
	if err == nil || is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) && t.inUserSession() {
		t.countLogin()
		return nil
	}
	kind := loginKind(err)
	if len(pin) == 0 && is(err, pkcs11.CKR_ARGUMENTS_BAD) { // what SoftHSM returns for an empty PIN
		kind = ErrPIN
	}
	e := &Error{Op: "log in", Token: t.info.Label, Kind: kind, Err: err}
	if kind == ErrPIN || kind == ErrPINLocked {
		tried := &PINTried{}
		if now, err := readInfo(t.ctx, t.info.Module, t.slot); err == nil {
			tried.PIN = &now.PIN
		}
		e.Facts = tried
	} else if !is(err, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_REMOVED,
		pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_SLOT_ID_INVALID) {
		e.Err = &answeredLogin{err}
	}
	return e
}

// answeredLogin marks the error of a login that has reached the token, and does not blame the PIN. The token may
// count it as a try all the same.
type answeredLogin struct{ error }

func (l *answeredLogin) Unwrap() error { return l.error }

// inUserSession reports whether the token says that the user is logged in.
func (t *Token) inUserSession() bool {
	const userFunctions = 3 // CKS_RW_USER_FUNCTIONS
	info, err := t.ctx.GetSessionInfo(t.anchor)
	return err == nil && info.State == userFunctions
}

// sendPIN logs in with the PIN, or has it typed on the token's reader.
func (t *Token) sendPIN(pin []byte) error {
	if !t.info.PINPad { // a person takes long to type
		defer lockLogin(t.cfg.Cache, t.info.Module, true)()
	}
	return memkey.WithoutTrace(func() error { return t.ctx.Login(t.anchor, pkcs11.CKU_USER, pinString(pin)) })
}

// contextLogins are the logins for one operation each. A PIN that is refused is not tried again, not by a
// later operation either.
type contextLogins struct {
	sync.Mutex
	refused error
}

// contextLogin logs in for one operation of a key that requires it each time. The PIN is asked for
// anew: none is kept.
func (t *Token) contextLogin(s pkcs11.SessionHandle) error {
	t.again.Lock()
	defer t.again.Unlock()
	if t.again.refused != nil {
		return t.again.refused
	}
	if t.cfg.PIN == nil {
		return t.fail("log in for one use of the key", ErrPIN, errors.New("no PIN can be asked for"))
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
	err := memkey.WithoutTrace(func() error { return t.ctx.Login(s, pkcs11.CKU_CONTEXT_SPECIFIC, pinString(pin)) })
	err = t.fail("log in for one use of the key", loginKind(err), err)
	if errors.Is(err, ErrPIN) || errors.Is(err, ErrPINLocked) {
		t.again.refused = err
	}
	return err
}

// countLogin and logout keep the token logged in while a Token of this process uses it.
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

// askPIN calls the caller's PIN function with librariesMu unlocked.
func (t *Token) askPIN(ctx context.Context, cfg Config, info Info) ([]byte, error) {
	librariesMu.Unlock()
	defer librariesMu.Lock()
	pin, err := cfg.PIN(ctx, info)
	if err == nil {
		err = ctx.Err()
	}
	return pin, err
}

// authenticate logs in once more for the operation that was begun in this session, if the key
// requires that (CKA_ALWAYS_AUTHENTICATE, PKCS #11 §5.6.6).
func (p *KeyPair) authenticate(s pkcs11.SessionHandle) error {
	if !p.private.alwaysAuthenticate {
		return nil
	}
	return p.token.contextLogin(s)
}

// loginLock returns the lock of a slot, held by sending to it. librariesMu must be held.
func (l *library) loginLock(slot uint) chan struct{} {
	if l.loginLocks[slot] == nil {
		l.loginLocks[slot] = make(chan struct{}, 1)
	}
	return l.loginLocks[slot]
}
