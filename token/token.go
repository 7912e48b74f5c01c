package token

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/miekg/pkcs11"
)

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
	c11  *crypto11Context

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

	reveals        atomic.Int32 // whether the token gives away sensitive values, see checkKept
	sha1Only       atomic.Bool  // the token was seen to refuse OAEP with SHA-256
	confirmObjects confirmObjects
	lastMade       atomic.Pointer[[]byte] // what checkMade has seen last
	closed         sync.Once
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

// Info tells what the token told without a PIN when it was opened.
func (t *Token) Info() Info { return t.info }

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
