// Package conformance tests a PKCS #11 token with what package token expects of it.
// The token is the one that the environment names (HSMKEYS_MODULE, HSMKEYS_TOKEN,
// MATRIX_PIN, and MATRIX_LABELS for pairs that exist already), as scripts/tokens sets it, or else a
// SoftHSM token. The results go to MATRIX_FACTS, a line for each kind of pair, for the table of
// scripts/token-matrix.sh.
package conformance

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

var (
	config token.Config
	pin    = os.Getenv("MATRIX_PIN")
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	module, name := os.Getenv("HSMKEYS_MODULE"), os.Getenv("HSMKEYS_TOKEN")
	if pin == "" {
		env, err := softhsm.New()
		if err != nil {
			log.Fatal(err)
		}
		defer env.Close()
		if err := env.Use(); err != nil {
			log.Fatal(err)
		}
		st, err := env.InitToken("conformance")
		if err != nil {
			log.Fatal(err)
		}
		module, name, pin = env.Module(), "pkcs11:serial="+st.Serial, st.PIN
	}
	sel, err := token.ParseSelector(name)
	if err != nil {
		log.Fatal(err)
	}
	config = token.Config{Module: module, Token: sel, Unattended: true, PIN: func(context.Context, token.Info) ([]byte, error) { return []byte(pin), nil }}
	code := m.Run()
	for _, f := range later {
		if err := f(); err != nil {
			log.Printf("destroy a pair: %v", err)
			code = 1
		}
	}
	return code
}

func open(t *testing.T, cfg token.Config) *token.Token {
	t.Helper()
	tok, err := token.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tok.Close(); err != nil {
			t.Error(err)
		}
	})
	return tok
}

// fact adds a line for the table.
func fact(t *testing.T, columns ...string) {
	t.Helper()
	t.Log(strings.Join(columns, " | "))
	path := os.Getenv("MATRIX_FACTS")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(f, strings.Join(columns, "\t"))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Error(err)
	}
}

// reason is an error in a cell of the table.
func reason(err error) string {
	s := err.Error()
	if i := strings.Index(s, "not supported by the token: "); i >= 0 {
		s = s[i+len("not supported by the token: "):]
	}
	return s
}

