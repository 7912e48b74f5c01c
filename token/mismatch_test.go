package token

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"
)

// What other programs leave on a token without bad intent.
func TestInnocentObjectsBesideAPair(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	r := openRaw(t, st)
	p := makePair(t, tok, "pair", P256)
	write := func(object []*pkcs11.Attribute) {
		t.Helper()
		if _, err := r.CreateObject(r.session, object); err != nil {
			t.Fatal(err)
		}
	}
	told := func(want ...string) {
		t.Helper()
		again, err := tok.KeyPair(background, PairName{Label: "pair"})
		if err != nil || !again.public.Equal(p.public) {
			t.Fatalf("not found: %v", err)
		}
		mismatches, err := again.Mismatches(background)
		if err != nil || len(mismatches) != len(want) {
			t.Fatalf("%v, %v", mismatches, err)
		}
		for _, part := range want {
			found := false
			for _, s := range mismatches {
				found = found || strings.Contains(s.What, part) && !s.Unexplained
			}
			if !found {
				t.Errorf("%v does not say %q", mismatches, part)
			}
		}
		if own, err := again.Certificate(background); err != nil || own != nil {
			t.Errorf("a certificate of its own: %v, %v", own, err)
		}
		if issued, err := again.IssuedCertificate(background); err != nil || issued != nil {
			t.Errorf("an issued certificate: %v, %v", issued, err)
		}
	}

	// A certificate of the pair with a negative serial number, which Go does not parse (RFC 5280
	// §4.1.2.2 forbids it, and such certificates exist).
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "old"}, NotAfter: noExpiry}
	der, err := x509.CreateCertificate(rand.Reader, template, template, p.public, p)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(der, []byte{2, 1, 1})
	der[i+2] = 0x81
	write(certificateObject(der, p.ID(), "pair"))
	told("cannot be read (x509: negative serial number")

	authority := softwareKey(t)
	template = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Some CA"}, NotAfter: noExpiry, IsCA: true, BasicConstraintsValid: true}
	if der, err = x509.CreateCertificate(rand.Reader, template, template, &authority.PublicKey, authority); err != nil {
		t.Fatal(err)
	}
	write(certificateObject(der, p.ID(), "CA"))
	told("negative serial number", `the certification authority "CN=Some CA"`)

	// Another whole pair under the same id: each is found by its label.
	other := makePair(t, tok, "other", P256)
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		object := r.one(t, attr(pkcs11.CKA_CLASS, class), attr(pkcs11.CKA_LABEL, "other"))
		if err := r.SetAttributeValue(r.session, object, []*pkcs11.Attribute{attr(pkcs11.CKA_ID, p.ID())}); err != nil {
			t.Fatal(err)
		}
	}
	told("negative serial number", "Some CA", `the private key "other" has the same id`)
	again, err := tok.KeyPair(background, PairName{Label: "other"})
	if err != nil || !again.public.Equal(other.public) {
		t.Fatalf("the other pair: %v", err)
	}
	_, err = tok.KeyPair(background, PairName{ID: p.ID()})
	want(t, err, ErrAmbiguous)
	var found *PairsFound
	if !errors.As(err, &found) || len(found.Pairs) != 2 || found.Pairs[0].URI() == found.Pairs[1].URI() {
		t.Errorf("found %+v", found)
	}

	// Destroying one pair leaves everything that is not its own.
	if err := again.Destroy(background); err != nil {
		t.Fatal(err)
	}
	if left := r.find(t, attr(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE)); len(left) != 2 {
		t.Errorf("%d certificates are left", len(left))
	}
	told("negative serial number", "Some CA")
}
