package softhsm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/miekg/pkcs11"
)

// A Token is an initialised token, with its PINs. Labels need not be unique; serials are.
type Token struct {
	Label  string
	Serial string // 16 hexadecimal digits
	PIN    string // the user's; "" if this process did not make the token
	SOPIN  string // the security officer's; likewise

	env *Env
}

// InitToken makes a token with random PINs. The label has 1 to 32 bytes and may exist already:
// a test must be able to make whatever PKCS#11 allows.
//
// The module may be initialised in this process or not; InitToken does not change that. Like any
// call into a PKCS#11 module, it must not run while another goroutine calls C_Finalize, nor
// C_Initialize, because SoftHSM would read the half-made token. If e is not in use by this
// process, SOFTHSM2_CONF points to e for the few milliseconds that it takes.
func (e *Env) InitToken(label string) (Token, error) {
	if len(label) == 0 || len(label) > 32 {
		return Token{}, fmt.Errorf("softhsm: label %q: must have 1 to 32 bytes", label)
	}
	mu.Lock()
	defer mu.Unlock()
	t, err := e.initToken(label)
	if err != nil {
		return Token{}, fmt.Errorf("softhsm: token %q: %w", label, err)
	}
	return t, nil
}

// initToken initialises through one of two instances of the module.
//
// The first is the process's own instance, if that is initialised: it has read the tokens once and
// would not see one that is made elsewhere. It must not be finalised here.
//
// The second is a copy of the module, if the process's own instance is not initialised. To the
// dynamic loader a copy of the file is another library with its own state, so initialising and
// finalising it affects nothing else. With the process's own instance, code that initialises it at
// the same time would be refused (CKR_CRYPTOKI_ALREADY_INITIALIZED, which crypto11 treats as an
// error), or would lose the module when it is finalised. The alternative, softhsm2-util, takes PINs
// from its arguments, which ps shows, or from a terminal.
func (e *Env) initToken(label string) (Token, error) {
	if e.closed {
		return Token{}, fmt.Errorf("environment is closed: %w", os.ErrClosed)
	}
	own := pkcs11.New(e.module)
	if own == nil {
		return Token{}, fmt.Errorf("cannot load %q", e.module)
	}
	defer own.Destroy()

	if e.inUse() && initialised(own) {
		return e.initThrough(own, label)
	}
	return e.initThroughCopy(label)
}

func (e *Env) initThroughCopy(label string) (t Token, err error) {
	err = e.withCopy(func(p *pkcs11.Ctx) (err error) {
		t, err = e.initThrough(p, label)
		return err
	})
	return t, err
}

// withCopy calls f with an initialised copy of the module.
func (e *Env) withCopy(f func(*pkcs11.Ctx) error) (err error) {
	module, err := os.ReadFile(e.module)
	if err != nil {
		return err
	}
	copied, err := os.CreateTemp(e.dir, "copy-*.so")
	if err != nil {
		return err
	}
	path := copied.Name()
	defer os.Remove(path)
	_, err = copied.Write(module)
	if err := errors.Join(err, copied.Close()); err != nil {
		return err
	}

	if !e.inUse() {
		restore, err := setConf(e.ConfPath())
		if err != nil {
			return err
		}
		defer restore()
	}
	p := pkcs11.New(path)
	if p == nil {
		return fmt.Errorf("cannot load the copy %q of %q: is the temporary directory mounted noexec? Set TMPDIR", path, e.module)
	}
	defer p.Destroy()
	if err := p.Initialize(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Finalize()) }()
	return f(p)
}

