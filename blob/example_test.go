package blob_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// A record of how a key is made from a password is signed, stored, and verified before it is used.
// The key that signs is normally on a token.
func ExampleSign() {
	owner, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	d := blob.Descriptor{
		KeyringID: blob.ID{1}, Name: "payroll", Version: 1, Revision: 1, KeyID: blob.ID{2},
		Created: time.Now(), Purpose: keyspec.WrapKeys, CheckValue: []byte{1, 2, 3},
	}
	how := blob.Derivation{KDF: blob.Scrypt, Cost: blob.DefaultScryptCost}
	if _, err := rand.Read(how.Salt[:]); err != nil {
		log.Fatal(err)
	}
	content := blob.Content{Algorithm: keyspec.AES256, Derivation: &how}
	signed, err := blob.Sign(d, content, blob.Signer{Key: owner, Scheme: keyspec.ECDSA}, time.Now())
	if err != nil {
		log.Fatal(err)
	}
	stored := signed.Bytes()

	// Reading it back: who may have signed, and where it was found, come from elsewhere.
	unverified, err := blob.Parse(stored)
	if err != nil {
		log.Fatal(err)
	}
	trusted := []blob.Party{{Key: owner.Public()}}
	b, err := unverified.Verify(trusted, blob.Place{KeyringID: blob.ID{1}, Name: "payroll", Version: 1, Revision: 1})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(b.Descriptor().Name, b.Algorithm())

	// The same bytes in another place are not what was signed.
	_, err = unverified.Verify(trusted, blob.Place{KeyringID: blob.ID{1}, Name: "payroll", Version: 2, Revision: 1})
	fmt.Println(errors.Is(err, blob.ErrMisplaced))
	// Output:
	// payroll aes256
	// true
}
