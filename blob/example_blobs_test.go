package blob

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// With -update the example in docs/format.md is printed anew, and examples that
// are missing are made, with seeds for the fuzzer, under new keys whose private
// halves are not kept. An example that is there stays: it is the promise that
// what was stored once can be read.
var update = flag.Bool("update", false, "print the example in docs/format.md anew, and make missing ones")

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
	return Content{Algorithm: AES256, Recipients: []Recipient{
		transport(signer, crypto.SHA256),
		{SubjectKeyID: bytes.Repeat([]byte{0x0b}, 20), Agreement: &KeyAgreement{must(ecdh.P256().NewPublicKey(basePoint)), bytes.Repeat([]byte{0xa2}, 40)}},
	}}
}

// exampleLegacy has all that a legacy key can have.
func exampleLegacy() Descriptor {
	d := payroll()
	d.Purpose, d.Legacy = Decrypt, &Legacy{KeySize: 5, EffectiveBits: 40, Salt: make([]byte, 11)}
	return d
}

func exampleLegacyContent(signer []byte) Content {
	return Content{Algorithm: RC2, Recipients: []Recipient{transport(signer, crypto.SHA256)}}
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
		b, err := parseAndVerify(der, []Party{{Key: signer}}, payroll().Place())
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
	v, err := parseAndVerifyMembers(der, []Party{{Key: signer}}, 2)
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

	der, signer = readExample(t, "signing-members")
	if v, err = parseAndVerifyMembers(der, []Party{{Key: signer}}, 2); err != nil {
		t.Fatal(err)
	}
	l, want = v.List(), signingMembers()
	if id := must(SubjectKeyID(l.Members[0].Signer())); !bytes.Equal(id, v.SignerKeyID()) {
		t.Errorf("the first member signs with %x", id)
	}
	for i := range l.Members {
		want.Members[i].Certificate, want.Members[i].Signing = l.Members[i].Certificate, l.Members[i].Signing
	}
	if diff := cmp.Diff(want, l, sameMembers); diff != "" {
		t.Error(diff)
	}

	der, signer = readExample(t, "recovered")
	b, err := parseAndVerify(der, []Party{{Key: signer}}, payroll().Place())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(recovered(), b.Descriptor()); diff != "" {
		t.Error(diff)
	}

	der, signer = readExample(t, "legacy")
	if b, err = parseAndVerify(der, []Party{{Key: signer}}, payroll().Place()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exampleLegacy(), b.Descriptor()); diff != "" || b.Algorithm() != RC2 {
		t.Error(b.Algorithm(), diff)
	}

	der, signer = readExample(t, "derived")
	if b, err = parseAndVerify(der, []Party{{Key: signer}}, derivedDescriptor().Place()); err != nil {
		t.Fatal(err)
	}
	if got, ok := b.Derivation(); !ok || got != *derivedContent(Scrypt).Derivation {
		t.Errorf("derived: %+v", got)
	}

	der, signer = readExample(t, "recovered-members")
	if v, err = parseAndVerifyMembers(der, []Party{{Key: signer}}, 2); err != nil {
		t.Fatal(err)
	}
	l, want = v.List(), recoveredMembers()
	for i := range l.Members {
		want.Members[i].Certificate = l.Members[i].Certificate
	}
	if diff := cmp.Diff(want, l, sameMembers); diff != "" {
		t.Error(diff)
	}

	der, signer = readExample(t, "proof")
	p, err := parseAndVerifyProof(der, []Party{{Key: signer}}, threeProven().KeyringID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(threeProven(), p.Proof()); diff != "" {
		t.Error(diff)
	}
}

func updateExamples() error {
	for _, s := range signers {
		sign := func() ([]byte, error) {
			return signDER(payroll(), exampleContent(keyID(s.key())), s.key(), s.scheme, signed)
		}
		if err := makeExample(s.name, s.key(), "FuzzParse", sign); err != nil {
			return err
		}
	}
	key := ownerP256()
	for _, e := range []struct {
		name, target string
		sign         func() ([]byte, error)
	}{
		{"members", "FuzzParseMembers", func() ([]byte, error) { return SignMembers(twoMembers(), Signer{Key: key, Scheme: ECDSA}, signed) }},
		{"recovered", "FuzzParse", func() ([]byte, error) {
			return signDER(recovered(), exampleContent(keyID(key)), key, ECDSA, signed)
		}},
		{"legacy", "FuzzParse", func() ([]byte, error) {
			return signDER(exampleLegacy(), exampleLegacyContent(keyID(key)), key, ECDSA, signed)
		}},
		{"derived", "FuzzParse", func() ([]byte, error) {
			return signDER(derivedDescriptor(), derivedContent(Scrypt), key, ECDSA, signed)
		}},
		{"recovered-members", "FuzzParseMembers", func() ([]byte, error) {
			return SignMembers(recoveredMembers(), Signer{Key: key, Scheme: ECDSA}, signed)
		}},
		{"proof", "FuzzParseProof", func() ([]byte, error) { return SignProof(threeProven(), Signer{Key: key, Scheme: ECDSA}, signed) }},
	} {
		if err := makeExample(e.name, key, e.target, e.sign); err != nil {
			return err
		}
	}
	if err := makeExample("signing-members", ownerP384(), "FuzzParseMembers", func() ([]byte, error) {
		return SignMembers(signingMembers(), Signer{Key: ownerP384(), Scheme: ECDSA}, signed)
	}); err != nil {
		return err
	}
	doc, err := os.ReadFile(formatDoc)
	if err != nil {
		return err
	}
	der, err := os.ReadFile(example("pss.cms"))
	if err != nil {
		return err
	}
	if doc, err = withExample(doc, der); err != nil {
		return err
	}
	return os.WriteFile(formatDoc, doc, 0o644)
}

// makeExample stores an object with its signer's certificate, and seeds the
// fuzzer with the object, its BER, a cut one and what is signed.
func makeExample(name string, key crypto.Signer, target string, sign func() ([]byte, error)) error {
	if _, err := os.Stat(example(name + ".cms")); err == nil {
		return nil
	}
	der, err := sign()
	if err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate(key).Raw})
	failed := errors.Join(os.WriteFile(example(name+".cms"), der, 0o644), os.WriteFile(example(name+".pem"), cert, 0o644))
	seeds := filepath.Join("testdata", "fuzz", target)
	failed = errors.Join(failed, os.MkdirAll(seeds, 0o755))
	content, descriptor := signedParts(der)
	for kind, data := range map[string][]byte{
		"whole":      der,
		"cut":        der[:len(der)-1],
		"indefinite": indefinite(0x30, contentOf(der)),
		"long":       longForm(0x30, contentOf(der)),
		"signed":     content,
		"descriptor": descriptor,
	} {
		if data == nil {
			continue
		}
		failed = errors.Join(failed, os.WriteFile(filepath.Join(seeds, name+"-"+kind), fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", data), 0o644))
	}
	return failed
}

// signedParts is what an object's signature is about; only a key blob has a
// descriptor.
func signedParts(der []byte) (content, descriptor []byte) {
	for _, p := range []profile{keyBlob, derived, memberList, proof} {
		if s, err := parseSignedData(p, der); err == nil {
			return s.content, s.attribute(oidKeyDescriptor)
		}
	}
	panic("no object")
}