// Tokens returns the initialised tokens of e, whoever made them and also those that are lost, without their
// PINs.
func (e *Env) Tokens() ([]Token, error) {
	mu.Lock()
	defer mu.Unlock()
	var tokens []Token
	err := e.withCopy(func(p *pkcs11.Ctx) error {
		slots, err := p.GetSlotList(true)
		if err != nil {
			return fmt.Errorf("C_GetSlotList: %w", err)
		}
		for _, slot := range slots {
			info, err := p.GetTokenInfo(slot)
			if err != nil {
				return fmt.Errorf("C_GetTokenInfo: %w", err)
			}
			if info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 {
				tokens = append(tokens, Token{Label: info.Label, Serial: info.SerialNumber, env: e})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("softhsm: tokens: %w", err)
	}
	return tokens, nil
}

// initThrough initialises the blank token that SoftHSM always offers beside the
// others, as specified in PKCS #11 v2.40 §5.5 and §5.6: C_InitToken sets the label and
// the SO PIN, then the security officer sets the user's PIN.
func (e *Env) initThrough(p *pkcs11.Ctx, label string) (t Token, err error) {
	slot, err := blankSlot(p)
	if err != nil {
		return Token{}, err
	}
	t = Token{Label: label, PIN: randomPIN(), SOPIN: randomPIN(), env: e}
	if err := p.InitToken(slot, t.SOPIN, label); err != nil {
		return Token{}, fmt.Errorf("C_InitToken: %w", err)
	}
	info, err := p.GetTokenInfo(slot)
	if err != nil {
		return Token{}, fmt.Errorf("C_GetTokenInfo: %w", err)
	}
	t.Serial = info.SerialNumber
	defer func() {
		if err != nil {
			err = errors.Join(err, e.remove(t.Serial)) // a token without a PIN is useless
		}
	}()
	if _, err := e.tokenPath(t.Serial); err != nil {
		return Token{}, fmt.Errorf("made outside of this environment: %s was changed while the module was initialised", confVar)
	}

	session, err := p.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return Token{}, fmt.Errorf("C_OpenSession: %w", err)
	}
	defer p.CloseSession(session) // the only one of this token: ends the login too
	if err := p.Login(session, pkcs11.CKU_SO, t.SOPIN); err != nil {
		return Token{}, fmt.Errorf("C_Login: %w", err)
	}
	if err := p.InitPIN(session, t.PIN); err != nil {
		return Token{}, fmt.Errorf("C_InitPIN: %w", err)
	}
	return t, nil
}

// DestroyToken removes the token from the storage, as if the hardware were lost. The error wraps
// [fs.ErrNotExist] if there is no such token.
//
// A process in which the module is initialised keeps the slot in its list until
// C_Finalize, with a token that returns CKR_GENERAL_ERROR.
func (e *Env) DestroyToken(t Token) error {
	mu.Lock()
	defer mu.Unlock()
	if err := e.remove(t.Serial); err != nil {
		return fmt.Errorf("softhsm: token %q: %w", t.Label, err)
	}
	return nil
}

func (e *Env) remove(serial string) error {
	path, err := e.tokenPath(serial)
	if err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// tokenPath returns a token's directory. SoftHSM names it after a UUID, the second
// half of which, 16 digits, is the token's serial.
func (e *Env) tokenPath(serial string) (string, error) {
	entries, err := os.ReadDir(e.TokenDir())
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		uuid := strings.ReplaceAll(entry.Name(), "-", "")
		if len(uuid) == 32 && uuid[16:] == serial {
			return filepath.Join(e.TokenDir(), entry.Name()), nil
		}
	}
	return "", fmt.Errorf("serial %q: %w", serial, fs.ErrNotExist)
}

// initialised reports whether this process has initialised the module, by C_GetInfo, which
// changes nothing.
func initialised(p *pkcs11.Ctx) bool {
	_, err := p.GetInfo()
	return err == nil
}

func blankSlot(p *pkcs11.Ctx) (uint, error) {
	slots, err := p.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("C_GetSlotList: %w", err)
	}
	for _, slot := range slots {
		info, err := p.GetTokenInfo(slot)
		if err != nil {
			continue // a token that DestroyToken removed
		}
		if info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			return slot, nil
		}
	}
	return 0, errors.New("SoftHSM offers no blank token")
}

// randomPIN returns 16 characters of base32, 80 bits. SoftHSM accepts 4 to 255 characters.
func randomPIN() string { return rand.Text()[:16] }
