package token

import (
	"context"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/miekg/pkcs11"
)

// TestWhatCannotBeAPINIsNotSent recognizes a try by the token's flag: SoftHSM sets
// CKF_USER_PIN_COUNT_LOW after any wrong PIN.
func TestWhatCannotBeAPINIsNotSent(t *testing.T) {
	st := newToken(t)
	cfg := config(st)
	state := func() PIN {
		t.Helper()
		all, err := List(env.Module())
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range all {
			if info.Label == st.Label {
				return info.PIN
			}
		}
		t.Fatal("the token is not there")
		return PIN{}
	}
	try := func(pin string, anyLength bool) error {
		t.Helper()
		cfg.AnyPINLength = anyLength
		cfg.PIN = func(context.Context, Info) ([]byte, error) { return []byte(pin), nil }
		tok, err := Open(background, cfg)
		if err == nil {
			tok.Close()
		}
		return err
	}
	for name, tt := range map[string]struct{ pin, reason string }{
		"a byte order mark":              {"\ufeff" + st.PIN, "byte order mark"},
		"one at the end":                 {st.PIN + "\ufeff", "byte order mark"},
		"UTF-16, little endian":          {"\xff\xfe1\x002\x003\x004\x00", "byte order mark of UTF-16"},
		"UTF-16, big endian":             {"\xfe\xff\x001\x002\x003\x004", "byte order mark of UTF-16"},
		"UTF-16 without a mark":          {"1\x002\x003\x004\x00", "NUL"},
		"a NUL at the end":               {st.PIN + "\x00", "NUL"},
		"Latin-1":                        {"p\xe4ssword", "not UTF-8"},
		"half a character":               {st.PIN + "\xc3", "not UTF-8"},
		"a surrogate":                    {st.PIN + "\xed\xa0\x80", "not UTF-8"},
		"an escape":                      {"\x1b[200~" + st.PIN, "control character"},
		"a tab":                          {st.PIN + "\t", "control character"},
		"a line end":                     {st.PIN + "\r\n", "control character"},
		"DEL":                            {st.PIN + "\x7f", "control character"},
		"a control character of Latin-1": {st.PIN + "\u0085", "control character"},
		"too few bytes":                  {"123", "fewer than the 4 bytes"},
		"none":                           {"", "fewer than the 4 bytes"},
		"too many bytes":                 {strings.Repeat("1", 256), "more than the 255 bytes"},
	} {
		err := try(tt.pin, false)
		if !errors.Is(err, ErrPIN) || !strings.Contains(err.Error(), tt.reason) || strings.Contains(err.Error(), st.PIN) {
			t.Errorf("%s: %v", name, err)
		}
		if errors.As(err, new(pkcs11.Error)) {
			t.Errorf("%s: it was sent: %v", name, err)
		}
	}
	if state().CountLow {
		t.Fatal("a try is used up")
	}
	// With the override the token decides, which shows that the flag would have been set above.
	if err := try("123", true); !errors.Is(err, ErrPIN) || !errors.As(err, new(pkcs11.Error)) {
		t.Errorf("a short PIN that is to be sent: %v", err)
	}
	if !state().CountLow {
		t.Error("SoftHSM does not count tries: this test shows nothing")
	}
	if err := try(st.PIN, false); err != nil {
		t.Error(err)
	}
}

// SoftHSM announces no impossible limits; other tokens do.
func TestLengthsOfPINsThatCannotBeMeant(t *testing.T) {
	const unknown = pkcs11.CK_UNAVAILABLE_INFORMATION
	for name, tt := range map[string]struct {
		least, most uint
		length      int
		ok          bool
	}{
		"no limits":                   {0, 0, 500, true},
		"the least alone":             {4, 0, 500, true},
		"the least alone, and fewer":  {4, 0, 3, false},
		"the most below the least":    {8, 4, 6, true},
		"nothing known":               {unknown, unknown, 6, true},
		"the most is not known":       {4, unknown, 6, true},
		"the least is not known":      {unknown, 8, 9, true},
		"as many as may be":           {4, 8, 8, true},
		"one more":                    {4, 8, 9, false},
		"bytes count, not characters": {4, 8, -5, false},
	} {
		pin := []byte(strings.Repeat("1", max(tt.length, 0)) + strings.Repeat("ä", max(-tt.length, 0)))
		info := Info{minPIN: tt.least, maxPIN: tt.most}
		if e := checkPIN(pin, info, false); (e == nil) != tt.ok {
			t.Errorf("%s: %v", name, e)
		}
		if e := checkPIN(pin, info, true); e != nil {
			t.Errorf("%s: with any length: %v", name, e)
		}
	}
}

func FuzzCheckPIN(f *testing.F) {
	for _, seed := range []string{"", "1234", "\ufeff1234", "1\x002\x00", "p\xe4ss", "ä€𝄞", "\u0085"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, pin []byte) {
		e := checkPIN(pin, Info{Label: "office", minPIN: 4, maxPIN: 8}, false)
		if e == nil && (len(pin) < 4 || len(pin) > 8 || !utf8.Valid(pin) || strings.ContainsFunc(string(pin), unicode.IsControl)) {
			t.Errorf("%q is sent", pin)
		}
		if e != nil && !errors.Is(e, ErrPIN) {
			t.Errorf("%q: %v", pin, e)
		}
	})
}
