package blob

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// issued is a certificate as another authority would issue it: with a
// subjectKeyIdentifier of its own choice, or nil for none.
func issued(key crypto.Signer, subjectKeyID []byte) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "holder"},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	if subjectKeyID != nil {
		value := must(asn1.Marshal(subjectKeyID))
		template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 14}, Value: value}}
	}
	authority := certificate(strangerP256())
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, authority, key.Public(), strangerP256()))))
}

// sha1ID is the identifier that most issuers choose (RFC 5280 §4.2.1.2, method 1).
func sha1ID(key crypto.Signer) []byte {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		PublicKey asn1.BitString
	}
	must(asn1.Unmarshal(must(x509.MarshalPKIXPublicKey(key.Public())), &info))
	sum := sha1.Sum(info.PublicKey.Bytes)
	return sum[:]
}

func TestTheIdentifierIsThatOfTheCertificate(t *testing.T) {
	t.Parallel()
	key := ownerP256()
	for _, test := range []struct {
		name      string
		extension []byte
		want      []byte // nil: refused
	}{
		{"SHA-1 of the key", sha1ID(key), sha1ID(key)},
		{"one byte", []byte{1}, []byte{1}},
		{"64 bytes", bytes.Repeat([]byte{7}, 64), bytes.Repeat([]byte{7}, 64)},
		{"no extension: the hash of the key", nil, keyID(key)},
		{"an empty extension", []byte{}, nil},
		{"65 bytes", make([]byte, 65), nil},
		{"10 KiB", make([]byte, 10<<10), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := issued(key, test.extension)
			id, err := Identifier(c)
			if !bytes.Equal(id, test.want) || (err == nil) != (test.want != nil) {
				t.Fatalf("identifier %x, %v", id, err)
			}
			l := twoMembers()
			l.Members[0].Certificate = c
			der, err := MarshalMembers(l)
			p, proofErr := SignProof(threeOpened(), Signer{Key: key, Scheme: keyspec.ECDSA, ID: test.extension}, signed)
			if test.want == nil {
				if !errors.Is(err, ErrUnknown) || der != nil {
					t.Errorf("in a list: %d bytes, %v", len(der), err)
				}
				if !errors.Is(proofErr, ErrUnknown) || p != nil {
					t.Errorf("as a signer: %v, %v", p, proofErr)
				}
				return
			}
			if err != nil || proofErr != nil {
				t.Fatal(err, proofErr)
			}
			v, err := parseAndVerifyProof(p.Bytes(), []Party{must(PartyOf(c))}, threeOpened().KeyringID)
			if err != nil || !bytes.Equal(v.SignerKeyID(), keyID(key)) || !bytes.Equal(v.SignerIdentifier(), test.want) {
				t.Errorf("the proof: %v", err)
			}
		})
	}
}

// A signature goes by the identifier of a certificate in every kind of object, and what
// was verified still says whose key it was.
func TestSignersGoByTheIdentifierOfTheirCertificate(t *testing.T) {
	t.Parallel()
	key := ownerP256()
	c := issued(key, sha1ID(key))
	as, trusted := Signer{Key: key, Scheme: keyspec.ECDSA, ID: sha1ID(key)}, []Party{must(PartyOf(c))}
	check := func(t *testing.T, v interface {
		SignerIdentifier() []byte
		SignerKeyID() []byte
	}, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(v.SignerIdentifier(), sha1ID(key)) || !bytes.Equal(v.SignerKeyID(), keyID(key)) {
			t.Errorf("signer %x, key %x", v.SignerIdentifier(), v.SignerKeyID())
		}
	}
	content := Content{Algorithm: keyspec.AES256, Recipients: []Recipient{transport(sha1ID(ownerRSA()), crypto.SHA1)}}
	b, err := Sign(payroll(), content, as, signed)
	if err != nil {
		t.Fatal(err)
	}
	b, err = parseAndVerify(b.Bytes(), trusted, payroll().Place())
	check(t, b, err)
	if _, ok := b.Recipient(sha1ID(ownerRSA())); !ok {
		t.Error("the recipient is not there")
	}
	if b, err = Sign(derivedDescriptor(), derivedContent(Scrypt), as, signed); err != nil {
		t.Fatal(err)
	}
	b, err = parseAndVerify(b.Bytes(), trusted, derivedDescriptor().Place())
	check(t, b, err)
	p, err := parseAndVerifyProof(must(SignProof(threeOpened(), as, signed)).Bytes(), trusted, threeOpened().KeyringID)
	check(t, p, err)
	s, err := parseAndVerifyCheckpoint(must(SignCheckpoint(seventh(), as, signed)).Bytes(), trusted)
	check(t, s, err)

	// The name chooses the key, and does not stand in for it.
	_, err = parseAndVerify(b.Bytes(), []Party{{Key: strangerP256().Public(), ID: sha1ID(key)}}, derivedDescriptor().Place())
	wantError(t, err, ErrSignature, "")
	_, err = parseAndVerify(b.Bytes(), []Party{{Key: key.Public()}}, derivedDescriptor().Place())
	wantError(t, err, ErrUntrusted, "none of the 1 trusted keys")
	if _, err := b.WithCertificate(c); err != nil {
		t.Error(err)
	}
	if _, err := b.WithCertificate(certificate(key)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a certificate of the key under another identifier: %v", err)
	}
}

func TestTwoMembersDoNotShareAnIdentifier(t *testing.T) {
	t.Parallel()
	shared := keyID(ownerP256())
	for name, edit := range map[string]func(*MemberList){
		"of two members":                func(l *MemberList) { l.Members[1].Certificate = issued(strangerP256(), shared) },
		"of a member's own signing key": func(l *MemberList) { l.Members[0].Signing = issued(ownerP384(), shared) },
		"of another's signing key":      func(l *MemberList) { l.Members[1].Signing = issued(ownerP384(), shared) },
		"that of a key without an extension": func(l *MemberList) {
			l.Members[0].Certificate, l.Members[1].Certificate = issued(ownerP256(), nil), issued(strangerP256(), shared)
		},
	} {
		l := twoMembers()
		edit(&l)
		if err := l.validate(); err == nil || !strings.Contains(err.Error(), "names another key as well") {
			t.Errorf("%s: %v", name, err)
		}
		content := must(l.marshal())
		if _, err := ParseMembers(content); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s, in a list that is read: %v", name, err)
		}
	}
}
