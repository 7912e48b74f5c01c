package token

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/ThalesIgnite/crypto11"
	"github.com/miekg/pkcs11"
)

// maxSessions is how many sessions a Token opens at the most for its own calls,
// and crypto11 as many again. Sessions are opened when they are needed.
const maxSessions = 16

// Config says which token to open and how.
type Config struct {
	Module string   // path of the PKCS #11 library
	Token  Selector // which token; Token.ModulePath stands in for an empty Module

	// PIN gives the user PIN. It is called once, and only when the token is not
	// logged in already; what it returns is overwritten after the login. With a
	// nil PIN the token is used without a login.
	PIN func(context.Context, Info) ([]byte, error)

	// FinalTry allows a login when one more wrong PIN would lock the token.
	FinalTry bool
}

// Token is a token that is logged in. It is safe for concurrent use.
type Token struct {
	info Info
	lib  *library
	ctx  *pkcs11.Ctx
	c11  *crypto11.Context

	anchor pkcs11.SessionHandle // holds the login; carries the imported public keys
	pool   *pool
	public publicKeys

	sha1Only atomic.Bool // the token was seen to refuse OAEP with SHA-256
	closed   sync.Once
}

// Open finds the token and logs in, once: a PIN that is refused is not tried
// again, because tokens lock. Its errors are [ErrModule], [ErrNotFound],
// [ErrAmbiguous], [ErrPIN], [ErrPINLocked] and [ErrFinalTry].
//
// The login belongs to the process (PKCS #11 §5.6): while one Token is open, a
// second one for the same token is logged in already, and asks for no PIN.
func Open(ctx context.Context, cfg Config) (*Token, error) {
	path := cfg.Module
	if path == "" {
		path = cfg.Token.ModulePath
	}
	librariesMu.Lock()
	defer librariesMu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	lib, c11, info, err := attach(path, cfg.Token, maxSessions)
	if err != nil {
		return nil, err
	}
	t := &Token{info: info, lib: lib, ctx: lib.ctx, c11: c11}
	t.info.Can = readCan(t.ctx, info.Slot)
	if t.anchor, err = t.openSession(); err != nil {
		detach(path, c11)
		return nil, t.fail("open a session", nil, err)
	}
	if cfg.PIN != nil {
		if err := t.login(ctx, cfg); err != nil {
			_ = t.ctx.CloseSession(t.anchor)
			detach(path, c11)
			return nil, err
		}
	}
	t.pool = newPool(t, poolSize(info.maxSessions))
	return t, nil
}

// poolSize leaves room for crypto11's sessions beside ours on tokens that count.
func poolSize(most uint) int {
	if most == pkcs11.CK_EFFECTIVELY_INFINITE || most == pkcs11.CK_UNAVAILABLE_INFORMATION || most > 2*maxSessions+2 {
		return maxSessions
	}
	return int(max(most, 4)-2) / 2
}

func (t *Token) openSession() (pkcs11.SessionHandle, error) {
	return t.ctx.OpenSession(t.info.Slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
}

// login looks at the flags, asks for the PIN and tries it once.
func (t *Token) login(ctx context.Context, cfg Config) error {
	refuse := func(kind, err error, hint string) error {
		return &Error{Op: "log in", Token: t.info.Label, Kind: kind, Err: err, hint: hint}
	}
	if t.lib.logins[t.info.Slot] > 0 {
		t.lib.logins[t.info.Slot]++
		return nil
	}
	switch pin := t.info.PIN; {
	case !pin.Initialized:
		return refuse(ErrPIN, errors.New("no user PIN has been set"), "let the security officer set one (pkcs11-tool --init-pin)")
	case pin.Locked:
		return refuse(ErrPINLocked, nil, "let the security officer set a new PIN (pkcs11-tool --init-pin)")
	case pin.FinalTry && !cfg.FinalTry:
		return refuse(ErrFinalTry, nil, "a wrong PIN now locks the token; when you are sure of it, add --final-try")
	}
	pin, err := cfg.PIN(ctx, t.info)
	if err != nil {
		return err
	}
	defer clear(pin)
	if err := ctx.Err(); err != nil {
		return err
	}
	err = t.ctx.Login(t.anchor, pkcs11.CKU_USER, text(pin))
	switch {
	case err == nil, is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN):
		t.lib.logins[t.info.Slot]++
		return nil
	case is(err, pkcs11.CKR_PIN_LOCKED):
		return refuse(ErrPINLocked, err, "let the security officer set a new PIN (pkcs11-tool --init-pin)")
	case is(err, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_EXPIRED):
		return refuse(ErrPIN, err, t.triesLeft())
	default:
		return refuse(nil, err, "")
	}
}

// triesLeft tells after a wrong PIN what the token tells.
func (t *Token) triesLeft() string {
	const once = "it was tried once and is not tried again"
	info, err := readInfo(t.ctx, t.info.Module, t.info.Slot)
	switch {
	case err != nil:
		return once
	case info.PIN.Locked:
		return once + "; the token has locked the PIN"
	case info.PIN.FinalTry:
		return once + "; the token says that one try is left"
	case info.PIN.CountLow:
		return once + "; the token says that tries have been used up, not how many are left"
	default:
		return once + "; the token does not say how many tries are left"
	}
}

// Info tells what the token told without a PIN when it was opened.
func (t *Token) Info() Info { return t.info }

// Random reads from the token's random number generator (C_GenerateRandom).
func (t *Token) Random() (io.Reader, error) {
	r, err := t.c11.NewRandomReader()
	if err != nil {
		return nil, t.fail("get random bytes", nil, err)
	}
	return r, nil
}

// Close ends every session, and with them every session object, logs out when no
// other Token of this process uses the token, and unloads the module after its
// last Token. It waits for calls that are under way. Closing twice is no error.
func (t *Token) Close() error {
	var err error
	t.closed.Do(func() {
		t.pool.close()
		librariesMu.Lock()
		defer librariesMu.Unlock()
		var logout error
		if n := t.lib.logins[t.info.Slot]; n > 0 {
			if t.lib.logins[t.info.Slot] = n - 1; n == 1 {
				logout = t.ctx.Logout(t.anchor)
			}
		}
		session := t.ctx.CloseSession(t.anchor)
		if err = errors.Join(logout, session, detach(t.info.Module, t.c11)); err != nil {
			err = t.fail("close", nil, err)
		}
	})
	return err
}

// String is the token's name for messages.
func (t *Token) String() string { return fmt.Sprintf("%s (serial %s)", t.info.Label, t.info.Serial) }