func TestPairsThatAreMadeHere(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []token.KeyType{token.RSA2048, token.P256, token.P384, token.P521} {
		t.Run(kind.String(), func(t *testing.T) {
			tok := open(t, config)
			p, err := tok.GenerateKeyPair(ctx, "conformance "+kind.String(), kind)
			if errors.Is(err, errors.ErrUnsupported) {
				fact(t, kind.String(), "-", "-", "-", "-", reason(err))
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			destroyLater(t, p.Label())
			holds(t, kind.String(), p)
			found, err := tok.KeyPair(ctx, token.PairName{Label: p.Label()})
			if err != nil || !bytes.Equal(keyID(t, found), keyID(t, p)) {
				t.Errorf("found again: %v", err)
			}
			if _, err := tok.GenerateKeyPair(ctx, p.Label(), kind); !errors.Is(err, token.ErrTaken) {
				t.Errorf("a second one with its label: %v", err)
			}
		})
	}
}

// destroyLater destroys a pair with the module loaded anew: a TPM keeps a key with which an operation
// has failed.
func destroyLater(t *testing.T, label string) {
	t.Helper()
	later = append(later, func() error {
		ctx := context.Background()
		tok, err := token.Open(ctx, config)
		if err != nil {
			return err
		}
		p, err := tok.KeyPair(ctx, token.PairName{Label: label})
		if err == nil {
			err = p.Destroy(ctx)
		}
		if err == nil {
			if _, again := tok.KeyPair(ctx, token.PairName{Label: label}); !errors.Is(again, token.ErrNoPair) {
				err = fmt.Errorf("it is still there: %v", again)
			}
		}
		return errors.Join(err, tok.Close())
	})
}

var later []func() error

// Pairs that others have provisioned.
func TestPairsThatAreThere(t *testing.T) {
	ctx := context.Background()
	if os.Getenv("MATRIX_LABELS") == "" {
		return // the token has none of its own: the ones above are all
	}
	tok := open(t, config)
	for label := range strings.Lines(os.Getenv("MATRIX_LABELS")) {
		label = strings.TrimSpace(label)
		t.Run(label, func(t *testing.T) {
			p, err := tok.KeyPair(ctx, token.PairName{Label: label})
			if err != nil {
				t.Fatal(err)
			}
			holds(t, label, p)
		})
	}
}

var specs = []keyspec.Key{
	{Algorithm: keyspec.AES128, Purpose: keyspec.WrapKeys, Size: 16}, {Algorithm: keyspec.AES192, Purpose: keyspec.WrapKeys, Size: 24}, {Algorithm: keyspec.AES256, Purpose: keyspec.WrapKeys, Size: 32},
	{Algorithm: keyspec.AES128, Purpose: keyspec.Encrypt, Size: 16}, {Algorithm: keyspec.AES256, Purpose: keyspec.Encrypt, Size: 32},
	{Algorithm: keyspec.HMACSHA256, Purpose: keyspec.Authenticate, Size: 32}, {Algorithm: keyspec.HMACSHA384, Purpose: keyspec.Authenticate, Size: 48}, {Algorithm: keyspec.HMACSHA512, Purpose: keyspec.Authenticate, Size: 64},
}

// holds tries everything that a pair does.
func holds(t *testing.T, kind string, p *token.KeyPair) {
	t.Helper()
	ctx := context.Background()
	signature := "-"
	if p.CanSign() {
		signs(t, p)
		signature = p.Scheme().String()
	}
	where, err := p.Residence(ctx)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := p.OAEPHash(ctx)
	if err != nil {
		fact(t, kind, "-", "-", signature, "-", reason(err))
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
		return
	}
	for _, spec := range specs {
		opens(t, p, spec, hash)
	}
	wrapping, oaep := "ECDH, AES-256 key wrap", "-"
	if hash != 0 {
		wrapping, oaep = "RSA-OAEP", hash.String()
	}
	fact(t, kind, string(where), oaep, signature, wrapping, p.WhyMemory())
	strict(t, p, where)
}

func signs(t *testing.T, p *token.KeyPair) {
	t.Helper()
	if key, ok := p.Public().(*ecdsa.PublicKey); ok {
		digest := sha512.Sum384([]byte("conformance"))
		s, err := p.Sign(nil, digest[:], crypto.SHA384)
		if err != nil || !ecdsa.VerifyASN1(key, digest[:], s) {
			t.Errorf("ECDSA: %v", err)
		}
		return
	}
	key, digest := p.Public().(*rsa.PublicKey), sha256.Sum256([]byte("conformance"))
	if p.Scheme() == keyspec.RSAPSS {
		opts := &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}
		s, err := p.Sign(nil, digest[:], opts)
		if err == nil {
			err = rsa.VerifyPSS(key, crypto.SHA256, digest[:], s, opts)
		}
		if err != nil {
			t.Errorf("PSS: %v", err)
		}
	}
	s, err := p.Sign(nil, digest[:], crypto.SHA256)
	if err == nil {
		err = rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], s)
	}
	if err != nil {
		t.Errorf("PKCS #1 v1.5: %v", err)
	}
}

