package token

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/ThalesIgnite/crypto11"
	"github.com/miekg/pkcs11"
)

// MaxSessions is how many sessions a Token opens at the most for its own calls,
// and crypto11 as many again. Sessions are opened when they are needed.
const MaxSessions = 16

// Config says which token to open and how.
type Config struct {
	Module string   // path of the PKCS #11 library
	Token  Selector // which token; Token.ModulePath stands in for an empty Module

	// PIN gives the user PIN. It is called once, and only when the token is not
	// logged in already; what it returns is overwritten after the login. With a
	// nil PIN the token is used without a login.
	PIN func(context.Context, Info) ([]byte, error)

	// RequireToken refuses session keys in this process's memory, see
	// [KeyPair.Residence], and tokens that give away what they should keep.
	RequireToken bool

	// PINPad, where it is set, is told when the token has a reader of its own on which
	// the PIN is typed (CKF_PROTECTED_AUTHENTICATION_PATH); PIN is not called then.
	PINPad func(Info)

	// Sessions is how many calls the token gets at a time, 0 for as many as it takes:
	// found out from its mechanisms and from how many sessions it allows, up to 16.
	Sessions int

	// Cache is a directory of the user's that remembers what was found out about tokens by
	// trying, and where processes that log in wait for each other. It is empty to try each
	// time, and not to wait.
	Cache string

	// TryAgain tries the token as if Cache remembered nothing of it.
	TryAgain bool

	// MakePairs says that the Token is going to be asked for pairs: crypto11 makes them,
	// and insists on initialising the module itself. Without it they are made all the
	// same, through the module's own interface.
	MakePairs bool

	// Unattended says that PIN asks no person: then a Token whose token went away and
	// came back logs in again by itself.
	Unattended bool

	// FinalTry allows a login when one more wrong PIN would lock the token.
	FinalTry bool

	// AnyPINLength allows a login with a PIN that is shorter or longer than the token
	// announces.
	AnyPINLength bool
}

// Token is a token that is logged in. It is safe for concurrent use.
type Token struct {
	info Info // as it was when the token was opened
	slot uint // may be another one after the token was away
	lib  *library
	ctx  *pkcs11.Ctx
	c11  *crypto11.Context

	anchor   pkcs11.SessionHandle // holds the login; carries the imported public keys
	loggedIn bool                 // counted in lib.logins
	pool     *pool
	public   publicKeys

	cfg Config

	objects    atomic.Bool  // session keys have been made in sessions
	noRandom   bool         // the token gives no random numbers
	alive      sync.RWMutex // read-locked by every call; locked while sessions are replaced
	broken     atomic.Bool  // sessions are lost, see revive
	refused    error        // what the token said to the PIN when it was back
	detached   bool         // and the module has been let go
	generation atomic.Uint64

	leaks    atomic.Int32 // whether the token gives away sensitive values, see checkKept
	sha1Only atomic.Bool  // the token was seen to refuse OAEP with SHA-256
	aids     aids
	lastMade atomic.Pointer[[]byte] // what checkMade has seen last
	closed   sync.Once
}

// Open finds the token and logs in, once: a PIN that is refused is not tried
// again, because tokens lock. Its errors are [ErrModule], [ErrNoToken],
// [ErrAmbiguous], [ErrPIN], [ErrPINLocked] and [ErrFinalTry].
//
// The login belongs to the process (PKCS #11 §5.6): while one Token is open, a
// second one for the same token is logged in already, and asks for no PIN. The
// one that is closed last logs out.
func Open(ctx context.Context, cfg Config) (*Token, error) {
	path := cfg.Module
	if path == "" {
		path = cfg.Token.ModulePath
	}
	path = resolve(path)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	librariesMu.Lock()
	defer librariesMu.Unlock()
	letLogIn := lockLogin(cfg.Cache, path, false)
	lib, c11, info, err := attach(path, cfg, cfg.Token)
	letLogIn()
	if err != nil {
		return nil, err
	}
	t := &Token{info: info, slot: info.Slot, lib: lib, ctx: lib.ctx, c11: c11, cfg: cfg}
	if t.info.Can, err = readCan(t.ctx, info.Slot); err != nil {
		_ = detach(path, c11)
		return nil, t.fail("list its mechanisms", nil, err)
	}
	if t.anchor, err = t.openSession(); err != nil {
		_ = detach(path, c11)
		return nil, t.fail("open a session", nil, err)
	}
	if cfg.PIN != nil {
		if err := t.login(ctx, cfg); err != nil {
			_ = t.ctx.CloseSession(t.anchor)
			_ = detach(path, c11)
			return nil, err
		}
	}
	_, err = t.ctx.GenerateRandom(t.anchor, 1)
	t.noRandom = err != nil
	t.pool = newPool(t, t.atOnce(info.maxSessions))
	return t, nil
}

