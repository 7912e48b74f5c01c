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
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	josecipher "github.com/go-jose/go-jose/v4/cipher"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// edits makes keys, beginning with a given number, on every processor, and returns the edits
// that record them.
func (g *Generator) edits(from, keys int) ([]ledger.Edit, error) {
	edits := make([]ledger.Edit, keys)
	failed := make([]error, runtime.GOMAXPROCS(0))
	var next atomic.Int64
	var all sync.WaitGroup
	for w := range failed {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < keys && failed[w] == nil; i = int(next.Add(1)) - 1 {
				var versions []ledger.Version
				versions, failed[w] = g.versions(Name(from+i), from+i < g.options.Blobs)
				edits[i] = creates(Name(from+i), versions)
			}
		})
	}
	all.Wait()
	return edits, errors.Join(failed...)
}

// versions makes the versions of a key, with or without their blobs.
func (g *Generator) versions(name string, blobs bool) ([]ledger.Version, error) {
	all := make([]ledger.Version, g.options.Versions)
	var replaces []byte
	for i := range all {
		d := blob.Descriptor{
			KeyringID: g.list.KeyringID, Name: name, Version: i + 1, Revision: 1,
			Created: time.Now().UTC().Truncate(time.Second), Purpose: keyspec.WrapKeys, Replaces: replaces,
		}
		_, _ = rand.Read(d.KeyID[:])
		all[i] = ledger.Version{
			Number: d.Version, Revision: d.Revision, KeyID: d.KeyID, List: 1, Algorithm: keyspec.AES256,
			Purpose: d.Purpose, KeySize: 32, Status: ledger.Active, Created: d.Created,
		}
		if !blobs {
			_, _ = rand.Read(all[i].Blob[:])
			continue
		}
		b, err := g.blob(d)
		if err != nil {
			return nil, err
		}
		digest := b.Digest()
		all[i].Blob, replaces = digest, digest[:]
	}
	return all, nil
}

// blob makes a session key, and stores its blob.
func (g *Generator) blob(d blob.Descriptor) (*blob.Blob, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	c := blob.Content{Algorithm: keyspec.AES256}
	for _, m := range g.list.Members {
		r, err := wrap(m.Certificate.PublicKey, key)
		if err != nil {
			return nil, err
		}
		c.Recipients = append(c.Recipients, r)
	}
	b, err := blob.Sign(d, c, g.signer, time.Now())
	if err != nil {
		return nil, err
	}
	return b, g.put(blob.KeyPath(d.Name, d.Version, d.Revision, b.Digest()), b.Bytes())
}

// Certificate returns a self-signed certificate.
func Certificate(key crypto.Signer, label string) *x509.Certificate {
	id, err := blob.PublicKeyID(key.Public())
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

// wrap wraps a session key as docs/format.md specifies.
func wrap(to crypto.PublicKey, key []byte) (blob.Recipient, error) {
	id, err := blob.PublicKeyID(to)
	if err != nil {
		return blob.Recipient{}, err
	}
	switch to := to.(type) {
	case *rsa.PublicKey:
		wrapped, err := rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, to, key, nil)
		return blob.Recipient{Identifier: id, Key: &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: wrapped}}, err
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
		return blob.Recipient{Identifier: id, Key: &keyspec.KeyAgreement{Ephemeral: ephemeral.PublicKey(), EncryptedKey: wrapped}}, err
	}
	return blob.Recipient{}, fmt.Errorf("wrap to a %T", to)
}
