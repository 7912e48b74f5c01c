package storegen_test

import (
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/scripts/bench/storegen"
)

// The store that is measured must be a keyring that everything else accepts.
func TestWhatIsMadeIsGenuine(t *testing.T) {
	owner, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	if err := storegen.Make(at, storegen.Options{Owner: owner, Keys: 5, Versions: 40, Members: 2, Blobs: 5}); err != nil {
		t.Fatal(err)
	}
	store, err := dir.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	k, err := hsmkeys.OpenWithCertificate(t.Context(), hsmkeys.Options{Store: store, Voucher: storegen.Certificate(owner, "owner")})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name, err := range k.Verify(t.Context()) {
		if n++; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := k.VerifyChain(t.Context()); err != nil || n != 5 {
		t.Errorf("%d keys: %v", n, err)
	}
}
