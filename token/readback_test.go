package token

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// faultyPair returns a pair behind a faulty module.
func faultyPair(t *testing.T) (*Token, *KeyPair) {
	t.Helper()
	module, err := env.FaultyModule()
	if err != nil {
		t.Fatal(err)
	}
	st := newToken(t)
	tok, err := Open(background, Config{Module: module, Token: Selector{Label: st.Label},
		PIN: func(context.Context, Info) ([]byte, error) { return []byte(st.PIN), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tok.Close() })
	return tok, makePair(t, tok, "hsmkeys", 2048)
}

func setFaults(t *testing.T, faults ...softhsm.Fault) {
	t.Helper()
	t.Cleanup(func() { _ = env.SetFaults() })
	if err := env.SetFaults(faults...); err != nil {
		t.Fatal(err)
	}
}

// A key that the token claims to have made is checked before it is used.
func TestMadeKeysAreChecked(t *testing.T) {
	_, p := faultyPair(t)
	for _, spec := range []keyspec.Key{wraps(32), wraps(24), encrypts(32), authenticates(64)} {
		t.Run(fmt.Sprint(spec), func(t *testing.T) {
			setFaults(t, softhsm.Fault{Function: "C_GenerateKey", Call: 1, Action: softhsm.ShortKey})
			_, err := p.Generate(background, spec)
			want(t, err, ErrUnsafe)
			setFaults(t)
			key, err := p.Generate(background, spec)
			if err != nil {
				t.Fatal(err)
			}
			defer key.Close()
			setFaults(t, softhsm.Fault{Function: "C_GenerateKey", Call: 1, Action: softhsm.Repeat})
			again, err := p.Generate(background, spec)
			if want(t, err, ErrUnsafe); err == nil {
				again.Close()
			} else if !strings.Contains(err.Error(), "the same key twice") {
				t.Error(err)
			}
		})
	}
}

// The confirmation is that of docs/format.md, on the token and in memory, in transit
// and in use.
func TestConfirmation(t *testing.T) {
	_, p := newPair(t)
	block := []byte("hsmkeys/confirm1")
	for _, spec := range specs {
		t.Run(fmt.Sprint(spec), func(t *testing.T) {
			key := generate(t, p.token, spec)
			wrapped := wrap(t, key, p.public)
			value, err := p.Reveal(background, of(spec, wrapped))
			if err != nil {
				t.Fatal(err)
			}
			var made []byte
			switch spec.Purpose {
			case keyspec.WrapKeys:
				made = wrapRFC3394(t, value, block)
			case keyspec.Encrypt:
				c, err := aes.NewCipher(value)
				if err != nil {
					t.Fatal(err)
				}
				made = make([]byte, 16)
				c.Encrypt(made, block)
			case keyspec.Authenticate:
				m := hmac.New(memkey.Hashes[spec.Algorithm].New, value)
				m.Write(block)
				made = m.Sum(nil)
			}
			sum := sha256.Sum256(made)
			again, err := p.UnwrapTransit(background, of(spec, wrapped))
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			inMemory, err := memkey.New(spec, append([]byte(nil), value...), p.token.fail)
			if err != nil {
				t.Fatal(err)
			}
			defer inMemory.Close()
			for name, transit := range map[string]keyspec.Transit{"made": key, "unwrapped": again, "in memory": inMemory} {
				if got, err := transit.Confirmation(background); err != nil || string(got) != string(sum[:16]) {
					t.Errorf("%s: %x, %v; want %x", name, got, err, sum[:16])
				}
			}
			// Everything that unwraps the key compares the confirmation.
			for _, right := range []bool{true, false} {
				w := of(spec, wrapped)
				w.Confirmation = append([]byte(nil), sum[:16]...)
				if !right {
					w.Confirmation[15] ^= 1
				}
				for name, unwrap := range map[string]func() error{
					"Unwrap": func() error {
						k, err := p.Unwrap(background, w)
						if err == nil {
							k.Close()
						}
						return err
					},
					"UnwrapTransit": func() error {
						k, err := p.UnwrapTransit(background, w)
						if err == nil {
							k.Close()
						}
						return err
					},
					"Reveal":   func() error { _, err := p.Reveal(background, w); return err },
					"Load":     func() error { return p.Load(background, w, "confirmed "+fmt.Sprint(spec), value[:8]) },
					"Rehearse": func() error { return p.Rehearse(background, w) },
					"ReadBack": func() error { return p.ReadBack(background, key, w) },
				} {
					err := unwrap()
					if right && err != nil {
						t.Errorf("%s: %v", name, err)
					}
					if !right && name != "Load" { // which finds the key loaded by now
						want(t, err, ErrWrapped)
					}
				}
			}
		})
	}
}

func TestReadBack(t *testing.T) {
	_, p := newPair(t)
	for _, spec := range specs {
		key, other := generate(t, p.token, spec), generate(t, p.token, spec)
		if err := p.ReadBack(background, key, of(spec, wrap(t, key, p.public))); err != nil {
			t.Error(err)
		}
		want(t, p.ReadBack(background, key, of(spec, wrap(t, other, p.public))), ErrWrapped)
		damaged := wrap(t, key, p.public)
		encryptedKey(damaged)[17] ^= 1
		want(t, p.ReadBack(background, key, of(spec, damaged)), ErrWrapped)
	}
	// And keys in memory.
	for _, spec := range []keyspec.Key{wraps(32), decrypts(keyspec.RC4, 5), decrypts(keyspec.TripleDES, 24)} {
		key, err := memkey.New(spec, randomBytes(spec.Size), p.token.fail)
		if err != nil {
			t.Fatal(err)
		}
		defer key.Close()
		other, err := memkey.New(spec, randomBytes(spec.Size), p.token.fail)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		for _, wrapping := range []*memkey.Key{key, other} {
			wrapped, err := wrapping.Wrap(background, p.public, crypto.SHA1)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.ReadBack(background, key, of(spec, wrapped)); wrapping == other {
				want(t, err, ErrWrapped)
			} else if err != nil {
				t.Error(err)
			}
		}
	}
}

// A generator that is stuck makes no key, id or salt that can be guessed.
func TestAStuckRandomNumberGenerator(t *testing.T) {
	tok, _ := faultyPair(t)
	setFaults(t, softhsm.Fault{Function: "C_GenerateRandom", Action: softhsm.Zeros})
	random, err := tok.Random()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[16]byte]bool{{}: true}
	for range 4 {
		var b [16]byte
		if n, err := random.Read(b[:]); n != len(b) || err != nil || seen[b] {
			t.Errorf("%x, %v", b[:n], err)
		}
		seen[b] = true
	}
}

