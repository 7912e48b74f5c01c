package keyspec_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

func ExampleMatch() {
	bytesOf := func(w keyspec.Wrapped) int {
		return keyspec.Match(w,
			func(t *keyspec.KeyTransport) int { return len(t.EncryptedKey) },
			func(a *keyspec.KeyAgreement) int { return len(a.EncryptedKey) })
	}
	fmt.Println(bytesOf(&keyspec.KeyTransport{OAEPHash: crypto.SHA256, EncryptedKey: make([]byte, 384)}))
	fmt.Println(bytesOf(&keyspec.KeyAgreement{EncryptedKey: make([]byte, 40)}))
	// Output:
	// 384
	// 40
}

func TestCheckAcceptsWhatCanBeAKey(t *testing.T) {
	const none = keyspec.Algorithm(0)
	for _, test := range []struct {
		algorithm keyspec.Algorithm
		purposes  []keyspec.Purpose
		sizes     []int
	}{
		{none, nil, nil},
		{keyspec.AES128, []keyspec.Purpose{keyspec.WrapKeys, keyspec.Encrypt}, []int{16}},
		{keyspec.AES192, []keyspec.Purpose{keyspec.WrapKeys, keyspec.Encrypt}, []int{24}},
		{keyspec.AES256, []keyspec.Purpose{keyspec.WrapKeys, keyspec.Encrypt}, []int{32}},
		{keyspec.HMACSHA256, []keyspec.Purpose{keyspec.Authenticate}, []int{32}},
		{keyspec.HMACSHA384, []keyspec.Purpose{keyspec.Authenticate}, []int{48}},
		{keyspec.HMACSHA512, []keyspec.Purpose{keyspec.Authenticate}, []int{64}},
		{keyspec.RC2, []keyspec.Purpose{keyspec.Decrypt}, []int{5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}},
		{keyspec.RC4, []keyspec.Purpose{keyspec.Decrypt}, []int{5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}},
		{keyspec.DES, []keyspec.Purpose{keyspec.Decrypt}, []int{8}},
		{keyspec.TripleDES, []keyspec.Purpose{keyspec.Decrypt}, []int{16, 24}},
		{keyspec.TripleDES + 1, nil, nil},
	} {
		accepted := 0
		for purpose := keyspec.Purpose(-1); purpose <= keyspec.Decrypt+1; purpose++ {
			for size := -1; size <= 65; size++ {
				if (keyspec.Key{Algorithm: test.algorithm, Purpose: purpose, Size: size}).Check() == nil {
					accepted++
				}
			}
		}
		for _, purpose := range test.purposes {
			for _, size := range test.sizes {
				if err := (keyspec.Key{Algorithm: test.algorithm, Purpose: purpose, Size: size}).Check(); err != nil {
					t.Error(err)
				}
			}
		}
		if want := len(test.purposes) * len(test.sizes); accepted != want {
			t.Errorf("%v: %d keys are accepted, want %d", test.algorithm, accepted, want)
		}
	}
}

func TestWrapsTo(t *testing.T) {
	rsaKey, ecKey, other := keys(t)
	for _, test := range []struct {
		size        int
		toRSA, toEC bool
	}{{5, true, false}, {8, true, false}, {15, true, false}, {16, true, true}, {20, true, false}, {24, true, true}, {64, true, true}} {
		k := keyspec.Key{Size: test.size}
		if k.WrapsTo(rsaKey) != test.toRSA || k.WrapsTo(ecKey) != test.toEC || k.WrapsTo(other) || k.WrapsTo(nil) {
			t.Errorf("%d bytes: to RSA %t, to EC %t, to Ed25519 %t", test.size, k.WrapsTo(rsaKey), k.WrapsTo(ecKey), k.WrapsTo(other))
		}
	}
}

func TestSubjectKeyIDIsThatOfTheBitString(t *testing.T) {
	rsaKey, ecKey, other := keys(t)
	point, err := ecKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		key  crypto.PublicKey
		bits []byte
	}{{rsaKey, x509.MarshalPKCS1PublicKey(rsaKey)}, {ecKey, point}} {
		want := sha256.Sum256(test.bits)
		if got, err := keyspec.SubjectKeyID(test.key); err != nil || !bytes.Equal(got, want[:20]) {
			t.Errorf("%T: %x, %v", test.key, got, err)
		}
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.PublicKey{nil, other, p224.Public(), (*rsa.PublicKey)(nil), &rsa.PublicKey{}, (*ecdsa.PublicKey)(nil), &ecdsa.PublicKey{}} {
		if id, err := keyspec.SubjectKeyID(key); err == nil {
			t.Errorf("%T has the id %x", key, id)
		}
	}
}

func TestMatchPanicsWithoutAKey(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it does not panic")
		}
	}()
	keyspec.Match(nil, func(*keyspec.KeyTransport) int { return 0 }, func(*keyspec.KeyAgreement) int { return 0 })
}

func keys(t *testing.T) (*rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey) {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &rsaKey.PublicKey, &ecKey.PublicKey, other
}
