package blob

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// With -update the examples, the fuzzing seeds and docs/format.md are made
// anew, under new keys whose private halves are not kept. That breaks the
// promise that stored blobs stay readable, unless no release has made any.
var update = flag.Bool("update", false, "make the examples and docs/format.md anew")

func TestMain(m *testing.M) {
	flag.Parse()
	if *update {
		if err := updateExamples(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func example(name string) string { return filepath.Join("testdata", "example-"+name) }

// exampleContent is for the signer and a backup authority with an EC key,
// whose ephemeral key is P-256's base point.
func exampleContent(signer []byte) Content {
	return Content{AES256, []Recipient{
		transport(signer, crypto.SHA256),
		{SubjectKeyID: bytes.Repeat([]byte{0x0b}, 20), Agreement: &KeyAgreement{must(ecdh.P256().NewPublicKey(basePoint)), bytes.Repeat([]byte{0xa2}, 40)}},
	}}
}

func readExample(t testing.TB, name string) (der []byte, signer crypto.PublicKey) {
	t.Helper()
	der, err := os.ReadFile(example(name + ".cms"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(example(name + ".pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return der, cert.PublicKey
}

func TestStoredObjectsStayReadable(t *testing.T) {
	t.Parallel()
	for _, s := range signers {
		der, signer := readExample(t, s.name)
		b, err := parseAndVerify(der, []crypto.PublicKey{signer}, payroll().Place())
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if diff := cmp.Diff(payroll(), b.Descriptor()); diff != "" {
			t.Errorf("%s: %s", s.name, diff)
		}
		want := exampleContent(must(SubjectKeyID(signer))).Recipients
		if diff := cmp.Diff(sorted(want), sorted(b.Recipients()), recipientsEqual); diff != "" {
			t.Errorf("%s: %s", s.name, diff)
		}
		if b.SignatureScheme() != s.scheme || b.Algorithm() != AES256 || !b.SigningTime().Equal(signed) {
			t.Errorf("%s: %v, %v, %v", s.name, b.SignatureScheme(), b.Algorithm(), b.SigningTime())
		}
	}
	der, signer := readExample(t, "members")
	v, err := parseAndVerifyMembers(der, []crypto.PublicKey{signer}, 2)
	if err != nil {
		t.Fatal(err)
	}
	l, want := v.List(), twoMembers()
	for i := range l.Members {
		want.Members[i].Certificate = l.Members[i].Certificate
	}
	if diff := cmp.Diff(want, l, sameMembers); diff != "" {
		t.Error(diff)
	}
}

func updateExamples() error {
	var failed error
	write := func(name string, data []byte) {
		failed = errors.Join(failed, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, data, 0o644))
	}
	seed := func(target string, data []byte) {
		sum := sha256.Sum256(data)
		write(filepath.Join("testdata", "fuzz", target, hex.EncodeToString(sum[:8])), fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", data))
	}
	for _, s := range signers {
		key := s.key()
		der := must(Sign(payroll(), exampleContent(keyID(key)), key, s.scheme, signed))
		write(example(s.name+".cms"), der)
		write(example(s.name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate(key).Raw}))
		seed("FuzzParse", der)
	}
	list := must(SignMembers(twoMembers(), ownerP256(), ECDSA, signed))
	write(example("members.cms"), list)
	write(example("members.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate(ownerP256()).Raw}))
	seed("FuzzParseMembers", list)
	seed("FuzzParseMembers", must(twoMembers().marshal()))
	seed("FuzzParseMembers", indefinite(0x30, contentOf(list)))

	der := must(Sign(payroll(), exampleContent(keyID(ownerP256())), ownerP256(), ECDSA, signed))
	seed("FuzzParse", der[:len(der)-1])
	seed("FuzzParse", indefinite(0x30, contentOf(der)))
	seed("FuzzParse", longForm(0x30, contentOf(der)))
	seed("FuzzParse", must(payroll().marshal()))
	seed("FuzzParse", must(exampleContent(keyID(ownerP256())).marshal()))
	return failed
}
