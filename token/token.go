package token

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"
)

// Config is which token to open, and how.
type Config struct {
	Module string   // path of the PKCS #11 library
	Token  Selector // which token; Token.ModulePath is used if Module is empty

	// PIN returns the user PIN. It is called once, and only if the token is not logged in
	// already; the result is overwritten after the login. If PIN is nil the token is used without
	// a login.
	PIN func(context.Context, Info) ([]byte, error)

	// RequireToken refuses session keys in this process's memory, see
	// [KeyPair.Residence], and tokens that reveal sensitive keys.
	RequireToken bool

	// PINPad is called in place of PIN if the token has a reader on which the PIN is typed
	// (CKF_PROTECTED_AUTHENTICATION_PATH). It may be nil.
	PINPad func(Info)

	// Sessions is how many calls the token gets at the same time. 0 means as many as it can take,
	// judging by its mechanisms and by how many sessions it allows, up to [MaxSessions].
	Sessions int

	// Cache is a directory of the user's for what was found out about tokens by trying, and in
	// which processes that log in wait for each other. If it is empty, tokens are tried each time,
	// and processes do not wait.
	Cache string

	// TryAgain tries the token as if Cache had nothing about it.
	TryAgain bool

	// MakePairs prepares the Token for making pairs with crypto11, which insists on initialising
	// the module itself. Without it pairs are made through the module's own interface.
	MakePairs bool

	// Unattended means that PIN does not ask a person: then a Token whose token went away and came
	// back logs in again by itself.
	Unattended bool

	// Patience is how long a call waits for a token that went away to come back; 0 means 20 seconds,
	// and less means not at all.
	Patience time.Duration

	// FinalTry allows a login if one more wrong PIN would lock the token.
	FinalTry bool

	// AnyPINLength allows a login with a PIN that is shorter or longer than the token
	// announces.
	AnyPINLength bool
}

// A Token is an open token, usually logged in. It is safe for concurrent use.
type Token struct {
	info Info // as it was when the token was opened
	slot uint // may be another one after the token was away
	lib  *library
	ctx  *pkcs11.Ctx
	c11  *crypto11Context

	anchor   pkcs11.SessionHandle // holds the login; carries the imported public keys
	loggedIn bool                 // counted in lib.logins
	pool     *pool
	public   publicKeys

	cfg Config

	objects    atomic.Bool  // session keys were made in sessions
	noRandom   bool         // the token has no random numbers
	alive      sync.RWMutex // read-locked by every call; locked while sessions are replaced
	broken     atomic.Bool  // sessions are lost, see revive
	lostBy     atomic.Pointer[error]
	refused    error // of the login when the token was back, which is not tried any more
	answered   int   // logins that the token has answered since it was lost, see answeredLogin
	again      contextLogins
	detached   bool // the module was released
	generation atomic.Uint64

	reveals        atomic.Int32 // whether the token reveals sensitive values, see checkNotRevealed
	sha1Only       atomic.Bool  // the token was seen to refuse OAEP with SHA-256
	confirmObjects confirmObjects
	lastMade       atomic.Pointer[[]byte] // by checkMade
	closed         sync.Once
}

// Open finds the token and logs in. A PIN that is refused is not tried again, because tokens lock.
// The errors are [ErrModule], [ErrNoToken], [ErrAmbiguous], [ErrPIN], [ErrPINLocked] and
// [ErrFinalTry].
//
// The login belongs to the process (PKCS #11 §5.6): while one Token is open, a second one for the
// same token is logged in already, and asks for no PIN. The one that is closed last logs out.
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
	if t.info.Mechanisms, err = readMechanisms(t.ctx, info.Slot); err != nil {
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

// Info returns what the token told without a PIN when it was opened.
func (t *Token) Info() Info { return t.info }

// Close closes every session, which destroys all session objects. It logs out if no other Token of
// this process uses the token, and unloads the module with its last Token. It waits for calls that
// are under way. Closing twice is no error.
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

// String returns the token's label and serial number, for messages.
func (t *Token) String() string { return fmt.Sprintf("%s (serial %s)", t.info.Label, t.info.Serial) }
