package token

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/blob/openssltest"
	"github.com/miekg/pkcs11"
)

func TestCertify(t *testing.T) {
	st, p := newPair(t)
	if c, err := p.Certificate(background); c != nil || err != nil {
		t.Errorf("before: %v, %v", c, err)
	}
	c, err := p.Certify(background, "Zoë's key exchange key")
	if err != nil {
		t.Fatal(err)
	}
	if !p.public.Equal(c.PublicKey) || !bytes.Equal(c.SubjectKeyId, keyID(p.public)) || c.Subject.CommonName != "Zoë's key exchange key" {
		t.Errorf("key, id %x or name %q", c.SubjectKeyId, c.Subject)
	}
	if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		t.Error(err)
	}
	if c.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment || c.IsCA || !c.BasicConstraintsValid {
		t.Errorf("key usage %b, CA %v", c.KeyUsage, c.IsCA)
	}
	if !c.NotAfter.Equal(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)) || time.Since(c.NotBefore) > time.Minute || c.NotBefore.After(time.Now()) {
		t.Errorf("valid from %v to %v", c.NotBefore, c.NotAfter)
	}
	if c.SerialNumber.Sign() <= 0 || c.SerialNumber.BitLen() != 127 {
		t.Errorf("serial number %x", c.SerialNumber)
	}
	if got := CertifiedOAEPHash(c); got != crypto.SHA1 {
		t.Errorf("it promises %v, SoftHSM takes SHA-1 alone", got)
	}

	file := filepath.Join(t.TempDir(), "c.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := string(openssltest.Run(t, nil, "verify", "-check_ss_sig", "-CAfile", file, file)); !strings.Contains(out, ": OK") {
		t.Errorf("openssl verify: %s", out)
	}
	text := string(openssltest.Run(t, nil, "x509", "-in", file, "-noout", "-text"))
	for _, part := range []string{"Digital Signature, Key Encipherment", "CA:FALSE", "Dec 31 23:59:59 9999"} {
		if !strings.Contains(text, part) {
			t.Errorf("OpenSSL does not read %q in %s", part, text)
		}
	}

	_, err = p.Certify(background, "again")
	want(t, err, ErrTaken)
	tok := p.token
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := open(t, st).KeyPair(background, PairName{Label: "pair"})
	if err != nil {
		t.Fatal(err)
	}
	if read, err := again.Certificate(background); err != nil || read == nil || !read.Equal(c) {
		t.Errorf("read again: %v, %v", read, err)
	}
}

func TestCertifiedOAEPHash(t *testing.T) {
	withExtension := func(value []byte) *x509.Certificate {
		key := softwareKey(t)
		c, err := x509.ParseCertificate(forge(t, &key.PublicKey, key, pkix.Extension{Id: oidCapabilities, Value: value}))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	key := softwareKey(t)
	without, err := x509.ParseCertificate(forge(t, &key.PublicKey, key))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		c    *x509.Certificate
		want crypto.Hash
	}{
		{"without the extension", without, crypto.SHA1},
		{"with RSAES-OAEP and SHA-256", withExtension(oaepSHA256), crypto.SHA256},
		{"with another capability", withExtension([]byte{0x30, 0x0b, 0x30, 0x09, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1}), crypto.SHA1},
		{"with no capability", withExtension([]byte{0x30, 0}), crypto.SHA1},
		{"with bytes after it", withExtension(append(bytes.Clone(oaepSHA256), 0)), crypto.SHA1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := CertifiedOAEPHash(tt.c); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// The bytes in the source are the DER of what RFC 4262 and RFC 4055 define.
func TestCapabilityEncoding(t *testing.T) {
	type parameters struct { // RSAES-OAEP-params, RFC 4055 §4.1
		Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		Mask pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
	}
	var all []struct {
		Algorithm  asn1.ObjectIdentifier
		Parameters parameters
	}
	rest, err := asn1.Unmarshal(oaepSHA256, &all)
	if err != nil || len(rest) != 0 || len(all) != 1 {
		t.Fatalf("%+v, %x, %v", all, rest, err)
	}
	sha256 := asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	var maskHash pkix.AlgorithmIdentifier
	if _, err := asn1.Unmarshal(all[0].Parameters.Mask.Parameters.FullBytes, &maskHash); err != nil {
		t.Fatal(err)
	}
	if !all[0].Algorithm.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}) ||
		!all[0].Parameters.Hash.Algorithm.Equal(sha256) || !maskHash.Algorithm.Equal(sha256) ||
		!all[0].Parameters.Mask.Algorithm.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}) {
		t.Errorf("%+v", all[0])
	}
	if again, err := asn1.Marshal(all); err != nil || !bytes.Equal(again, oaepSHA256) {
		t.Errorf("encoded again it is %x, %v", again, err)
	}
	if out := string(openssltest.Run(t, oaepSHA256, "asn1parse", "-inform", "DER")); !strings.Contains(out, "rsaesOaep") || strings.Count(out, "sha256") != 2 {
		t.Errorf("openssl asn1parse: %s", out)
	}
}

// A certificate that somebody else has issued may say anything about the pair, so the hash is tried.
func TestTakesOAEP(t *testing.T) {
	st, p := newPair(t)
	r := openRaw(t, st)
	for hash, want := range map[crypto.Hash]bool{crypto.SHA1: true, crypto.SHA256: false} { // SoftHSM
		if got, err := p.TakesOAEP(background, hash); err != nil || got != want {
			t.Errorf("%v on the token: %v, %v", hash, got, err)
		}
	}
	inMemory := forbid(t, r, p, pkcs11.CKA_UNWRAP)
	for hash, want := range map[crypto.Hash]bool{crypto.SHA1: true, crypto.SHA256: false} {
		if got, err := inMemory.TakesOAEP(background, hash); err != nil || got != want {
			t.Errorf("%v in memory: %v, %v", hash, got, err)
		}
	}
	if hash, err := inMemory.OAEPHash(background); err != nil || hash != crypto.SHA1 {
		t.Errorf("%v, %v", hash, err)
	}
	mute := forbid(t, r, inMemory, pkcs11.CKA_DECRYPT)
	_, err := mute.OAEPHash(background)
	want(t, err, errors.ErrUnsupported, "opens no session key")
	if c, err := mute.Certify(background, "signs only"); err != nil || c.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("certified: %v, %v", c, err)
	}
}
