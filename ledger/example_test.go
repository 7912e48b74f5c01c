package ledger_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log"
	"math/big"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/store/mem"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A program that has only an owner's certificate opens a keyring, checks every
// checkpoint, and prints the log. It needs no token.
func Example() {
	ctx := context.Background()
	store, certificate := newKeyring(ctx)

	keyring, report, err := ledger.Open(ctx, store, ledger.Trust{Voucher: certificate.PublicKey})
	if err != nil {
		log.Fatal(err)
	}
	unchecked, err := keyring.Audit(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("pinned before:", !report.Unpinned, "unchecked:", unchecked)
	for event, err := range keyring.Log(ctx, 0) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("checkpoint %d, signed by %s\n", event.At.Number, event.Signer.Label)
		for _, m := range event.Joined {
			fmt.Println("joined:", m.Label)
		}
	}
	// Output:
	// pinned before: false unchecked: 0
	// checkpoint 1, signed by alice
	// joined: alice
}

// newKeyring makes a keyring with one owner, whose key is a software key here.
func newKeyring(ctx context.Context) (blob.Store, *x509.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	id, err := blob.PublicKeyID(key.Public())
	if err != nil {
		log.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "alice"},
		NotBefore: now, NotAfter: now.AddDate(10, 0, 0), SubjectKeyId: id,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		log.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		log.Fatal(err)
	}
	list := blob.MemberList{Members: []blob.Member{{Role: blob.Owner, Label: "alice", Certificate: certificate}}}
	rand.Read(list.KeyringID[:])
	nonce := func() (n [16]byte, err error) {
		_, err = rand.Read(n[:])
		return n, err
	}
	store := &mem.Store{}
	signer := blob.Signer{Key: key, Scheme: keyspec.ECDSA, ID: id}
	if _, err := ledger.Init(ctx, store, list, signer, now, nonce); err != nil {
		log.Fatal(err)
	}
	return store, certificate
}
