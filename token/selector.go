package token

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	pkcs11uri "github.com/stefanberger/go-pkcs11uri"
)

// Selector names a token, and where given a key pair on it. Fields that are
// empty match everything.
type Selector struct {
	Label        string // CK_TOKEN_INFO.label
	Serial       string // CK_TOKEN_INFO.serialNumber
	Manufacturer string // CK_TOKEN_INFO.manufacturerID
	Model        string // CK_TOKEN_INFO.model
	SlotID       *uint  // CK_SLOT_ID

	Object string // CKA_LABEL of the key pair
	ID     []byte // CKA_ID of the key pair

	ModulePath string // absolute path of the module
	PINSource  string // where the PIN comes from; for the caller to read
}

// ParseSelector reads a token's label, or an RFC 7512 URI: whatever starts with
// "pkcs11:". An attribute that would be ignored is refused, because a URI that
// is understood only in part may select the wrong token; so is one without a
// value. A PIN in the URI (pin-value) is refused too: such a URI ends up in argv
// and in logs. Its error is [ErrURI].
func ParseSelector(s string) (Selector, error) {
	const scheme = "pkcs11:"
	if len(s) < len(scheme) || !strings.EqualFold(s[:len(scheme)], scheme) {
		return Selector{Label: s}, nil
	}
	bad := func(err error, hint string) (Selector, error) {
		// The URI is not repeated: it may hold a PIN where none should be.
		return Selector{}, &Error{Op: "read the PKCS #11 URI", Token: scheme, Kind: ErrURI, Err: err, hint: hint}
	}
	path, query, _ := strings.Cut(s[len(scheme):], "?")
	if mentionsPIN(s) {
		return bad(errors.New("pin-value puts the PIN where others can read it"), "use pin-source=file:/path, or --pin-source")
	}
	for _, part := range []struct {
		attributes, separator string
		known                 []string
	}{
		{path, ";", []string{"token", "serial", "manufacturer", "model", "slot-id", "object", "id", "type"}},
		{query, "&", []string{"module-path", "pin-source"}},
	} {
		if part.attributes == "" {
			continue
		}
		for attribute := range strings.SplitSeq(part.attributes, part.separator) {
			name, value, _ := strings.Cut(attribute, "=")
			if !slices.Contains(part.known, name) {
				return bad(fmt.Errorf("attribute %q is not supported", name), "known are "+strings.Join(part.known, ", "))
			}
			if value == "" {
				return bad(fmt.Errorf("attribute %q has no value", name), "leave it out")
			}
		}
	}
	uri := pkcs11uri.New()
	if err := uri.Parse(scheme + s[len(scheme):]); err != nil {
		return bad(err, "RFC 7512 gives the form: pkcs11:token=LABEL;object=PAIR?module-path=/path/module.so")
	}
	get := func(name string) string { v, _ := uri.GetPathAttribute(name, false); return v }
	sel := Selector{
		Label: get("token"), Serial: get("serial"), Manufacturer: get("manufacturer"), Model: get("model"),
		Object: get("object"), ID: []byte(get("id")),
	}
	if slot := get("slot-id"); slot != "" {
		n, err := strconv.ParseUint(slot, 10, 64)
		if err != nil {
			return bad(fmt.Errorf("slot-id %q is not a number", slot), "")
		}
		id := uint(n)
		sel.SlotID = &id
	}
	if kind := get("type"); kind != "" && kind != "private" {
		return bad(fmt.Errorf("type %q is not a key pair", kind), "leave type out, or use type=private")
	}
	sel.ModulePath, _ = uri.GetQueryAttribute("module-path", false)
	sel.PINSource, _ = uri.GetQueryAttribute("pin-source", false)
	return sel, nil
}

// mentionsPIN finds pin-value anywhere, however it is written: after the wrong
// separator it would be taken for a part of another value, and repeated in
// messages.
func mentionsPIN(uri string) bool {
	const name = "pin-value"
	plain, err := url.PathUnescape(uri)
	return strings.Contains(strings.ToLower(uri), name) || err == nil && strings.Contains(strings.ToLower(plain), name)
}

// matches says whether a token is one the selector names.
func (s Selector) matches(info Info) bool {
	same := func(want, have string) bool { return want == "" || want == have }
	return same(s.Label, info.Label) && same(s.Serial, info.Serial) &&
		same(s.Manufacturer, info.Manufacturer) && same(s.Model, info.Model) &&
		(s.SlotID == nil || *s.SlotID == info.Slot)
}

// String names the token for people.
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
		return "any"
	}
}