// An object that the token makes public, or with other uses than it was asked for, is destroyed.
func TestKeysAreMadeAsAsked(t *testing.T) {
	tok, p := faultyPair(t)
	spec := encrypts(32)
	wrapped := wrap(t, generate(t, tok, spec), p.public)
	value, err := p.Reveal(background, of(spec, wrapped))
	if err != nil {
		t.Fatal(err)
	}
	for flag, name := range flags {
		for _, tt := range []struct {
			function string
			make     func() error
		}{
			{"C_UnwrapKey", func() error { return p.Load(background, of(spec, wrapped), "loaded", []byte{1}) }},
			{"C_CreateObject", func() error { return p.LoadValue(background, spec, value, "loaded", []byte{1}) }},
			{"C_UnwrapKey", func() error { _, err := p.Unwrap(background, of(spec, wrapped)); return err }},
			{"C_CreateObject", func() error { _, err := p.Use(background, spec, value); return err }},
		} {
			before := len(mustFind(t, tok))
			setFaults(t, softhsm.Fault{Function: tt.function, Action: softhsm.Flip, Arg: flag})
			err := tt.make()
			setFaults(t)
			if want(t, err, ErrUnsafe); err != nil && !strings.Contains(err.Error(), name) {
				t.Errorf("%s of %s: %v", tt.function, name, err)
			}
			if left := len(mustFind(t, tok)); left > before {
				t.Errorf("%s of %s: %d secret keys more than before", tt.function, name, left-before)
			}
		}
	}
}

// mustFind returns the secret keys that a token has.
func mustFind(t *testing.T, tok *Token) []pkcs11.ObjectHandle {
	t.Helper()
	found, err := tok.findObjects(background, []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY)})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
