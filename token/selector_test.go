package token

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

func TestParseSelector(t *testing.T) {
	slot := uint(7)
	for _, tt := range []struct {
		name, in string
		want     Selector
	}{
		{"a word is a label", "My HSM", Selector{Label: "My HSM"}},
		{"a label may look like another URI", "http://x", Selector{Label: "http://x"}},
		{"nothing matches every token", "", Selector{}},
		{"an empty URI matches every token", "pkcs11:", Selector{ID: []byte{}}},
		{"token is the label", "pkcs11:token=My%20HSM", Selector{Label: "My HSM", ID: []byte{}}},
		{"the scheme has no case", "PKCS11:token=a", Selector{Label: "a", ID: []byte{}}},
		{"a semicolon in a label is escaped", "pkcs11:token=a%3Bb", Selector{Label: "a;b", ID: []byte{}}},
		{"a plus is no blank", "pkcs11:token=a+b", Selector{Label: "a+b", ID: []byte{}}},
		{"serial, model and manufacturer select too", "pkcs11:serial=0f;model=m;manufacturer=v",
			Selector{Serial: "0f", Model: "m", Manufacturer: "v", ID: []byte{}}},
		{"what fills a field up is not a part of it, as p11tool writes it",
			"pkcs11:model=SW%20%20%20TPM%00%00%00%00%00%00%00;manufacturer=IBM%20%20%00;serial=0000000000000000;token=office%20%20",
			Selector{Label: "office", Serial: "0000000000000000", Model: "SW   TPM", Manufacturer: "IBM", ID: []byte{}}},
		{"a pair's label is no field that is filled up", "pkcs11:object=pair%20", Selector{Object: "pair ", ID: []byte{}}},
		{"object and id name the pair", "pkcs11:object=pair;id=%01%ff;type=private",
			Selector{Object: "pair", ID: []byte{1, 0xff}}},
		{"a slot is a number", "pkcs11:slot-id=7", Selector{SlotID: &slot, ID: []byte{}}},
		{"the query names module and PIN source", "pkcs11:token=a?module-path=/m.so&pin-source=file:/pin",
			Selector{Label: "a", ID: []byte{}, ModulePath: "/m.so", PINSource: "file:/pin"}},
		{"a module has a name", "pkcs11:?module-name=softhsm2", Selector{ID: []byte{}, ModuleName: "softhsm2"}},
		{"a PIN is taken", "pkcs11:token=a?pin-value=1234", Selector{Label: "a", ID: []byte{}, PINValue: []byte("1234")}},
		{"a PIN may have anything in it, escaped", "pkcs11:?pin-value=%31%26%3b+%00%C3%A4=?/&module-path=/m.so",
			Selector{ID: []byte{}, ModulePath: "/m.so", PINValue: []byte("1&;+\x00\u00e4=?/")}},
		{"blanks before the scheme", " \t\n\u00a0pkcs11:token=a?pin-value=1234", Selector{Label: "a", ID: []byte{}, PINValue: []byte("1234")}},
		{"a label with a blank before it", " a", Selector{Label: " a"}},
		{"a PIN may be called like its attribute", "pkcs11:?pin-value=pin%2Dvalue", Selector{ID: []byte{}, PINValue: []byte("pin-value")}},
		{"a PIN comes from a command", "pkcs11:?pin-source=%7Cpass%20hsm", Selector{ID: []byte{}, PINSource: "|pass hsm"}},
		{"a PIN comes from a relative path", "pkcs11:?pin-source=pin", Selector{ID: []byte{}, PINSource: "pin"}},
		{"a file may be said to be on this machine", "pkcs11:?pin-source=file://localhost/pin", Selector{ID: []byte{}, PINSource: "file://localhost/pin"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseSelector(tt.in)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%q gives %+v, %v; want %+v", tt.in, got, err, tt.want)
			}
		})
	}
}

