package token_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token"
)

// A session key is made on the token, leaves it wrapped to the public key of the key exchange pair,
// and is unwrapped for use. It is never in this process.
func Example() {
	ctx := context.Background()
	t, cleanup := openToken("office")
	defer cleanup()

	pair, err := t.GenerateKeyPair(ctx, "exchange", token.RSA2048)
	if err != nil {
		log.Fatal(err)
	}
	hash, err := pair.OAEPHash(ctx) // the best that the token and the pair support
	if err != nil {
		log.Fatal(err)
	}
	what := keyspec.Key{Algorithm: keyspec.AES256, Purpose: keyspec.WrapKeys, Size: 32}
	transit, err := pair.Generate(ctx, what)
	if err != nil {
		log.Fatal(err)
	}
	defer transit.Close()
	wrapped, err := transit.Wrap(ctx, pair.Public(), hash)
	if err != nil {
		log.Fatal(err)
	}
	confirmation, err := transit.Confirmation(ctx)
	if err != nil {
		log.Fatal(err)
	}

	// The wrapped key may be stored anywhere. With its confirmation the pair unwraps this key and
	// no other.
	key, err := pair.Unwrap(ctx, keyspec.WrappedKey{Key: what, Wrapped: wrapped, Confirmation: confirmation})
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close()
	dataKey := bytes.Repeat([]byte{7}, 32)
	under, err := key.WrapData(ctx, dataKey)
	if err != nil {
		log.Fatal(err)
	}
	back, err := key.UnwrapData(ctx, under)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("used in:", key.Residence())
	fmt.Println("unwraps what it wrapped:", bytes.Equal(back, dataKey))
	// Output:
	// used in: token
	// unwraps what it wrapped: true
}

// A program that explains errors to people finds their facts with errors.As.
func ExampleOpen_facts() {
	t, cleanup := openToken("office")
	defer cleanup()

	_, err := token.Open(context.Background(), token.Config{Module: t.Info().Module, Token: token.Selector{Label: "offise"}})
	fmt.Println(errors.Is(err, token.ErrNoToken))
	var found *token.TokensFound
	if errors.As(err, &found) {
		for _, info := range found.Tokens {
			if info.Initialized {
				fmt.Printf("there is a token %q\n", info.Label)
			}
		}
	}
	// Output:
	// true
	// there is a token "office"
}

func ExampleKeyPair_Sign() {
	ctx := context.Background()
	t, cleanup := openToken("office")
	defer cleanup()

	pair, err := t.GenerateKeyPair(ctx, "exchange", token.P256)
	if err != nil {
		log.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	signature, err := pair.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(pair.Scheme(), ecdsa.VerifyASN1(pair.Public().(*ecdsa.PublicKey), digest[:], signature))
	// Output: ecdsa true
}

func ExampleToken_KeyPair() {
	ctx := context.Background()
	t, cleanup := openToken("office")
	defer cleanup()

	if _, err := t.GenerateKeyPair(ctx, "exchange", token.P256); err != nil {
		log.Fatal(err)
	}
	pair, err := t.KeyPair(ctx, token.PairName{Label: "exchange"})
	if err != nil {
		log.Fatal(err)
	}
	a, err := pair.Attributes(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("signs:", a.Sign, "derives:", a.Derive, "never extractable:", a.NeverExtractable)
	_, err = t.KeyPair(ctx, token.PairName{Label: "another"})
	fmt.Println(errors.Is(err, token.ErrNoPair))
	// Output:
	// signs: true derives: true never extractable: true
	// true
}

func ExampleToken_AddRecord() {
	ctx := context.Background()
	t, cleanup := openToken("office")
	defer cleanup()

	if err := t.AddRecord(ctx, "last seen", []byte("checkpoint 7")); err != nil {
		log.Fatal(err)
	}
	all, err := t.Records(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range all {
		fmt.Printf("%s: %s\n", r.Label, r.Value)
	}
	// Output: last seen: checkpoint 7
}

func ExampleParseSelector() {
	for _, s := range []string{"office", "pkcs11:token=office;object=exchange", "pkcs11:tokin=office"} {
		sel, err := token.ParseSelector(s)
		var attribute *token.URIAttribute
		if errors.As(err, &attribute) {
			fmt.Printf("%s is not one of %s\n", attribute.Name, attribute.Known)
			continue
		}
		fmt.Printf("token %q, pair %q\n", sel.Label, sel.Object)
	}
	// Output:
	// token "office", pair ""
	// token "office", pair "exchange"
	// tokin is not one of [token serial manufacturer model slot-id object id type]
}

// openToken makes a SoftHSM token that exists until cleanup is called, and logs in to it.
func openToken(label string) (t *token.Token, cleanup func()) {
	env, err := softhsm.New()
	if err != nil {
		log.Fatal(err)
	}
	if err := env.Use(); err != nil {
		log.Fatal(err)
	}
	made, err := env.InitToken(label)
	if err != nil {
		log.Fatal(err)
	}
	t, err = token.Open(context.Background(), token.Config{
		Module: env.Module(), // such as /usr/lib/softhsm/libsofthsm2.so
		Token:  token.Selector{Label: label},
		PIN:    func(context.Context, token.Info) ([]byte, error) { return []byte(made.PIN), nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	return t, func() {
		if err := errors.Join(t.Close(), env.Close()); err != nil {
			log.Fatal(err)
		}
	}
}
