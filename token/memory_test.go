package token

import (
	"bytes"
	"crypto"
	"errors"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// forbid removes a use from the pair's private key, as on many cards.
func forbid(t testing.TB, r raw, p *KeyPair, uses ...uint) *KeyPair {
	t.Helper()
	for _, use := range uses {
		if err := r.SetAttributeValue(r.session, p.private.handle, []*pkcs11.Attribute{attr(use, false)}); err != nil {
			t.Fatal(err)
		}
	}
	again, err := p.token.KeyPair(background, PairName{Label: p.label})
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func TestSessionKeysInMemory(t *testing.T) {
	st, inToken := newPair(t)
	r := openRaw(t, st)
	if where, err := inToken.Residence(background); where != keyspec.InToken || err != nil || inToken.WhyMemory() != "" {
		t.Errorf("residence %s, %v", where, err)
	}
	p := forbid(t, r, inToken, pkcs11.CKA_UNWRAP)
	if where, err := p.Residence(background); where != keyspec.InMemory || err != nil || p.WhyMemory() == "" {
		t.Errorf("residence %s, %v", where, err)
	}
	for _, spec := range []keyspec.Key{wraps(16), wraps(24), wraps(32), encrypts(32), authenticates(32), authenticates(48), authenticates(64)} {
		// The same key does the same on the token and in memory.
		onToken, err := p.token.Generate(background, spec)
		if err != nil {
			t.Fatal(err)
		}
		defer onToken.Close()
		wrapped, err := onToken.Wrap(background, p.Public(), crypto.SHA1)
		if err != nil {
			t.Fatal(err)
		}
		transit, err := p.UnwrapTransit(background, of(spec, wrapped))
		if err != nil {
			t.Fatal(err)
		}
		if onToken.Residence() != keyspec.InToken || transit.Residence() != keyspec.InMemory {
			t.Error("residences are wrong")
		}
		a, errA := onToken.CheckValue(background)
		b, errB := transit.CheckValue(background)
		if errA != nil || errB != nil || !bytes.Equal(a, b) || len(b) != 3 {
			t.Errorf("%v: check values %x and %x, %v, %v", spec, a, b, errA, errB)
		}
		if err := p.Rehearse(background, of(spec, wrapped)); err != nil {
			t.Errorf("%v: rehearsed: %v", spec, err)
		}
		key, err := p.Unwrap(background, of(spec, wrapped))
		if err != nil {
			t.Fatal(err)
		}
		if err := key.(*memkey.Key).Do(background, "look at it", func(value []byte) error {
			if bytes.Equal(value, make([]byte, len(value))) || len(value) != spec.Size {
				t.Errorf("%v: %d bytes in memory", spec, len(value))
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if err := p.Load(background, of(spec, wrapped), "loaded", []byte{byte(spec.Purpose), byte(spec.Size)}); err != nil {
			t.Errorf("%v: loaded: %v", spec, err)
		} else if err := r.DestroyObject(r.session, r.one(t, attr(pkcs11.CKA_LABEL, "loaded"))); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := key.Close(); err != nil {
				t.Error(err)
			}
		}
		_, err = key.MAC(background, nil)
		if spec.Purpose == keyspec.Authenticate {
			want(t, err, ErrClosed)
		} else {
			want(t, err, errors.ErrUnsupported)
		}
		transit.Close()
		_, err = transit.Wrap(background, p.Public(), crypto.SHA1)
		want(t, err, ErrClosed)
	}
	_, err := p.Generate(background, wraps(31))
	want(t, err, errors.ErrUnsupported)
}

// What is wrapped in one residence is unwrapped in the other, and damage is refused in both.
func TestResidencesAgree(t *testing.T) {
	st, inToken := newPair(t)
	spec := wraps(32)
	wrapped := wrap(t, generate(t, inToken.token, spec), inToken.public)
	onToken, err := inToken.Unwrap(background, of(spec, wrapped))
	if err != nil {
		t.Fatal(err)
	}
	defer onToken.Close()
	p := forbid(t, openRaw(t, st), inToken, pkcs11.CKA_UNWRAP)
	inMemory, err := p.Unwrap(background, of(spec, wrapped))
	if err != nil {
		t.Fatal(err)
	}
	defer inMemory.Close()
	data := []byte("a file key of 16")
	a, errA := onToken.WrapData(background, data)
	b, errB := inMemory.WrapData(background, data)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Fatalf("%x and %x, %v, %v", a, b, errA, errB)
	}
	if got, err := inMemory.UnwrapData(background, a); err != nil || !bytes.Equal(got, data) {
		t.Errorf("unwrapped %q, %v", got, err)
	}
	a[0] ^= 1
	_, err = inMemory.UnwrapData(background, a)
	want(t, err, ErrWrapped)
	for _, size := range []int{0, 8, 15, 17, 72, 1 << 20} {
		_, err = inMemory.UnwrapData(background, make([]byte, size))
		want(t, err, ErrWrapped)
	}
	encryptedKey(wrapped)[9] ^= 1
	_, err = p.Unwrap(background, of(spec, wrapped))
	want(t, err, ErrWrapped)
}

// A wrapped key of a wrong length is refused in memory too.
func TestKeyOfAnotherLengthInMemory(t *testing.T) {
	st, inToken := newPair(t)
	p := forbid(t, openRaw(t, st), inToken, pkcs11.CKA_UNWRAP)
	wrapped := wrap(t, generate(t, p.token, wraps(16)), p.public)
	_, err := p.Unwrap(background, of(wraps(32), wrapped))
	want(t, err, ErrWrapped, "16 bytes, not 32")
}

// strictPair returns the pair on a Token with RequireToken.
func strictPair(t *testing.T, st softhsm.Token, label string) *KeyPair {
	t.Helper()
	cfg := config(st)
	cfg.RequireToken = true
	tok, err := Open(background, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tok.Close() })
	p, err := tok.KeyPair(background, PairName{Label: label})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRequireToken(t *testing.T) {
	st, p := newPair(t)
	forbid(t, openRaw(t, st), p, pkcs11.CKA_UNWRAP)
	wrapped := wrap(t, generate(t, p.token, wraps(32)), p.public)
	strict := strictPair(t, st, p.label)
	for name, f := range map[string]func() error{
		"Generate": func() error { _, err := strict.Generate(background, wraps(32)); return err },
		"Unwrap": func() error {
			_, err := strict.Unwrap(background, of(wraps(32), wrapped))
			return err
		},
		"UnwrapTransit": func() error {
			_, err := strict.UnwrapTransit(background, of(wraps(32), wrapped))
			return err
		},
		"Load": func() error {
			return strict.Load(background, of(wraps(32), wrapped), "x", []byte{1})
		},
		"Residence": func() error { _, err := strict.Residence(background); return err },
	} {
		err := f()
		if !errors.Is(err, ErrResidence) {
			t.Errorf("%s: %v", name, err)
		}
		want(t, err, ErrResidence, "CKA_UNWRAP")
	}
	if _, err := strict.token.GenerateKeyPair(background, "good", RSA2048); err != nil {
		t.Errorf("a pair that keeps keys on the token: %v", err)
	}
	_, err := strict.token.GenerateKeyPair(background, "ec", P256)
	want(t, err, ErrResidence)
}
