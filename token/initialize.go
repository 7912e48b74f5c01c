package token

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// NewToken is what [Initialize] makes of a blank token.
type NewToken struct {
	Slot    *uint  // with the blank token; nil: the first slot that has one
	Label   string // 1 to 32 bytes of printable UTF-8
	SOPIN   []byte // of the security officer; overwritten
	UserPIN []byte // overwritten

	// AnyPINLength allows PINs of other lengths than the token announces.
	AnyPINLength bool
}

// Initialize initialises a blank token: C_InitToken with the label and the security officer's PIN,
// then C_InitPIN with the user's. It never touches a token that is initialised, whose objects that
// would destroy. It overwrites the PINs.
func Initialize(module string, n NewToken) (Info, error) {
	defer clear(n.SOPIN)
	defer clear(n.UserPIN)
	label := n.Label
	if err := ValidTokenLabel(label); err != nil {
		return Info{}, &Error{Op: opInitialize, Token: label, Kind: errors.ErrUnsupported, Err: err}
	}
	module = resolve(module)
	librariesMu.Lock()
	defer librariesMu.Unlock()
	var made Info
	err := withModule(module, func(ctx *pkcs11.Ctx) error {
		all, err := tokens(ctx, module)
		if err != nil {
			return err
		}
		blank, err := chooseBlank(all, n.Slot, label)
		if err != nil {
			return err
		}
		// Before C_InitToken, because a token without a user PIN is half made.
		for _, pin := range [][]byte{n.SOPIN, n.UserPIN} {
			if e := checkPIN(pin, blank, n.AnyPINLength); e != nil {
				e.Op, e.Token = opInitialize, label
				return e
			}
		}
		if err := ctx.InitToken(blank.Slot, pinString(n.SOPIN), label); err != nil {
			return &Error{Op: fmt.Sprintf("initialise the token in slot %d", blank.Slot), Token: label, Err: err}
		}
		// SoftHSM moves a new token to another slot.
		if made, err = find(ctx, module, Selector{Label: label}); err != nil {
			return err
		}
		if err := initPIN(ctx, made.Slot, pinString(n.SOPIN), pinString(n.UserPIN)); err != nil {
			return &Error{Op: "set the user PIN", Token: label, Kind: ErrPIN, Err: err, Facts: ErrInitializedWithoutPIN}
		}
		if made, err = readInfo(ctx, module, made.Slot); err == nil {
			made.Mechanisms, err = readMechanisms(ctx, made.Slot)
		}
		return err
	})
	return made, initializing(label, err)
}

// MayInitialize returns the error with which [Initialize] would refuse, or nil. It needs no PIN
// and changes nothing.
func MayInitialize(module string, n NewToken) error {
	if err := ValidTokenLabel(n.Label); err != nil {
		return &Error{Op: opInitialize, Token: n.Label, Kind: errors.ErrUnsupported, Err: err}
	}
	module = resolve(module)
	librariesMu.Lock()
	defer librariesMu.Unlock()
	return initializing(n.Label, withModule(module, func(ctx *pkcs11.Ctx) error {
		all, err := tokens(ctx, module)
		if err == nil {
			_, err = chooseBlank(all, n.Slot, n.Label)
		}
		return err
	}))
}

const opInitialize = "initialise a token"

// initializing adds what was attempted to an error that does not have it.
func initializing(label string, err error) error {
	if err == nil || errors.As(err, new(*Error)) {
		return err
	}
	return &Error{Op: opInitialize, Token: label, Err: err}
}

// ValidTokenLabel returns an error unless label can be a token's label. CK_TOKEN_INFO.label is
// UTF-8 padded with blanks, so trailing ones are lost.
func ValidTokenLabel(label string) error {
	if label == "" || len(label) > 32 || strings.TrimSpace(label) != label || !printable(label) {
		return errors.New("a label has 1 to 32 bytes of printable UTF-8, and no blanks at its ends")
	}
	return nil
}

// chooseBlank returns a blank token. It refuses a label that is taken: two tokens with one label
// cannot be told apart by it.
func chooseBlank(all []Info, slot *uint, label string) (Info, error) {
	refuse := func(kind error) (Info, error) {
		return Info{}, &Error{Op: "choose a blank token", Token: label, Kind: kind, Facts: &BlankTokens{label, slot, all}}
	}
	var blank *Info
	for i, info := range all {
		if info.Initialized && info.Label == label || slot != nil && info.Slot == *slot && info.Initialized {
			return refuse(ErrTaken)
		}
		if !info.Initialized && info.Problem == "" && blank == nil && (slot == nil || info.Slot == *slot) {
			blank = &all[i]
		}
	}
	if blank == nil {
		return refuse(ErrNoToken)
	}
	return *blank, nil
}

// initPIN sets the user PIN as security officer.
func initPIN(ctx *pkcs11.Ctx, slot uint, soPIN, userPIN string) error {
	s, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	defer func() { _ = ctx.CloseSession(s) }()
	if err := ctx.Login(s, pkcs11.CKU_SO, soPIN); err != nil {
		return err
	}
	return also(ctx.InitPIN(s, userPIN), ctx.Logout(s))
}

// pinString returns a string that shares the memory of a PIN, so that clearing the PIN clears the
// string.
func pinString(pin []byte) string { return unsafe.String(unsafe.SliceData(pin), len(pin)) }
