package hsmkeys_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	dirstore "github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token"
)

// One token with one pair serves all tests; each has a store and a keyring of its
// own.
var (
	env  *softhsm.Env
	tok  *token.Token
	pair *token.KeyPair
	pin  string
	soft = sync.OnceValue(func() *rsa.PrivateKey {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		return key
	})
)

func TestMain(m *testing.M) {
	if os.Getenv(workerVar) != "" {
		os.Exit(worker())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if env, err = softhsm.New(); err != nil {
		log.Print(err)
		return 1
	}
	defer env.Close()
	if err = env.Use(); err != nil {
		log.Print(err)
		return 1
	}
	made, err := env.InitToken("keyring")
	if err != nil {
		log.Print(err)
		return 1
	}
	pin = made.PIN
	if tok, err = openToken("keyring", pin); err != nil {
		log.Print(err)
		return 1
	}
	defer tok.Close()
	if pair, err = tok.GenerateKeyPair(context.Background(), "hsmkeys", 2048); err != nil {
		log.Print(err)
		return 1
	}
	return m.Run()
}

func openToken(label, pin string) (*token.Token, error) {
	return token.Open(context.Background(), token.Config{
		Module: env.Module(), Token: token.Selector{Label: label},
		PIN: func(context.Context, token.Info) ([]byte, error) { return []byte(pin), nil },
	})
}

// found makes a keyring in a new directory.
func found(tb testing.TB) (*hsmkeys.Keyring, *dirstore.Store, string) {
	tb.Helper()
	store, dir := newStore(tb)
	k, err := hsmkeys.Init(context.Background(), hsmkeys.Options{Store: store, Pair: pair}, "owner")
	if err != nil {
		tb.Fatal(err)
	}
	return k, store, dir
}

func create(tb testing.TB, k *hsmkeys.Keyring, name string) hsmkeys.Entry {
	tb.Helper()
	e, err := k.Create(context.Background(), name, keyspec.AES256, 0)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func encrypt(tb testing.TB, k *hsmkeys.Keyring, name string, plain []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	w, err := k.Encrypt(context.Background(), &out, []hsmkeys.Ref{{Name: name}})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func decrypt(k *hsmkeys.Keyring, file []byte) ([]byte, error) {
	r, err := k.Decrypt(context.Background(), bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestNamesOfKeys(t *testing.T) {
	k, _, _ := found(t)
	create(t, k, "payroll")
	if _, err := k.Create(context.Background(), "payroll", keyspec.AES256, 0); !errors.Is(err, blob.ErrExists) {
		t.Errorf("creating it again: %v", err)
	}
	_, err := k.Open(context.Background(), hsmkeys.Ref{Name: "pairoll"})
	var similar *hsmkeys.SimilarName
	if !errors.Is(err, blob.ErrNotFound) || !errors.As(err, &similar) || similar.Name != "payroll" {
		t.Errorf("a name that is nearly right: %v", err)
	}
	if _, err := k.Open(context.Background(), hsmkeys.Ref{Name: "payroll", Version: 7}); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a version that is not there: %v", err)
	}
	for _, s := range []string{"", "..", "a/../b", "/a", "a/", "A", "a@0", "a@-1", "a@01", "a@", "a@1@2", "a@99999999999", strings.Repeat("a", 129)} {
		if _, err := hsmkeys.ParseRef(s); !errors.Is(err, blob.ErrName) {
			t.Errorf("ParseRef(%q): %v", s, err)
		}
	}
}

func TestRevealGivesTheKeyThatTheTokenWrapped(t *testing.T) {
	k, _, _ := found(t)
	for _, a := range []keyspec.Algorithm{keyspec.AES128, keyspec.AES256, keyspec.HMACSHA512} {
		if _, err := k.Create(context.Background(), a.String(), a, 0); err != nil {
			t.Fatal(err)
		}
		first, err := k.Reveal(context.Background(), hsmkeys.Ref{Name: a.String()})
		if err != nil || len(first) != a.KeySize() {
			t.Fatalf("%d bytes, %v", len(first), err)
		}
		if second, err := k.Reveal(context.Background(), hsmkeys.Ref{Name: a.String()}); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s: the second time it is another: %v", a, err)
		}
	}
}

func TestACancelledContextStopsBeforeTheToken(t *testing.T) {
	k, _, dir := found(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := k.Create(ctx, "payroll", keyspec.AES256, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "keys/*/*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
