package token

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	pkcs11uri "github.com/stefanberger/go-pkcs11uri"
)

// A Selector names a token, and optionally a key pair on it. Empty fields match everything.
type Selector struct {
	Label        string // CK_TOKEN_INFO.label
	Serial       string // CK_TOKEN_INFO.serialNumber
	Manufacturer string // CK_TOKEN_INFO.manufacturerID
	Model        string // CK_TOKEN_INFO.model
	SlotID       *uint  // CK_SLOT_ID

	Object string // CKA_LABEL of the key pair
	ID     []byte // CKA_ID of the key pair

	ModulePath string // absolute path of the module
	ModuleName string // the module's name without "lib" and ".so", see [ModuleNamed]

	// PINSource is where the caller finds the PIN (RFC 7512 §2.4): a path, a URI with the scheme
	// file, or "|" and a command.
	PINSource string

	// PINValue is a PIN in the URI itself. The caller should warn about it, and must overwrite
	// it.
	PINValue []byte `json:"-"`
}

// ParseSelector parses a token's label, or an RFC 7512 URI: whatever starts with "pkcs11:", after
// optional blanks. A string that is not a URI and contains pin-value is refused, as it would be
// printed as a label.
//
// An attribute that would be ignored is refused, also a vendor's own, because a URI that is
// understood only in part may select the wrong token; so is an attribute without a value. Of the
// attributes of the RFC, slot-description, slot-manufacturer and the three of the library are
// refused: module-path and module-name are more precise. The error is [ErrURI], and never contains
// a PIN.
func ParseSelector(s string) (Selector, error) {
	const scheme = "pkcs11:"
	label := s
	s = strings.TrimLeftFunc(s, unicode.IsSpace) // a blank at the end may be the PIN's
	if len(s) < len(scheme) || !strings.EqualFold(s[:len(scheme)], scheme) {
		if mentionsPIN(s) {
			return Selector{}, &Error{Op: "read the name of a token", Kind: ErrURI, Facts: ErrURIPrefix,
				Err: errors.New("it is not a URI, and not repeated here because it contains a PIN (pin-value)")}
		}
		return Selector{Label: label}, nil
	}
	path, query, _ := strings.Cut(s[len(scheme):], "?")
	query, pin, err := cutPIN(query)
	secret := mentionsPIN(s)
	bad := func(err, facts error) (Selector, error) {
		clear(pin)
		if secret { // the error may contain a piece of the PIN, after a separator in it
			err = errors.New("it is malformed, and not repeated here because it contains a PIN (pin-value)")
			facts = ErrURIPIN
		}
		return Selector{}, &Error{Op: "read the PKCS #11 URI", Kind: ErrURI, Err: err, Facts: facts}
	}
	if err != nil || mentionsPIN(path) || mentionsPIN(query) {
		return bad(err, nil)
	}
	for _, part := range []struct {
		attributes, separator string
		known                 []string
	}{
		{path, ";", []string{"token", "serial", "manufacturer", "model", "slot-id", "object", "id", "type"}},
		{query, "&", []string{"module-path", "module-name", "pin-source", pinValue}},
	} {
		if part.attributes == "" {
			continue
		}
		for attribute := range strings.SplitSeq(part.attributes, part.separator) {
			name, value, _ := strings.Cut(attribute, "=")
			if !slices.Contains(part.known, name) {
				return bad(&URIAttribute{name, part.known}, nil)
			}
			if plain, err := url.PathUnescape(value); value == "" || err == nil && slices.Contains(ofInfo, name) && unpadded(plain) == "" {
				return bad(fmt.Errorf("attribute %q has no value", name), ErrURIValue)
			}
		}
	}
	uri := pkcs11uri.New()
	rest := scheme + path
	if query != "" {
		rest += "?" + query
	}
	if err := uri.Parse(rest); err != nil {
		return bad(err, nil)
	}
	get := func(name string) string { v, _ := uri.GetPathAttribute(name, false); return v }
	ask := func(name string) string { v, _ := uri.GetQueryAttribute(name, false); return v }
	sel := Selector{
		Label: unpadded(get("token")), Serial: unpadded(get("serial")),
		Manufacturer: unpadded(get("manufacturer")), Model: unpadded(get("model")),
		Object: get("object"), ID: []byte(get("id")),
		ModulePath: ask("module-path"), ModuleName: ask("module-name"), PINSource: ask("pin-source"), PINValue: pin,
	}
	if slot := get("slot-id"); slot != "" {
		n, err := strconv.ParseUint(slot, 10, 64)
		if err != nil {
			return bad(fmt.Errorf("slot-id %q is not a number", slot), nil)
		}
		id := uint(n)
		sel.SlotID = &id
	}
	if kind := get("type"); kind != "" && kind != "private" {
		return bad(fmt.Errorf("type %q is not a key pair", kind), ErrURIType)
	}
	switch {
	case sel.PINSource != "" && pin != nil: // RFC 7512 §2.4
		return bad(errors.New("it has both pin-source and pin-value"), ErrURITwice)
	case sel.ModulePath != "" && sel.ModuleName != "":
		return bad(errors.New("it has both module-path and module-name"), ErrURITwice)
	case strings.ContainsRune(sel.ModuleName, '/'):
		return bad(fmt.Errorf("module-name %q is a path", sel.ModuleName), ErrURIPath)
	}
	if err := checkPINSource(sel.PINSource); err != nil {
		return bad(err, ErrURIPINSource)
	}
	return sel, nil
}

