package token

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/token/guard"
)

// A library is a module that is loaded into this process. PKCS #11 has one application per
// process: C_Initialize, C_Finalize and the login state of a token belong to all users of the
// module together, so they are counted here.
type library struct {
	ctx *pkcs11.Ctx
	// initialized is set if ctx had to call C_Initialize itself, and must call C_Finalize.
	initialized bool
	alone       bool                   // crypto11 does not use it
	users       int                    // open Tokens
	logins      map[uint]int           // logged-in Tokens by slot; the last one logs out
	loginLocks  map[uint]chan struct{} // by slot, held during a login
}

// libraries holds the modules that have an open Token, by path. The lock is held
// for every C_Initialize, C_Finalize, C_Login and C_Logout of this package.
var (
	librariesMu sync.Mutex
	libraries   = map[string]*library{}
)

// attach finds the token and opens it through crypto11 and beside it. crypto11
// insists on calling C_Initialize itself, and a Configure that fails finalises
// the module under every other user in the process. So the token is looked for
// first, and crypto11 is given the slot in which it was found.
// librariesMu must be held.
//
// A token that is not found is looked for a few times: SoftHSM writes a token's flags at every
// login, and hides the token from a process that reads them at that moment.
//
// Only a Token that makes pairs needs crypto11. For all others the module is initialised once and
// not twice: each time SoftHSM reads all objects of its tokens.
func attach(path string, cfg Config, sel Selector) (lib *library, c11 *crypto11Context, info Info, err error) {
	once := attachOnce
	if !cfg.MakePairs && libraries[path] == nil {
		once = attachAlone
	}
	for try := 1; ; try++ {
		lib, c11, info, err = once(path, sel)
		if try == attachTries || !errors.Is(err, ErrNoToken) {
			return lib, c11, info, err
		}
		time.Sleep(attachPause)
	}
}

const (
	attachTries = 5
	attachPause = 20 * time.Millisecond
)

// attachAlone opens the module for the first Token of this process, without crypto11.
func attachAlone(path string, sel Selector) (*library, *crypto11Context, Info, error) {
	ctx, err := load(path)
	if err != nil {
		return nil, nil, Info{}, err
	}
	lib := &library{ctx: ctx, alone: true, logins: map[uint]int{}, loginLocks: map[uint]chan struct{}{}, users: 1}
	switch err := ctx.Initialize(); {
	case err == nil:
		lib.initialized = true
	case !is(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED): // by other code of this process, which finalises it
		guard.Destroy(ctx, path)
		return nil, nil, Info{}, &Error{Op: "initialise the module", Token: path, Kind: ErrModule, Err: err}
	}
	libraries[path] = lib
	info, err := find(ctx, path, sel)
	if err == nil && poolSize(info.maxSessions) == 0 {
		err = tooFewSessions(info)
	}
	if err != nil {
		_ = detach(path, nil)
		return nil, nil, Info{}, err
	}
	return lib, nil, info, nil
}

func tooFewSessions(info Info) error {
	return &Error{Op: "open the token", Token: info.Label, Kind: errors.ErrUnsupported,
		Err: fmt.Errorf("it allows %d sessions, %d are needed", info.maxSessions, leastSessions)}
}

func attachOnce(path string, sel Selector) (*library, *crypto11Context, Info, error) {
	var all []Info
	err := withModule(path, func(ctx *pkcs11.Ctx) (err error) {
		all, err = tokens(ctx, path)
		return err
	})
	if err != nil {
		return nil, nil, Info{}, err
	}
	info, err := pick(all, path, sel)
	if err != nil {
		return nil, nil, Info{}, err
	}
	if libraries[path] == nil && slices.ContainsFunc(all, func(i Info) bool { return i.Problem != "" }) {
		return attachAlone(path, sel) // crypto11 gives up at a token that cannot be read
	}
	if poolSize(info.maxSessions) == 0 {
		return nil, nil, Info{}, tooFewSessions(info)
	}
	if lib := libraries[path]; lib != nil && (lib.initialized || lib.alone) {
		lib.users++ // crypto11 would take its second context for initialised
		return lib, nil, info, nil
	}
	c11, err := configure(path, info)
	if err != nil {
		// The token was found a moment ago; crypto11's error for that has no name.
		return nil, nil, Info{}, &Error{Op: "open the token", Token: info.Label, Kind: ErrNoToken, Err: err, Facts: ErrTokensChanged}
	}
	lib := libraries[path]
	if lib == nil {
		ctx, err := load(path)
		if err != nil {
			_ = deconfigure(c11, path)
			return nil, nil, Info{}, err
		}
		lib = &library{ctx: ctx, logins: map[uint]int{}, loginLocks: map[uint]chan struct{}{}}
		// crypto11 has initialised the module already, and most say so. p11-kit's proxy
		// counts each list of functions that it hands out as an application of its own.
		err = lib.ctx.Initialize()
		lib.initialized = err == nil
		if err != nil && !is(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
			guard.Destroy(ctx, path)
			_ = deconfigure(c11, path)
			return nil, nil, Info{}, &Error{Op: "initialise the module", Token: path, Kind: ErrModule, Err: err}
		}
		libraries[path] = lib
	}
	lib.users++
	// The module was initialised again since the token was found.
	again, err := readInfo(lib.ctx, path, info.Slot)
	if err != nil || again.Label != info.Label || again.Serial != info.Serial {
		_ = detach(path, c11)
		return nil, nil, Info{}, &Error{Op: "open the token", Token: info.Label, Kind: ErrNoToken, Err: err, Facts: ErrTokensChanged}
	}
	return lib, c11, info, nil
}

// detach undoes attach. librariesMu must be held.
func detach(path string, c11 *crypto11Context) error {
	lib := libraries[path]
	var err error
	if c11 != nil {
		err = deconfigure(c11, path)
	}
	if lib.users--; lib.users == 0 {
		if lib.initialized {
			err = also(err, lib.ctx.Finalize())
		}
		guard.Destroy(lib.ctx, path)
		delete(libraries, path)
	}
	return err
}
