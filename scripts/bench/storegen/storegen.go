// Package storegen makes stores of very many genuine key blobs, for benchmarks: signed by
// a software key, as a store does not care where a signature comes from. The session keys
// are random, and really wrapped to every member.
package storegen

import (
	"crypto"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	josecipher "github.com/go-jose/go-jose/v4/cipher"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Options say what is in a store.
type Options struct {
	Owner    crypto.Signer // an *rsa.PrivateKey, or an *ecdsa.PrivateKey on P-256
	Keys     int
	Versions int // of each key
	Members  int // the owner, and so many less one backup authorities with RSA keys of 2048 bits
}

// Name is that of key i: a thousand of them share their first segment.
func Name(i int) string { return fmt.Sprintf("g%04d/k%03d", i/1000, i%1000) }

// Make makes the store in a directory, and syncs nothing.
func Make(dir string, o Options) error {
	scheme := blob.ECDSA
	if _, ok := o.Owner.(*rsa.PrivateKey); ok {
		scheme = blob.RSAPSS
	}
	list := blob.MemberList{Number: 1, Created: time.Now(), Members: []blob.Member{{Role: blob.Owner, Label: "owner", Certificate: Certificate(o.Owner, "owner")}}}
	_, _ = rand.Read(list.KeyringID[:])
	for i := 1; i < o.Members; i++ {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return err
		}
		label := fmt.Sprintf("authority-%d", i)
		list.Members = append(list.Members, blob.Member{Role: blob.BackupAuthority, Label: label, Certificate: Certificate(key, label)})
	}
	der, err := blob.SignMembers(list, blob.Signer{Key: o.Owner, Scheme: scheme}, time.Now())
	if err != nil {
		return err
	}
	if err := write(dir, blob.MembersPath(1), der); err != nil {
		return err
	}
	var next atomic.Int64
	failed := make([]error, runtime.GOMAXPROCS(0))
	var all sync.WaitGroup
	for w := range failed {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(o.Keys) && failed[w] == nil; i = next.Add(1) - 1 {
				failed[w] = makeKey(dir, o, list, scheme, Name(int(i)))
			}
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

func makeKey(dir string, o Options, list blob.MemberList, scheme blob.SignatureScheme, name string) error {
	var replaces []byte
	for version := 1; version <= o.Versions; version++ {
		d := blob.Descriptor{KeyringID: list.KeyringID, Name: name, Version: version, Revision: 1, Created: time.Now(), Purpose: blob.WrapKeys, Replaces: replaces}
		key := make([]byte, 32)
		_, _ = rand.Read(key)
		_, _ = rand.Read(d.KeyID[:])
		c := blob.Content{Algorithm: blob.AES256}
		for _, m := range list.Members {
			r, err := wrap(m.Certificate.PublicKey, key)
			if err != nil {
				return err
			}
			c.Recipients = append(c.Recipients, r)
		}
		b, err := blob.Sign(d, c, blob.Signer{Key: o.Owner, Scheme: scheme}, time.Now())
		if err != nil {
			return err
		}
		if err := write(dir, blob.KeyPath(name, version, 1), b.Bytes()); err != nil {
			return err
		}
		digest := b.Digest()
		replaces = digest[:]
	}
	return nil
}

func write(dir, path string, data []byte) error {
	at := filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return err
	}
	return os.WriteFile(at, data, 0o600)
}

// Certificate is a self-signed one.
func Certificate(key crypto.Signer, label string) *x509.Certificate {
	id, err := blob.SubjectKeyID(key.Public())
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: label}, SubjectKeyId: id,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * 365 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}

// wrap wraps a session key as docs/format.md has it.
func wrap(to crypto.PublicKey, key []byte) (blob.Recipient, error) {
	id, err := blob.SubjectKeyID(to)
	if err != nil {
		return blob.Recipient{}, err
	}
	switch to := to.(type) {
	case *rsa.PublicKey:
		wrapped, err := rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, to, key, nil)
		return blob.Recipient{SubjectKeyID: id, Transport: &blob.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: wrapped}}, err
	case *ecdsa.PublicKey:
		public, err := to.ECDH()
		if err != nil {
			return blob.Recipient{}, err
		}
		ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			return blob.Recipient{}, err
		}
		secret, err := ephemeral.ECDH(public)
		if err != nil {
			return blob.Recipient{}, err
		}
		// X9.63 with ECC-CMS-SharedInfo (RFC 5753 §7.2), id-aes256-wrap, 256 bits.
		kek := sha256.Sum256(append(append(secret, 0, 0, 0, 1), "\x30\x15\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x2d\xa2\x06\x04\x04\x00\x00\x01\x00"...))
		block, err := aes.NewCipher(kek[:])
		if err != nil {
			return blob.Recipient{}, err
		}
		wrapped, err := josecipher.KeyWrap(block, key)
		return blob.Recipient{SubjectKeyID: id, Agreement: &blob.KeyAgreement{Ephemeral: ephemeral.PublicKey(), EncryptedKey: wrapped}}, err
	}
	return blob.Recipient{}, fmt.Errorf("wrap to a %T", to)
}
