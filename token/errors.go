package token

import (
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/guard"
)

// Kinds of failure that a caller may want to tell apart with [errors.Is]. The PKCS #11 return value
// behind them, if there is one, is found with [errors.As] and a [pkcs11.Error].
var (
	ErrModule    = errors.New("not a usable PKCS #11 module")
	ErrNoToken   = errors.New("no such token")
	ErrAmbiguous = errors.New("more than one matches")
	ErrPIN       = errors.New("PIN refused")
	ErrPINLocked = errors.New("PIN locked")
	ErrFinalTry  = errors.New("one PIN try left")
	ErrNoPair    = errors.New("no key exchange pair")
	ErrTaken     = errors.New("object exists")
	ErrPlanted   = errors.New("object on the token does not belong to the private key")
	ErrUnsafe    = errors.New("key lacks a protection")
	ErrWrapped   = keyspec.ErrWrapped
	ErrLost      = keyspec.ErrLost
	ErrClosed    = keyspec.ErrClosed
	ErrResidence = errors.New("session keys cannot live on the token")
	ErrURI       = errors.New("not a usable token name")
)

// Error describes what failed, and on which token.
type Error struct {
	Op    string // what was attempted
	Token string // on what: a token's label or a module's path; empty where it is clear
	Kind  error  // one of the Err values above, [errors.ErrUnsupported], or nil
	Err   error  // the cause, often a pkcs11.Error; may be nil

	// Facts is what is known beside, for [errors.Is] and [errors.As], and is not part of the
	// message: see [PairsFound] and the others. It may be nil.
	Facts error
}

func (e *Error) Error() string {
	s := e.Op
	switch {
	case e.Token == "": // clear from the context
	case e.Kind == ErrModule:
		s = fmt.Sprintf("module %q: %s", e.Token, e.Op)
	default:
		s = fmt.Sprintf("token %q: %s", e.Token, e.Op)
	}
	if e.Kind != nil {
		s += ": " + e.kind()
	}
	if e.Err != nil {
		s += ": " + describe(e.Err)
	}
	return s
}

// kind returns the kind in words. [errors.ErrUnsupported] alone does not say who lacks the
// support.
func (e *Error) kind() string {
	if e.Kind == errors.ErrUnsupported {
		return "not supported by the token"
	}
	return e.Kind.Error()
}

// Is reports whether target is the kind of the error. An answer of a module that is out of all
// bounds is [ErrModule], whatever was asked.
func (e *Error) Is(target error) bool {
	if _, ok := guard.OutOfBounds(e.Err); ok && target == ErrModule {
		return true
	}
	return e.Kind != nil && target == e.Kind
}

// Unwrap returns the cause and the facts.
func (e *Error) Unwrap() []error {
	var all []error
	for _, err := range []error{e.Err, e.Facts} {
		if err != nil {
			all = append(all, err)
		}
	}
	return all
}

// describe puts a return value into words and keeps its CKR_ name.
func describe(err error) string {
	var code pkcs11.Error
	if !errors.As(err, &code) {
		return err.Error()
	}
	if text, ok := guard.OutOfBounds(code); ok {
		return strings.ReplaceAll(err.Error(), code.Error(), text)
	}
	name := nameOf(code)
	if text, ok := words[uint(code)]; ok {
		name = fmt.Sprintf("%s (%s)", text, name)
	}
	return strings.ReplaceAll(err.Error(), code.Error(), name) // and the rest of the text stays
}

var words = map[uint]string{
	pkcs11.CKR_PIN_INCORRECT:            "the PIN is wrong",
	pkcs11.CKR_PIN_LEN_RANGE:            "the PIN is too short or too long",
	pkcs11.CKR_PIN_INVALID:              "the PIN has characters the token does not take",
	pkcs11.CKR_PIN_LOCKED:               "the PIN is locked",
	pkcs11.CKR_PIN_EXPIRED:              "the PIN has expired",
	pkcs11.CKR_USER_PIN_NOT_INITIALIZED: "no user PIN has been set",
	pkcs11.CKR_DEVICE_REMOVED:           "the token was removed",
	pkcs11.CKR_TOKEN_NOT_PRESENT:        "the token is not in its slot",
	pkcs11.CKR_DEVICE_ERROR:             "the token failed",
	pkcs11.CKR_DEVICE_MEMORY:            "the token is full",
	pkcs11.CKR_TOKEN_WRITE_PROTECTED:    "the token is write protected",
	pkcs11.CKR_SESSION_COUNT:            "the token has no session left",
	pkcs11.CKR_SESSION_HANDLE_INVALID:   "the session is gone",
	pkcs11.CKR_USER_NOT_LOGGED_IN:       "not logged in",
	pkcs11.CKR_MECHANISM_INVALID:        "the token does not have the mechanism",
	pkcs11.CKR_KEY_UNEXTRACTABLE:        "the key may not leave the token",
}

