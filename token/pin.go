package token

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/miekg/pkcs11"
)

// PIN is the state of the user PIN, from the token's flags.
type PIN struct {
	Initialized bool `json:"initialized"`
	CountLow    bool `json:"count_low"` // a wrong PIN was entered since the last login
	FinalTry    bool `json:"final_try"` // one more wrong PIN locks it
	Locked      bool `json:"locked"`
	ToBeChanged bool `json:"to_be_changed"`
}

func (p PIN) String() string {
	switch {
	case !p.Initialized:
		return "not set"
	case p.Locked:
		return "locked"
	case p.FinalTry:
		return "one try left"
	case p.CountLow:
		return "some tries used"
	case p.ToBeChanged:
		return "must be changed"
	default:
		return "ok"
	}
}

// refuses returns the error by which no PIN is tried, from the flags alone, or nil.
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

// loginKind returns the kind of an error about the PIN, or nil if it is about the token.
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

// checkPIN checks a PIN before the token does: what cannot be one must not use up a try. It returns
// the error, an [ErrPIN], by which a PIN is not sent to the token, or nil. PINs
// are UTF-8 (CK_UTF8CHAR, PKCS #11 v2.40 §2.1). Byte order marks, which text editors write, and
// control characters cannot be typed at a prompt or PIN pad. The lengths are those that the token
// announces, in bytes; they are not checked if anyLength is set.
func checkPIN(pin []byte, info Info, anyLength bool) *Error {
	refuse := func(fact error, reason string, args ...any) *Error {
		return &Error{Op: "log in", Token: info.Label, Kind: ErrPIN, Err: fmt.Errorf(reason, args...), Facts: fact}
	}
	switch {
	case bytes.HasPrefix(pin, []byte("\xff\xfe")), bytes.HasPrefix(pin, []byte("\xfe\xff")):
		return refuse(ErrPINEncoding, "it begins with a byte order mark of UTF-16")
	case bytes.ContainsRune(pin, '\ufeff'):
		return refuse(ErrPINEncoding, "it has a byte order mark (U+FEFF) in it")
	case bytes.ContainsRune(pin, 0):
		return refuse(ErrPINEncoding, "it has a NUL byte in it, as text in UTF-16 has")
	case !utf8.Valid(pin):
		return refuse(ErrPINEncoding, "it is not UTF-8")
	case bytes.ContainsFunc(pin, unicode.IsControl):
		return refuse(ErrPINCharacter, "it has a control character in it")
	}
	least, most := info.lengths()
	switch n := uint(len(pin)); {
	case anyLength:
	case n < least:
		return refuse(ErrPINLength, "it has fewer than the %d bytes that the token takes at least", least)
	case most > 0 && n > most:
		return refuse(ErrPINLength, "it has more than the %d bytes that the token takes at most", most)
	}
	return nil
}

// lengths returns how many bytes a PIN has according to CK_TOKEN_INFO; most is 0 if there is no
// limit. Some tokens announce impossible limits, which are ignored.
func (i Info) lengths() (least, most uint) {
	least, most = i.minPIN, i.maxPIN
	if most == pkcs11.CK_UNAVAILABLE_INFORMATION {
		most = 0
	}
	if least == pkcs11.CK_UNAVAILABLE_INFORMATION || most > 0 && least > most {
		return 0, 0
	}
	return least, most
}