func TestParseSelectorRefuses(t *testing.T) {
	const secret = "s3cretPIN"
	for _, tt := range []struct{ name, in string }{
		{"a PIN twice", "pkcs11:token=a?pin-value=1&pin-value=" + secret},
		{"a PIN beside its source", "pkcs11:token=a?pin-source=/p&pin-value=" + secret},
		{"a PIN beside an attribute that is not known", "pkcs11:token=a?x=" + secret + "&pin-value=1"},
		{"a PIN cut by its own separator", "pkcs11:token=a?pin-value=1&" + secret},
		{"a PIN cut by its own separator at the end", "pkcs11:token=a?pin-value=" + secret + "&"},
		{"a PIN with the wrong separator", "pkcs11:token=a?pin-value=" + secret + ";module-path=/m"},
		{"a PIN with a blank", "pkcs11:token=a?pin-value=" + secret + " "},
		{"a PIN with a broken escape", "pkcs11:token=a?pin-value=" + secret + "%z"},
		{"a PIN for a slot that is no number", "pkcs11:slot-id=" + secret + "?pin-value=1"},
		{"a PIN for a token that nobody has", "pkcs11:type=" + secret + "?pin-value=1"},
		{"a PIN of nothing", "pkcs11:token=a?pin-value="},
		{"a PIN in a URI behind something", "x pkcs11:token=a?pin-value=" + secret},
		{"a PIN in a URI behind what nobody sees", "\ufeffPKCS11:token=a?PIN-VALUE=" + secret},
		{"a PIN in what is no URI", "token=a?pin%2Dvalue=" + secret},
		{"a PIN in the path", "pkcs11:token=a;pin-value=" + secret},
		{"a PIN after the wrong separator", "pkcs11:token=a&pin-value=" + secret},
		{"a PIN after the wrong separator of the query", "pkcs11:token=a?module-path=/m;pin-value=" + secret},
		{"a PIN under an escaped name", "pkcs11:token=a?pin%2dvalue=" + secret},
		{"a PIN behind an upper-case scheme", "PKCS11:token=a?PIN-VALUE=" + secret},
		{"a PIN beside a broken escape", "pkcs11:token=%zz;pin-value=" + secret},
		{"a query attribute that is not known", "pkcs11:token=a?x=1"},
		{"a path attribute that is not known", "pkcs11:token=a;library-version=1"},
		{"a vendor's attribute", "pkcs11:token=a?x-vendor=1"},
		{"a slot's description", "pkcs11:slot-description=a"},
		{"a module by path and name", "pkcs11:?module-name=m&module-path=/m.so"},
		{"a module's name that is a path", "pkcs11:?module-name=../m"},
		{"a PIN source of another scheme", "pkcs11:?pin-source=https://example.org/pin"},
		{"a PIN source on another machine", "pkcs11:?pin-source=file://other/pin"},
		{"a PIN source that is a relative URI", "pkcs11:?pin-source=file:pin"},
		{"a PIN source that is no command", "pkcs11:?pin-source=|%20"},
		{"a query attribute in the path", "pkcs11:module-path=/m.so"},
		{"a path attribute in the query", "pkcs11:?token=a"},
		{"an attribute with upper case", "pkcs11:Token=a"},
		{"an attribute twice", "pkcs11:token=a;token=b"},
		{"an attribute without a value", "pkcs11:token="},
		{"an attribute of what fills it up alone", "pkcs11:model=%00%20"},
		{"an attribute without an equals sign", "pkcs11:token"},
		{"an attribute without a name", "pkcs11:=a"},
		{"a semicolon at the end", "pkcs11:token=a;"},
		{"a broken escape", "pkcs11:token=%zz"},
		{"half an escape", "pkcs11:token=%4"},
		{"a slot that is no number", "pkcs11:slot-id=x"},
		{"a negative slot", "pkcs11:slot-id=-1"},
		{"a slot with a sign", "pkcs11:slot-id=+1"},
		{"a slot beyond 64 bits", "pkcs11:slot-id=99999999999999999999"},
		{"a relative module path", "pkcs11:token=a?module-path=m.so"},
		{"a public key", "pkcs11:object=a;type=public"},
		{"a certificate", "pkcs11:object=a;type=cert"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseSelector(tt.in)
			want(t, err, ErrURI)
			if !reflect.DeepEqual(got, Selector{}) {
				t.Errorf("a selector comes with the error: %+v", got)
			}
			if text := err.Error() + facts(t, err); strings.Contains(text, secret) {
				t.Errorf("the PIN is in the message %q", text)
			}
		})
	}
}

func TestSelectorString(t *testing.T) {
	slot := uint(3)
	for want, sel := range map[string]Selector{
		"a": {Label: "a", Serial: "b"}, "serial b": {Serial: "b"}, "slot 3": {SlotID: &slot},
		"m": {Model: "m"}, "v": {Manufacturer: "v"}, "": {},
	} {
		if got := sel.String(); got != want {
			t.Errorf("%+v is called %q, want %q", sel, got, want)
		}
	}
}

// Of an accepted string only PINValue contains the PIN, and a refused one is not repeated.
func FuzzParseSelector(f *testing.F) {
	for _, seed := range []string{
		"", "label", "pkcs11:", "pkcs11:token=a%20b;serial=01;object=pair;id=%00%ff?module-path=/m.so&pin-source=file:/p",
		"pkcs11:slot-id=18446744073709551615", "pkcs11:token=%", "pkcs11:token=a?pin-value=1234", "PKCS11:type=private",
		"pkcs11:token=a;token=b", "pkcs11:?", "pkcs11:;", "pkcs11:token=a&pin%2Dvalue=1", "\fpkcs11:", "\u2003PKCS11:token=a",
		"pkcs11:?pin-value=%31%26&module-name=soft", "pkcs11:?pin-value=%3b;", "pkcs11:?pin-source=|cat%20pin", "pkcs11:?pin-source=file:pin",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sel, err := ParseSelector(s)
		if err != nil {
			if !errors.Is(err, ErrURI) || !reflect.DeepEqual(sel, Selector{}) {
				t.Errorf("%+v, %v", sel, err)
			}
			return
		}
		uri := strings.TrimLeftFunc(s, unicode.IsSpace)
		if len(uri) < 7 || !strings.EqualFold(uri[:7], "pkcs11:") {
			if sel.Label != s {
				t.Errorf("label %q of %q", sel.Label, s)
			}
			return
		}
		for _, v := range []string{sel.Label, sel.Serial, sel.Manufacturer, sel.Model, sel.Object, string(sel.ID), sel.ModulePath, sel.ModuleName, sel.PINSource} {
			if strings.Contains(strings.ToLower(v), "pin-value") {
				t.Errorf("%q was taken", s)
			}
		}
		if sel.PINValue != nil && (len(sel.PINValue) == 0 || sel.PINSource != "") {
			t.Errorf("%q: PIN %q, source %q", s, sel.PINValue, sel.PINSource)
		}
		if sel.ModulePath != "" && sel.ModulePath[0] != '/' {
			t.Errorf("module path %q", sel.ModulePath)
		}
		if _, err := ParseSelector("pkcs11:token=x;" + uri[7:]); err == nil && sel.Label != "" {
			t.Errorf("%q: two labels were taken", s)
		}
	})
}
