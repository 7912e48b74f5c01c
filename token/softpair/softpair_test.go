package softpair_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/softpair"
)

var spec = keyspec.Key{Algorithm: keyspec.AES256, Purpose: keyspec.WrapKeys, Size: 32}

func TestKeysThatAreRefused(t *testing.T) {
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"RSA of 1024 bits": short, "another curve": other, "nothing": nil} {
		if _, err := softpair.New(key); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWrappedKeysThatAreRefused(t *testing.T) {
	ctx := context.Background()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, private := range map[string]crypto.Signer{"RSA": rsaKey, "EC": ecKey} {
		p, err := softpair.New(private)
		if err != nil {
			t.Fatal(err)
		}
		key, err := p.Generate(ctx, spec)
		if err != nil {
			t.Fatal(err)
		}
		defer key.Close()
		confirmation, err := key.Confirmation(ctx)
		if err != nil {
			t.Fatal(err)
		}
		wrap := func(to crypto.PublicKey) keyspec.Wrapped {
			w, err := key.Wrap(ctx, to, crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		good := keyspec.WrappedKey{Key: spec, Wrapped: wrap(p.Public()), Confirmation: confirmation}
		if err := p.Rehearse(ctx, good); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := p.ReadBack(ctx, key, good); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		another, err := p.Generate(ctx, spec)
		if err != nil {
			t.Fatal(err)
		}
		defer another.Close()
		if err := p.ReadBack(ctx, another, good); !errors.Is(err, keyspec.ErrWrapped) {
			t.Errorf("%s: read back as another key: %v", name, err)
		}
		damaged := keyspec.Match(wrap(p.Public()),
			func(w *keyspec.KeyTransport) keyspec.Wrapped { w.EncryptedKey[9] ^= 1; return w },
			func(w *keyspec.KeyAgreement) keyspec.Wrapped { w.EncryptedKey[9] ^= 1; return w })
		foreign := map[string]crypto.PublicKey{"RSA": ecKey.Public(), "EC": rsaKey.Public()}[name]
		for what, bad := range map[string]keyspec.WrappedKey{
			"damaged":              {Key: spec, Wrapped: damaged},
			"of another kind":      {Key: spec, Wrapped: wrap(foreign)},
			"nothing":              {Key: spec},
			"of another length":    {Key: keyspec.Key{Algorithm: keyspec.AES128, Purpose: keyspec.WrapKeys, Size: 16}, Wrapped: good.Wrapped},
			"another confirmation": {Key: spec, Wrapped: good.Wrapped, Confirmation: bytes.Repeat([]byte{1}, 16)},
		} {
			if _, err := p.Unwrap(ctx, bad); !errors.Is(err, keyspec.ErrWrapped) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}
