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

func TestPaths(t *testing.T) {
	t.Parallel()
	if got := KeyPath("payroll/eu", 12, 3); got != "keys/payroll/eu/12.3.cms" {
		t.Error(got)
	}
	if got := MembersPath(7); got != "keyring/7.cms" {
		t.Error(got)
	}
	name, version, revision, ok := ParseKeyPath("keys/payroll/eu/2147483647.3.cms")
	if name != "payroll/eu" || version != MaxNumber || revision != 3 || !ok {
		t.Error(name, version, revision, ok)
	}
	if n, ok := ParseMembersPath("keyring/2147483647.cms"); n != MaxNumber || !ok {
		t.Error(n, ok)
	}
	sum := "ab" + strings.Repeat("00", 30) + "cd"
	holder := strings.Repeat("0", 39) + "f"
	if got := ProofPath(unhex(holder), 12); got != "proofs/"+holder+"/12.cms" {
		t.Error(got)
	}
	if keyID, n, ok := ParseProofPath("proofs/" + holder + "/2147483647.cms"); !bytes.Equal(keyID, unhex(holder)) || n != MaxNumber || !ok {
		t.Error(keyID, n, ok)
	}
	for _, path := range []string{
		"proofs", "proofs/", "proofs/1.cms", "proofs/" + holder, "proofs/" + holder + "/", "proofs/" + holder + "/.cms", "proofs/" + holder + "/1", "proofs/" + holder + "/1.sha256",
		"proofs/" + holder + "/0.cms", "proofs/" + holder + "/01.cms", "proofs/" + holder + "/-1.cms", "proofs/" + holder + "/1.1.cms", "proofs/" + holder + "/2147483648.cms",
		"proofs/" + holder + "/x/1.cms", "proofs/" + holder + "//1.cms", "proofs/" + holder + "/../1.cms", "proofs/" + holder + "/1.cms/", "proofs/" + strings.ToUpper(holder) + "/1.cms",
		"proofs/" + holder[1:] + "/1.cms", "proofs/" + holder[2:] + "/1.cms", "proofs/" + holder + "0/1.cms", "proofs/" + sum + "/1.cms", "proofs/g" + holder[1:] + "/1.cms",
		"proofs/../" + holder + "/1.cms", "/proofs/" + holder + "/1.cms", ProofPath(nil, 1), ProofPath(make([]byte, 19), 1), ProofPath(make([]byte, 20), 0), ProofPath(make([]byte, 20), -1),
		"", "keys", "keys/", "keys/payroll", "keys/1.1.cms", "keys//1.1.cms", "keys/payroll/1.cms", "keys/payroll/1.1",
		"keys/payroll/01.1.cms", "keys/payroll/1.01.cms", "keys/payroll/0.1.cms", "keys/payroll/1.0.cms",
		"keys/payroll/+1.1.cms", "keys/payroll/-1.1.cms", "keys/payroll/1.1.1.cms", "keys/payroll/1..cms", "keys/payroll/.1.cms",
		"keys/payroll/2147483648.1.cms", "keys/payroll/99999999999999999999.1.cms", "keys/payroll/1e3.1.cms", "keys/payroll/0x1.1.cms",
		"keys/payroll/1_0.1.cms", "keys/payroll/ 1.1.cms", "keys/payroll/1.1.CMS", "keys/payroll/1.1.cms/", "keys/payroll/1.1.cms.cms",
		"keys/Payroll/1.1.cms", "keys/../keys/payroll/1.1.cms", "keys/payroll/../1.1.cms", "/keys/payroll/1.1.cms", "./keys/payroll/1.1.cms",
		"keys/payroll/.tmp-1.1.cms", "keys/x.cms/1.1.cms", "keyring/payroll/1.1.cms",
		"keyring", "keyring/", "keyring/.cms", "keyring/0.cms", "keyring/01.cms", "keyring/-1.cms", "keyring/1.1.cms", "keyring/2147483648.cms", "keyring/1", "keyring//1.cms",
	} {
		if name, v, r, ok := ParseKeyPath(path); ok {
			t.Errorf("%q is key %q %d.%d", path, name, v, r)
		}
		if n, ok := ParseMembersPath(path); ok {
			t.Errorf("%q is member list %d", path, n)
		}
		if keyID, n, ok := ParseProofPath(path); ok {
			t.Errorf("%q is proof %d of %x", path, n, keyID)
		}
		if err := validPath(path); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", path, err)
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
