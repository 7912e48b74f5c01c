// Command attack carries out, for the demo, the attack that the signature on a
// key blob is there to stop. It uses only what anyone with access to the storage
// has, and no secrets: it makes a session key, wraps it to the owner's public
// key, describes it exactly as the genuine blob describes its own, signs the
// result with a key of its own, and replaces the genuine blob with it.
//
//	attack OWNER.pem STORE NAME
package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/ledger"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("attack: ")
	if len(os.Args) != 4 {
		log.Fatal("usage: attack OWNER.pem STORE NAME")
	}
	if err := substitute(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("-> %s is now a key that the stranger knows\n", os.Args[3])
}

func substitute(certificate, directory, name string) error {
	owner, err := readOwner(certificate)
	if err != nil {
		return err
	}
	path, genuine, err := read(directory, name, owner)
	if err != nil {
		return err
	}
	key := make([]byte, genuine.Algorithm().KeySize())
	if _, err := rand.Read(key); err != nil {
		return err
	}
	wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, owner, key, nil)
	if err != nil {
		return err
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		return err
	}
	content := blob.Content{Algorithm: genuine.Algorithm(), Recipients: []blob.Recipient{{
		Identifier: genuine.Recipients()[0].Identifier,
		Key:        &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: wrapped},
	}}}
	forged, err := blob.Sign(genuine.Descriptor(), content, blob.Signer{Key: stranger, Scheme: keyspec.RSAPSS}, time.Now())
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, path), forged.Bytes(), 0o600)
}

func readOwner(path string) (*rsa.PublicKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%q is not PEM", path)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("not an RSA key")
	}
	return key, nil
}

// read returns the genuine blob of the first version, and its path. Both are in the
// storage, and readable.
func read(directory, name string, owner *rsa.PublicKey) (string, *blob.Blob, error) {
	ctx := context.Background()
	store, err := dir.Open(directory)
	if err != nil {
		return "", nil, err
	}
	defer store.Close()
	keyring, _, err := ledger.Peek(ctx, store)
	if err != nil {
		return "", nil, err
	}
	for path, err := range store.List(ctx, blob.KeysPrefix+name+"/1.1.") {
		if err != nil {
			return "", nil, err
		}
		der, err := store.Get(ctx, path)
		if err != nil {
			return "", nil, err
		}
		unverified, err := blob.Parse(der)
		if err != nil {
			return "", nil, err
		}
		b, err := unverified.Verify([]blob.Party{{Key: owner}}, blob.Place{KeyringID: keyring, Name: name, Version: 1, Revision: 1})
		return path, b, err
	}
	return "", nil, fmt.Errorf("key %q: %w", name, blob.ErrNotFound)
}