// atOnce is how many calls the token gets at a time. One that is not made to hold session
// keys is a card or a TPM, which does one thing after the other anyway; and modules of
// that kind have been seen to crash under more than one thread (openCryptoki 3.8.1's
// software token, in C_Decrypt).
func (t *Token) atOnce(sessions uint) int {
	if most := poolSize(sessions); t.cfg.Sessions > 0 {
		return min(t.cfg.Sessions, most)
	}
	if !t.info.Can.GenerateAES || !t.info.Can.WrapAES {
		return 1
	}
	return poolSize(sessions)
}

// leastSessions are needed at the least: the anchor and one for calls, and the
// same for crypto11.
const leastSessions = 4

// poolSize is half of what the token allows, because crypto11 has a pool beside
// ours. It is 0 when the token allows too few.
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

// login looks at the flags, asks for the PIN and tries it once. librariesMu must
// be held; it is given back while the PIN is asked for, which may take as long as
// somebody takes to type it. The door keeps a second login to the same token
// waiting meanwhile, so that nobody is asked twice.
func (t *Token) login(ctx context.Context, cfg Config) error {
	door := t.lib.door(t.slot)
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
	return withoutTrace(func() error { return t.ctx.Login(t.anchor, pkcs11.CKU_USER, text(pin)) })
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
	err := withoutTrace(func() error { return t.ctx.Login(s, pkcs11.CKU_CONTEXT_SPECIFIC, text(pin)) })
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

// Info tells what the token told without a PIN when it was opened.
func (t *Token) Info() Info { return t.info }

// Random reads from the token's random number generator (C_GenerateRandom) and the
// system's, joined so that what comes out is as good as the better of the two; or where the
// token has none that works, as many cards, from the system's alone.
func (t *Token) Random() (io.Reader, error) {
	err := t.crypto11(func() error { return nil })
	return random{t}, err
}

type random struct{ token *Token }

func (r random) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if r.token.noRandom {
		return rand.Read(b)
	}
	// A generator that is stuck looks like any other: keys are made of this, ids and salts.
	own := make([]byte, len(b))
	defer clear(own)
	_, _ = rand.Read(own)
	var got []byte
	err := r.token.with(context.Background(), func(s pkcs11.SessionHandle) (err error) {
		got, err = r.token.ctx.GenerateRandom(s, len(b))
		return err
	})
	defer clear(got)
	if err == nil && len(got) != len(b) {
		err = fmt.Errorf("%d bytes came back for %d", len(got), len(b))
	}
	if err != nil {
		return 0, r.token.fail("get random bytes", nil, err)
	}
	return subtle.XORBytes(b, got, own), nil
}

// crypto11 runs f between enter and leave.
func (t *Token) crypto11(f func() error) error {
	leave, err := t.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := t.revive(context.Background()); err != nil {
		return err
	}
	t.alive.RLock()
	defer t.alive.RUnlock()
	return t.notice(f())
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
		if t.detached {
			return
		}
		logout := t.logout()
		session := t.ctx.CloseSession(t.anchor)
		err = t.fail("close", nil, also(also(logout, session), detach(t.info.Module, t.c11)))
	})
	return err
}

// String is the token's name for messages.
func (t *Token) String() string { return fmt.Sprintf("%s (serial %s)", t.info.Label, t.info.Serial) }
