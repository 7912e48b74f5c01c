package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"
)

// blank is a token with nothing on it.
func blank(t *testing.T, label string) *Token {
	t.Helper()
	st, err := env.InitToken(label)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, st)
}

func TestAPairFromAFile(t *testing.T) {
	ctx := context.Background()
	for name, make := range map[string]func() (crypto.Signer, error){
		"rsa":  func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
		"p256": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
		"p384": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
		"p521": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
	} {
		t.Run(name, func(t *testing.T) {
			tok := blank(t, "import "+name)
			key, err := make()
			if err != nil {
				t.Fatal(err)
			}
			p, err := tok.ImportPair(ctx, "imported", key)
			if err != nil {
				t.Fatal(err)
			}
			if !p.public.Equal(key.Public()) || p.Label() != "imported" || string(p.ID()) != string(keyID(p.public)) {
				t.Errorf("%q, id %x", p.Label(), p.ID())
			}
			again, err := tok.KeyPair(ctx, PairName{Label: "imported"}) // which refuses an extractable pair
			if err != nil || !again.public.Equal(key.Public()) {
				t.Errorf("found again: %v", err)
			}
			if _, err := tok.ImportPair(ctx, "imported", key); !errors.Is(err, ErrTaken) {
				t.Errorf("the label twice: %v", err)
			}
			if _, err := tok.ImportPair(ctx, "another", key); !errors.Is(err, ErrTaken) {
				t.Errorf("the key twice: %v", err)
			}
		})
	}
	tok := blank(t, "import")
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.ImportPair(ctx, "weak", weak); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a foreign curve: %v", err)
	}
	// Halves that do not match are found by trying, and nothing is left behind.
	one, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other.Precompute()
	other.PublicKey = one.PublicKey
	if _, err := tok.ImportPair(ctx, "mixed", other); err == nil {
		t.Error("halves of two keys were imported as a pair")
	}
	left, err := tok.findObjects(ctx, nil)
	if err != nil || len(left) != 0 {
		t.Errorf("%d objects are left, %v", len(left), err)
	}
}