// Matches reports whether the selector names the token, which must be initialised.
func (s Selector) Matches(info Info) bool { return info.Initialized && s.matches(info) }

// String names the token for people. It is empty if the selector names none.
func (s Selector) String() string {
	switch {
	case s.Label != "":
		return s.Label
	case s.Serial != "":
		return "serial " + s.Serial
	case s.SlotID != nil:
		return fmt.Sprintf("slot %d", *s.SlotID)
	case s.Model != "":
		return s.Model
	case s.Manufacturer != "":
		return s.Manufacturer
	default:
		return ""
	}
}

const pinValue = "pin-value"

// ofInfo are the attributes that are fields of CK_TOKEN_INFO.
var ofInfo = []string{"token", "serial", "manufacturer", "model"}

// unpadded returns a field of CK_TOKEN_INFO without its padding: blanks, or NUL on a TPM. p11tool
// writes both into the URIs that it prints.
func unpadded(field string) string { return strings.TrimRight(field, " \x00") }

// cutPIN takes pin-value out of a URI's query before anything else parses the query, and might
// repeat it. The PIN is nil if there is none.
func cutPIN(query string) (rest string, pin []byte, err error) {
	var others []string
	for attribute := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(attribute, "=")
		if name != pinValue {
			others = append(others, attribute)
			continue
		}
		// RFC 7512 §2.3 allows none of these unescaped in a value. A PIN that is cut at the wrong
		// place would use up a try.
		plain, wrong := url.PathUnescape(value)
		if wrong != nil || plain == "" || pin != nil || strings.ContainsAny(value, ";#\" \t\r\n") {
			err = errors.New("pin-value is malformed")
		}
		pin = []byte(plain)
	}
	if pin != nil && slices.Contains(others, "") {
		err = errors.New("an attribute is empty")
	}
	return strings.Join(others, "&"), pin, err
}

// mentionsPIN reports whether s contains pin-value anywhere, however it is written: after a wrong
// separator it would become part of another value, and be repeated in messages.
func mentionsPIN(uri string) bool {
	plain, err := url.PathUnescape(uri)
	return strings.Contains(strings.ToLower(uri), pinValue) || err == nil && strings.Contains(strings.ToLower(plain), pinValue)
}

// checkPINSource refuses what would otherwise be taken for the name of a file that does not exist,
// or be looked for on this machine in place of another.
func checkPINSource(source string) error {
	if command, ok := strings.CutPrefix(source, "|"); ok {
		if strings.TrimSpace(command) == "" {
			return errors.New("pin-source names no command")
		}
		return nil
	}
	if strings.HasPrefix(source, "/") {
		return nil
	}
	u, err := url.Parse(source)
	switch {
	case err != nil, u.Scheme == "": // a path
		return nil
	case u.Scheme != "file":
		return fmt.Errorf("pin-source is a URI with the scheme %q", u.Scheme)
	case u.Host != "" && u.Host != "localhost", !strings.HasPrefix(u.Path, "/"):
		return errors.New("pin-source is not an absolute path on this machine")
	}
	return nil
}

// matches reports whether the selector names the token.
func (s Selector) matches(info Info) bool {
	same := func(want, have string) bool { return want == "" || want == have }
	return same(s.Label, info.Label) && same(s.Serial, info.Serial) &&
		same(s.Manufacturer, info.Manufacturer) && same(s.Model, info.Model) &&
		(s.SlotID == nil || *s.SlotID == info.Slot)
}
