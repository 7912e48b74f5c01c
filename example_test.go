package hsmkeys_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	dirstore "github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/token"
)

// A keyring is founded, a session key made, and a file encrypted and decrypted
// under it.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "keyring-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	t, err := token.Open(ctx, token.Config{
		Module: env.Module(), // such as /usr/lib/softhsm/libsofthsm2.so
		Token:  token.Selector{Label: "keyring"},
		PIN:    func(context.Context, token.Info) ([]byte, error) { return []byte(pin), nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer t.Close()
	pair, err := t.GenerateKeyPair(ctx, "example", 2048)
	if err != nil {
		log.Fatal(err)
	}
	store, err := dirstore.Create(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	keyring, err := hsmkeys.Init(ctx, hsmkeys.Options{Store: store, Pair: pair}, "site A")
	if err != nil {
		log.Fatal(err)
	}

	if _, err := keyring.Create(ctx, "payroll", keyspec.AES256, keyspec.WrapKeys); err != nil {
		log.Fatal(err)
	}
	var file bytes.Buffer
	w, err := keyring.Encrypt(ctx, &file, []hsmkeys.Ref{{Name: "payroll"}})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.WriteString(w, "The salaries of March."); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}

	plain, err := keyring.Decrypt(ctx, &file)
	if err != nil {
		log.Fatal(err)
	}
	text, err := io.ReadAll(plain)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))
	// Output: The salaries of March.
}

// Whoever has the owner's certificate can verify the keys without a token.
func ExampleOpenWithCertificate() {
	ctx := context.Background()
	owner, store := exampleKeyring(ctx)

	certificate, err := owner.Certificate() // in earnest: from a file that does not lie in the store
	if err != nil {
		log.Fatal(err)
	}
	keyring, err := hsmkeys.OpenWithCertificate(ctx, hsmkeys.Options{Store: store, Voucher: certificate})
	if err != nil {
		log.Fatal(err)
	}
	for name, err := range keyring.Verify(ctx) {
		fmt.Println(name, err)
	}
	// Output: payroll <nil>
}

func exampleKeyring(ctx context.Context) (*hsmkeys.Keyring, blob.Store) {
	dir, err := os.MkdirTemp(env.Dir(), "keyring-") // goes with the environment
	if err != nil {
		log.Fatal(err)
	}
	store, err := dirstore.Create(dir)
	if err != nil {
		log.Fatal(err)
	}
	k, err := hsmkeys.Init(ctx, hsmkeys.Options{Store: store, Pair: pair}, "site A")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := k.Create(ctx, "payroll", keyspec.AES256, 0); err != nil {
		log.Fatal(err)
	}
	return k, store
}