// ReturnValue returns the name of the PKCS #11 return value behind an error, such as
// "CKR_DEVICE_REMOVED", or "" if there is none. A vendor's own has no name, and is "CKR 0x80000001". An
// error from another process tells it by a method ReturnValue() string.
func ReturnValue(err error) string {
	if code := pkcs11.Error(0); errors.As(err, &code) {
		return nameOf(code)
	}
	if e := (interface{ ReturnValue() string })(nil); errors.As(err, &e) {
		return e.ReturnValue()
	}
	return ""
}

// unnamed are the return values of v2.40 for which package pkcs11 has no name.
var unnamed = map[pkcs11.Error]string{
	0x1b: "CKR_ACTION_PROHIBITED", 0x140: "CKR_CURVE_NOT_SUPPORTED", 0x1b5: "CKR_EXCEEDED_MAX_ITERATIONS", 0x1b6: "CKR_FIPS_SELF_TEST_FAILED",
	0x1b7: "CKR_LIBRARY_LOAD_FAILED", 0x1b8: "CKR_PIN_TOO_WEAK", 0x1b9: "CKR_PUBLIC_KEY_INVALID",
}

// nameOf returns the name of a return value. pkcs11.Error prints as "pkcs11: 0xA0: CKR_PIN_INCORRECT",
// with no name for a vendor's own value.
func nameOf(code pkcs11.Error) string {
	if name := unnamed[code]; name != "" {
		return name
	}
	_, name, _ := strings.Cut(strings.TrimPrefix(code.Error(), "pkcs11: "), ": ")
	if name == "" {
		name = fmt.Sprintf("CKR 0x%08X", uint(code))
	}
	return name
}

// is reports whether err has one of the return values.
func is(err error, codes ...uint) bool {
	var code pkcs11.Error
	if !errors.As(err, &code) {
		return false
	}
	for _, c := range codes {
		if uint(code) == c {
			return true
		}
	}
	return false
}

// also joins the error of a second failure to that of the first, in one line. Either may be nil.
func also(err, next error) error {
	switch {
	case err == nil:
		return next
	case next == nil:
		return err
	default:
		return fmt.Errorf("%w; and then %w", err, next)
	}
}

// sessionGone reports whether err means that a session cannot be used again.
func sessionGone(err error) bool {
	return is(err, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_REMOVED,
		pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED,
		pkcs11.CKR_USER_NOT_LOGGED_IN)
}

// fail returns the error of a failed operation on t: nil if kind and err are nil, and err itself
// if it is an *Error already.
func (t *Token) fail(op string, kind, err error) error {
	if kind == nil && err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	return &Error{Op: op, Token: t.info.Label, Kind: kind, Err: err}
}

// refuses reports whether err says that the token does not support an operation at all, however
// often it is tried.
func refuses(err error) bool {
	return refusesParameters(err) || is(err, pkcs11.CKR_FUNCTION_NOT_SUPPORTED, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED,
		pkcs11.CKR_KEY_TYPE_INCONSISTENT, pkcs11.CKR_TEMPLATE_INCONSISTENT, pkcs11.CKR_TEMPLATE_INCOMPLETE,
		pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_ATTRIBUTE_READ_ONLY,
		pkcs11.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT, pkcs11.CKR_WRAPPING_KEY_TYPE_INCONSISTENT)
}

// refusesParameters reports whether err may say that the token does OAEP, but not with this hash.
func refusesParameters(err error) bool {
	return is(err, pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_MECHANISM_INVALID)
}

// unwrapKind returns [ErrWrapped] if err is about the wrapped key, and nil if it is about the
// token. SoftHSM returns CKR_GENERAL_ERROR for the first, other tokens name it.
func unwrapKind(err error) error {
	if is(err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_WRAPPED_KEY_INVALID, pkcs11.CKR_WRAPPED_KEY_LEN_RANGE,
		pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE) {
		return ErrWrapped
	}
	return nil
}

// cause returns the cause of an Error, or err itself.
func cause(err error) error {
	if e := (*Error)(nil); errors.As(err, &e) && e.Err != nil {
		return e.Err
	}
	return err
}
