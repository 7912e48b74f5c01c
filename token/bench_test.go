package token

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// This package beside a raw loop on the same token, with a key of the default size.

func benchPair(b *testing.B) (*KeyPair, func(testing.TB) raw) {
	st := newToken(b)
	p := makePair(b, open(b, st), "pair", 3072)
	return p, func(tb testing.TB) raw { return openRaw(tb, st) }
}

// each runs f in a loop, sequentially and in parallel. setup makes what each goroutine needs.
func each[T any](b *testing.B, setup func() T, f func(T) error) {
	b.Run("serial", func(b *testing.B) {
		with := setup()
		for b.Loop() {
			if err := f(with); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			with := setup()
			for pb.Next() {
				if err := f(with); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

func BenchmarkUnwrap(b *testing.B) {
	p, _ := benchPair(b)
	spec := wraps(32)
	wrapped := wrap(b, generate(b, p.token, spec), p.public)
	each(b, func() *KeyPair { return p }, func(p *KeyPair) error {
		k, err := p.Unwrap(background, of(spec, wrapped))
		if err != nil {
			return err
		}
		return k.Close()
	})
}

func BenchmarkRawUnwrap(b *testing.B) {
	p, session := benchPair(b)
	spec := wraps(32)
	wrapped := wrap(b, generate(b, p.token, spec), p.public)
	each(b, func() raw { return session(b) }, func(r raw) error {
		key, err := r.UnwrapKey(r.session, oaep(wrapped.(*keyspec.KeyTransport).OAEPHash), p.private.handle, encryptedKey(wrapped), inUse(spec))
		if err != nil {
			return err
		}
		return r.DestroyObject(r.session, key)
	})
}

func BenchmarkSign(b *testing.B) {
	p, _ := benchPair(b)
	digest := sha256.Sum256(nil)
	each(b, func() *KeyPair { return p }, func(p *KeyPair) error {
		_, err := p.Sign(rand.Reader, digest[:], pss(crypto.SHA256))
		return err
	})
}

func BenchmarkRawSign(b *testing.B) {
	p, session := benchPair(b)
	digest := sha256.Sum256(nil)
	parameters := pkcs11.NewPSSParams(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, 32)
	each(b, func() raw { return session(b) }, func(r raw) error {
		if err := r.SignInit(r.session, mechanism(pkcs11.CKM_RSA_PKCS_PSS, parameters), p.private.handle); err != nil {
			return err
		}
		_, err := r.Sign(r.session, digest[:])
		return err
	})
}