// opens uses a session key in every way.
func opens(t *testing.T, p *token.KeyPair, spec keyspec.Key, hash crypto.Hash) {
	t.Helper()
	ctx := context.Background()
	key, err := p.Generate(ctx, spec)
	if err != nil {
		t.Errorf("%v: %v", spec, err)
		return
	}
	defer key.Close()
	wrapped := keyspec.WrappedKey{Key: spec}
	wrapped.Wrapped, err = key.Wrap(ctx, p.Public(), hash)
	if err != nil {
		t.Errorf("%v: wrapped: %v", spec, err)
		return
	}
	// By this the key is recognized in all that follows.
	if wrapped.Confirmation, err = key.Confirmation(ctx); err != nil || len(wrapped.Confirmation) != memkey.ConfirmationSize {
		t.Errorf("%v: confirmation %x, %v", spec, wrapped.Confirmation, err)
	}
	if err := p.Rehearse(ctx, wrapped); err != nil {
		t.Errorf("%v: rehearsed: %v", spec, err)
	}
	value, err := p.Reveal(ctx, wrapped)
	if err != nil || len(value) != spec.Size {
		t.Errorf("%v: revealed %d bytes: %v", spec, len(value), err)
	}
	session, err := p.Unwrap(ctx, wrapped)
	if err != nil {
		t.Errorf("%v: unwrapped: %v", spec, err)
		return
	}
	defer session.Close()
	switch spec.Purpose {
	case keyspec.WrapKeys:
		data := make([]byte, 16)
		_, _ = rand.Read(data)
		under, err := session.WrapData(ctx, data)
		if err != nil {
			t.Errorf("%v: data key wrapped: %v", spec, err)
			return
		}
		if back, err := session.UnwrapData(ctx, under); err != nil || !bytes.Equal(back, data) {
			t.Errorf("%v: data key unwrapped: %v", spec, err)
		}
		under[0] ^= 1
		if _, err := session.UnwrapData(ctx, under); !errors.Is(err, token.ErrWrapped) {
			t.Errorf("%v: a damaged data key: %v", spec, err)
		}
	case keyspec.Authenticate:
		if mac, err := session.MAC(ctx, []byte("message")); err != nil || len(mac) != spec.Size {
			t.Errorf("%v: MAC of %d bytes: %v", spec, len(mac), err)
		}
	}
	encrypted := keyspec.Match(wrapped.Wrapped,
		func(t *keyspec.KeyTransport) []byte { return t.EncryptedKey },
		func(a *keyspec.KeyAgreement) []byte { return a.EncryptedKey })
	encrypted[len(encrypted)-1] ^= 1
	if _, err := p.Unwrap(ctx, wrapped); !errors.Is(err, token.ErrWrapped) {
		t.Errorf("%v: a damaged session key: %v", spec, err)
	}
}

// strict opens the token once more with RequireToken.
func strict(t *testing.T, p *token.KeyPair, where keyspec.Residence) {
	t.Helper()
	cfg := config
	cfg.RequireToken = true
	tok := open(t, cfg)
	again, err := tok.KeyPair(context.Background(), token.PairName{Label: p.Label(), ID: p.ID()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = again.Generate(context.Background(), specs[0])
	if where == keyspec.InMemory && !errors.Is(err, token.ErrResidence) || where == keyspec.InToken && err != nil {
		t.Errorf("residence %s, with RequireToken: %v", where, err)
	}
}

func TestRecords(t *testing.T) {
	ctx := context.Background()
	tok := open(t, config)
	err := tok.AddRecord(ctx, "conformance", []byte("value"))
	if errors.Is(err, errors.ErrUnsupported) {
		fact(t, "records", reason(err))
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	fact(t, "records", "yes")
	all, err := tok.Records(ctx)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, r := range all {
		if r.Label == "conformance" && string(r.Value) == "value" {
			seen++
			if err := tok.DeleteRecord(ctx, r); err != nil {
				t.Error(err)
			}
		}
	}
	if seen != 1 {
		t.Errorf("it is there %d times", seen)
	}
}

func TestRandom(t *testing.T) {
	tok := open(t, config)
	random, err := tok.Random()
	if err != nil {
		t.Fatal(err)
	}
	a, b := make([]byte, 32), make([]byte, 32)
	_, errA := io.ReadFull(random, a)
	_, errB := io.ReadFull(random, b)
	if errA != nil || errB != nil || bytes.Equal(a, b) {
		t.Errorf("%x and %x, %v, %v", a, b, errA, errB)
	}
}

// A wrong PIN is refused, tried once, and breaks nothing.
func TestWrongPIN(t *testing.T) {
	cfg := config
	asked := 0
	cfg.PIN = func(context.Context, token.Info) ([]byte, error) { asked++; return []byte("98765432"), nil }
	tok, err := token.Open(context.Background(), cfg)
	if err == nil {
		tok.Close()
	}
	if !errors.Is(err, token.ErrPIN) || asked != 1 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	open(t, config) // the right one still works, and sets the token's counter back
}

func keyID(t *testing.T, p *token.KeyPair) []byte {
	t.Helper()
	id, err := keyspec.SubjectKeyID(p.Public())
	if err != nil {
		t.Fatal(err)
	}
	return id
}
