package blob

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		rule string // part of the message, empty for a valid name
	}{
		{"payroll", ""},
		{"payroll/eu/2025-q1_v1.2", ""},
		{"a", ""},
		{"0", ""},
		{"1.1", ""},
		{"-", ""},
		{"_", ""},
		{"a..b", ""},
		{"a.", ""},
		{"cms", ""},
		{"a.cms.b", ""},
		{"keys", ""},
		{strings.Repeat("a", 128), ""},
		{strings.Repeat("a/", 63) + "a", ""},
		{"", "is empty"},
		{strings.Repeat("a", 129), "129 bytes, at most 128"},
		{strings.Repeat("a", 100<<20), "at most 128"},
		{"/", "empty segment"},
		{"/a", "empty segment"},
		{"a/", "empty segment"},
		{"a//b", "empty segment"},
		{".", "starts with '.'"},
		{"..", "starts with '.'"},
		{"../a", "starts with '.'"},
		{"a/..", "starts with '.'"},
		{"a/../b", "starts with '.'"},
		{"a/./b", "starts with '.'"},
		{".tmp-a", "starts with '.'"},
		{"a.cms", `ends in ".cms"`},
		{"a.cms/b", `ends in ".cms"`},
		{"1.1.cms", `ends in ".cms"`},
		{"Payroll", `the character 'P'`},
		{"pay roll", `the character ' '`},
		{"pay\x00roll", `the character '\x00'`},
		{"pay\nroll", `the character '\n'`},
		{`pay\roll`, `the character '\\'`},
		{"gehälter", `the character 'ä'`},
		{"pay\xffroll", `the character '�'`},
		{"c:", `the character ':'`},
		{"a@2", `the character '@'`},
	} {
		err := ValidName(test.name)
		switch {
		case test.rule == "" && err != nil:
			t.Errorf("%q: %v", test.name, err)
		case test.rule != "" && (!errors.Is(err, ErrName) || !strings.Contains(err.Error(), test.rule)):
			t.Errorf("%.200q: %v, want %q", test.name, err, test.rule)
		case err != nil && (len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\n\x00")):
			t.Errorf("message of %d bytes, or of two lines", len(err.Error()))
		}
	}
}

// The identifier is computed here from the keys' own encodings, in place of
// SubjectPublicKeyInfo.
func TestSubjectKeyIDIsThatOfRFC7093(t *testing.T) {
	t.Parallel()
	for _, s := range signers {
		var bits []byte
		switch pub := s.key().Public().(type) {
		case *rsa.PublicKey:
			bits = x509.MarshalPKCS1PublicKey(pub)
		case *ecdsa.PublicKey:
			bits = must(pub.Bytes())
		}
		sum := sha256.Sum256(bits)
		if got := keyID(s.key()); !bytes.Equal(got, sum[:20]) {
			t.Errorf("%s: %x, want %x", s.name, got, sum[:20])
		}
	}
}
