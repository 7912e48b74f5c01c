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
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// With -update the examples in docs/format.md are printed anew, and examples that
// are missing are made, with seeds for the fuzzer, under new keys whose private
// halves are not kept. An example that is there stays: it is the promise that
// what was stored once can be read.
var update = flag.Bool("update", false, "print the examples in docs/format.md anew, and make missing ones")

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
	return Content{Algorithm: keyspec.AES256, Recipients: []Recipient{
		transport(signer, crypto.SHA256),
		{Identifier: bytes.Repeat([]byte{0x0b}, 20), Key: &keyspec.KeyAgreement{Ephemeral: must(ecdh.P256().NewPublicKey(basePoint)), EncryptedKey: bytes.Repeat([]byte{0xa2}, 40)}},
	}}
}

// exampleLegacy has all that a legacy key can have.
func exampleLegacy() Descriptor {
	d := payroll()
	d.Purpose, d.Legacy = keyspec.Decrypt, &Legacy{KeySize: 5, EffectiveBits: 40, Salt: make([]byte, 11)}
	return d
}

func exampleLegacyContent(signer []byte) Content {
	return Content{Algorithm: keyspec.RC2, Recipients: []Recipient{transport(signer, crypto.SHA256)}}
}

func readExample(t testing.TB, name string) (der []byte, signer crypto.PublicKey) {
	t.Helper()
	der = readFile(t, example(name+".cms"))
	block, _ := pem.Decode(readFile(t, example(name+".pem")))
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
		want := exampleContent(must(PublicKeyID(signer))).Recipients
		if diff := cmp.Diff(sorted(want), sorted(b.Recipients()), recipientsEqual); diff != "" {
			t.Errorf("%s: %s", s.name, diff)
		}
		if b.SignatureScheme() != s.scheme || b.Algorithm() != keyspec.AES256 || !b.SigningTime().Equal(signed) {
			t.Errorf("%s: %v, %v, %v", s.name, b.SignatureScheme(), b.Algorithm(), b.SigningTime())
		}
	}
	der, signer := readExample(t, "recovered")
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
	if diff := cmp.Diff(exampleLegacy(), b.Descriptor()); diff != "" || b.Algorithm() != keyspec.RC2 {
		t.Error(b.Algorithm(), diff)
	}

	der, signer = readExample(t, "derived")
	if b, err = parseAndVerify(der, []Party{{Key: signer}}, derivedDescriptor().Place()); err != nil {
		t.Fatal(err)
	}
	if got, ok := b.Derivation(); !ok || got != *derivedContent(Scrypt).Derivation {
		t.Errorf("derived: %+v", got)
	}

	der, signer = readExample(t, "proof")
	p, err := parseAndVerifyProof(der, []Party{{Key: signer}}, threeOpened().KeyringID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(threeOpened(), p.Proof()); diff != "" {
		t.Error(diff)
	}

	for name, want := range exampleCheckpoints {
		der, signer = readExample(t, name)
		v, err := parseAndVerifyCheckpoint(der, []Party{{Key: signer}})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want(), v.Checkpoint()); diff != "" {
			t.Error(name, diff)
		}
	}

	for name, list := range exampleMembers {
		got, err := ParseMembers(readFile(t, example(name+".der")))
		if err != nil {
			t.Fatal(err)
		}
		want := list()
		for i, m := range got.Members { // of keys that are made anew for each test
			want.Members[i].Certificate, want.Members[i].Signing = m.Certificate, m.Signing
		}
		if diff := cmp.Diff(want, got, sameMembers); diff != "" {
			t.Error(name, diff)
		}
	}
}

var exampleCheckpoints = map[string]func() Checkpoint{"checkpoint": seventh, "first-checkpoint": first}

var exampleMembers = map[string]func() MemberList{"members": twoMembers, "recovered-members": recoveredMembers, "signing-members": signingMembers}

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
	as := Signer{Key: key, Scheme: keyspec.ECDSA}
	for _, e := range []struct {
		name, target string
		sign         func() ([]byte, error)
	}{
		{"recovered", "FuzzParse", func() ([]byte, error) {
			return signDER(recovered(), exampleContent(keyID(key)), key, keyspec.ECDSA, signed)
		}},
		{"legacy", "FuzzParse", func() ([]byte, error) {
			return signDER(exampleLegacy(), exampleLegacyContent(keyID(key)), key, keyspec.ECDSA, signed)
		}},
		{"derived", "FuzzParse", func() ([]byte, error) {
			return signDER(derivedDescriptor(), derivedContent(Scrypt), key, keyspec.ECDSA, signed)
		}},
		{"checkpoint", "FuzzParseCheckpoint", func() ([]byte, error) { return bytesOf(SignCheckpoint(seventh(), as, signed)) }},
		{"first-checkpoint", "FuzzParseCheckpoint", func() ([]byte, error) { return bytesOf(SignCheckpoint(first(), as, signed)) }},
		{"proof", "FuzzParseProof", func() ([]byte, error) { return bytesOf(SignProof(threeOpened(), as, signed)) }},
	} {
		if err := makeExample(e.name, key, e.target, e.sign); err != nil {
			return err
		}
	}
	for name, list := range exampleMembers {
		if err := makeListExample(name, list); err != nil {
			return err
		}
	}
	doc, err := os.ReadFile(formatDoc)
	if err != nil {
		return err
	}
	if doc, err = withExamples(doc); err != nil {
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
	content, descriptor := signedParts(der)
	seeds := seedsOf(der)
	seeds["signed"] = content
	if descriptor != nil {
		seeds["descriptor"] = descriptor
	}
	return errors.Join(failed, writeSeeds(target, name, seeds))
}

// makeListExample is makeExample for a list of members, which has no signature.
func makeListExample(name string, list func() MemberList) error {
	if _, err := os.Stat(example(name + ".der")); err == nil {
		return nil
	}
	der, err := MarshalMembers(list())
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(example(name+".der"), der, 0o644), writeSeeds("FuzzParseMembers", name, seedsOf(der)))
}

// seedsOf returns the object, its BER, and a cut one.
func seedsOf(der []byte) map[string][]byte {
	return map[string][]byte{
		"whole":      der,
		"cut":        der[:len(der)-1],
		"indefinite": indefinite(0x30, contentOf(der)),
		"long":       longForm(0x30, contentOf(der)),
	}
}

func writeSeeds(target, name string, seeds map[string][]byte) error {
	dir := filepath.Join("testdata", "fuzz", target)
	failed := os.MkdirAll(dir, 0o755)
	for kind, data := range seeds {
		failed = errors.Join(failed, os.WriteFile(filepath.Join(dir, name+"-"+kind), fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", data), 0o644))
	}
	return failed
}

func bytesOf[V interface{ Bytes() []byte }](v V, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return v.Bytes(), nil
}

// signedParts is what an object's signature is about; only a key blob has a
// descriptor.
func signedParts(der []byte) (content, descriptor []byte) {
	for _, p := range []profile{keyBlob.profile, derived.profile, checkpoint.profile, proof.profile} {
		if s, err := parseSignedData(p, der); err == nil {
			return s.content, s.attribute(oidKeyDescriptor)
		}
	}
	panic("no object")
}
