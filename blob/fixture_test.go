package blob

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Keys of the tests. They are made once, as RSA keys take their time.
var (
	ownerRSA     = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	strangerRSA  = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ownerP256    = sync.OnceValue(func() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	ownerP384    = sync.OnceValue(func() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	ownerP521    = sync.OnceValue(func() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)) })
	strangerP256 = sync.OnceValue(func() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
)

// signers are one key for each suite.
var signers = []struct {
	name   string
	scheme keyspec.Scheme
	key    func() crypto.Signer
}{
	{"pss", keyspec.RSAPSS, ownerRSA},
	{"pkcs1v15", keyspec.RSAPKCS1v15, ownerRSA},
	{"ecdsa-p256", keyspec.ECDSA, ownerP256},
	{"ecdsa-p384", keyspec.ECDSA, ownerP384},
	{"ecdsa-p521", keyspec.ECDSA, ownerP521},
}

var (
	created = time.Date(2025, 3, 14, 15, 9, 26, 0, time.UTC)
	signed  = time.Date(2026, 2, 7, 18, 28, 18, 0, time.UTC)
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func payroll() Descriptor {
	return Descriptor{
		KeyringID:  ID(bytes.Repeat([]byte{0x4b}, 16)),
		Name:       "payroll",
		Version:    2,
		Revision:   3,
		KeyID:      ID(bytes.Repeat([]byte{0x1d}, 16)),
		Created:    created,
		Purpose:    keyspec.WrapKeys,
		CheckValue: []byte{0xc0, 0xff, 0xee},
		Replaces:   bytes.Repeat([]byte{0x5e}, 32),
	}
}

func keyID(key crypto.Signer) []byte { return must(PublicKeyID(key.Public())) }

// transport is a recipient with an RSA key. Here nobody unwraps, so the wrapped
// key need only look like one.
func transport(subjectKeyID []byte, hash crypto.Hash) Recipient {
	return Recipient{Identifier: subjectKeyID, Key: &keyspec.KeyTransport{OAEPHash: hash, EncryptedKey: bytes.Repeat([]byte{0xe1}, 256)}}
}

func agreement(subjectKeyID []byte, curve ecdh.Curve, a keyspec.Algorithm) Recipient {
	ephemeral := must(curve.GenerateKey(rand.Reader)).PublicKey()
	return Recipient{Identifier: subjectKeyID, Key: &keyspec.KeyAgreement{Ephemeral: ephemeral, EncryptedKey: bytes.Repeat([]byte{0xa2}, a.KeySize()+8)}}
}

// holders is a content for one RSA and one EC holder.
func holders(owner crypto.Signer) Content {
	return Content{Algorithm: keyspec.AES256, Recipients: []Recipient{
		transport(keyID(owner), crypto.SHA256),
		agreement(bytes.Repeat([]byte{0x0b}, 20), ecdh.P256(), keyspec.AES256),
	}}
}

func trust(keys ...crypto.Signer) (out []Party) {
	for _, k := range keys {
		out = append(out, Party{Key: k.Public()})
	}
	return out
}

func mustSign(t testing.TB, d Descriptor, c Content, key crypto.Signer, scheme keyspec.Scheme) []byte {
	t.Helper()
	der, err := signDER(d, c, key, scheme, signed)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// parseAndVerify is what every reader of a store does.
func parseAndVerify(der []byte, trusted []Party, at Place) (*Blob, error) {
	u, err := Parse(der)
	if err != nil {
		return nil, err
	}
	return u.Verify(trusted, at)
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// wantError checks that err is the sentinel, an ErrIntegrity, and says part.
func wantError(t *testing.T, err, sentinel error, part string) {
	t.Helper()
	if err == nil {
		t.Fatalf("accepted, want %q", sentinel)
	}
	if !errors.Is(err, sentinel) || !errors.Is(err, ErrIntegrity) {
		t.Errorf("error %q is not %q", err, sentinel)
	}
	if !strings.Contains(err.Error(), part) {
		t.Errorf("error %q does not say %q", err, part)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q is not one line", err)
	}
}

// isIntegrity is the weakest that must hold of a refusal.
func isIntegrity(err error) bool { return err != nil && errors.Is(err, ErrIntegrity) }

func isMalformed(err error) bool { return isIntegrity(err) && errors.Is(err, ErrMalformed) }

// certificate makes a self-signed certificate whose subject key identifier is
// the one that blobs use.
func certificate(key crypto.Signer) *x509.Certificate { return selfSigned(key, keyID(key)) }

func selfSigned(key crypto.Signer, subjectKeyID []byte) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "key exchange"},
		NotBefore:             time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement | x509.KeyUsageCertSign,
		SubjectKeyId:          subjectKeyID,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))))
}

// signDER is Sign for tests that work on the bytes.
func signDER(d Descriptor, c Content, key crypto.Signer, scheme keyspec.Scheme, at time.Time) ([]byte, error) {
	b, err := Sign(d, c, Signer{Key: key, Scheme: scheme}, at)
	if err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func isAgreement(r Recipient) bool {
	_, ok := r.Key.(*keyspec.KeyAgreement)
	return ok
}
