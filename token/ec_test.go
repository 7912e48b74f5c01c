package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

func TestECPair(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	for _, kind := range []KeyType{P256, P384, P521} {
		t.Run(kind.String(), func(t *testing.T) {
			p := makePair(t, tok, kind.String(), kind)
			public := p.Public().(*ecdsa.PublicKey)
			if public.Curve.Params().BitSize != int(kind) || !bytes.Equal(p.ID(), keyID(public)) {
				t.Errorf("curve %s, id %x", public.Curve.Params().Name, p.ID())
			}
			c, err := p.Certify(background, "an EC pair")
			if err != nil {
				t.Fatal(err)
			}
			if c.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement || !public.Equal(c.PublicKey) {
				t.Errorf("key usage %b", c.KeyUsage)
			}
			// When it is found again, its public key is proven, not trusted.
			again, err := tok.KeyPair(background, PairName{Label: kind.String()})
			if err != nil || !again.public.Equal(public) {
				t.Fatalf("found again: %v", err)
			}
			// SoftHSM has no key derivation function for C_DeriveKey.
			if where, err := p.Residence(background); err != nil || where != keyspec.InMemory || p.WhyMemory() == "" {
				t.Errorf("residence %s, %v, because %q", where, err, p.WhyMemory())
			}
			for _, spec := range []keyspec.Key{wraps(16), wraps(24), wraps(32), encrypts(32), authenticates(32), authenticates(48), authenticates(64)} {
				key, err := again.Generate(background, spec)
				if err != nil {
					t.Fatal(err)
				}
				defer key.Close()
				wrapped, err := key.Wrap(background, public, 0)
				if err != nil || len(encryptedKey(wrapped)) != spec.Size+8 {
					t.Fatalf("wrapped: %d bytes, %v", len(encryptedKey(wrapped)), err)
				}
				check, err := key.CheckValue(background)
				if err != nil || len(check) != 3 {
					t.Errorf("check value %x, %v", check, err)
				}
				if err := p.Rehearse(background, of(spec, wrapped)); err != nil {
					t.Errorf("rehearsed: %v", err)
				}
				encryptedKey(wrapped)[3] ^= 1
				_, err = p.Unwrap(background, of(spec, wrapped))
				want(t, err, ErrWrapped)
			}
		})
	}
}

// Every pair wraps to every other: on the token and in memory, RSA and EC.
func TestPairsOfAllKindsShareKeys(t *testing.T) {
	tok := open(t, newToken(t))
	var pairs []*KeyPair
	for _, kind := range []KeyType{RSA2048, P256, P384, P521} {
		pairs = append(pairs, makePair(t, tok, kind.String(), kind))
	}
	for _, spec := range []keyspec.Key{wraps(32), encrypts(16), authenticates(64)} {
		for _, from := range pairs {
			key, err := from.Generate(background, spec)
			if err != nil {
				t.Fatal(err)
			}
			defer key.Close()
			var value []byte
			for _, to := range pairs {
				wrapped, err := key.Wrap(background, to.Public(), crypto.SHA1)
				if err != nil {
					t.Fatalf("%s to %s: %v", from.Label(), to.Label(), err)
				}
				got, err := to.Reveal(background, of(spec, wrapped))
				if err != nil || len(got) != spec.Size || value != nil && !bytes.Equal(got, value) {
					t.Errorf("%s to %s: %d bytes, %v", from.Label(), to.Label(), len(got), err)
				}
				value = got
				for _, other := range pairs {
					if other == to {
						continue
					}
					_, err := other.Unwrap(background, of(spec, wrapped))
					want(t, err, ErrWrapped)
				}
			}
		}
	}
}

// Anybody who can reach the token can write public objects without a PIN. An EC private key does not
// state its public key, so every candidate has to be proven.
func TestPlantedECPublicKey(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	p := makePair(t, tok, "pair", P256)
	r := openRaw(t, st)
	mine, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plant := append(ecPublicObject(t, &mine.PublicKey), attr(pkcs11.CKA_ID, p.ID()), attr(pkcs11.CKA_LABEL, "pair"), attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, false))
	planted, err := r.CreateObject(r.session, plant)
	if err != nil {
		t.Fatal(err)
	}
	found := func(when string, strays int) *KeyPair {
		t.Helper()
		again, err := tok.KeyPair(background, PairName{Label: "pair"})
		if err != nil || !again.public.Equal(p.public) {
			t.Fatalf("%s: %v", when, err)
		}
		if told, err := again.Mismatches(background); err != nil || len(told) != strays {
			t.Errorf("%s: %v, %v", when, told, err)
		}
		return again
	}
	found("beside the right one", 1)
	// In place of the right one.
	for _, handle := range r.find(t, append(p.publicTemplate(), attr(pkcs11.CKA_ID, p.ID()))...) {
		if err := r.DestroyObject(r.session, handle); err != nil {
			t.Fatal(err)
		}
	}
	found("in place of the right one", 1)
	// None is left: the private key does not state it, but its signatures reveal it.
	if err := r.DestroyObject(r.session, planted); err != nil {
		t.Fatal(err)
	}
	found("with no public key at all", 0)
	// A public key that is put back is proven by a signature.
	if _, err := r.CreateObject(r.session, append(ecPublicObject(t, p.Public().(*ecdsa.PublicKey)), attr(pkcs11.CKA_ID, p.ID()), attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, false))); err != nil {
		t.Fatal(err)
	}
	if again, err := tok.KeyPair(background, PairName{Label: "pair"}); err != nil || !again.public.Equal(p.public) {
		t.Errorf("found by a public key that it proves: %v", err)
	}
}

func ecPublicObject(t testing.TB, key *ecdsa.PublicKey) []*pkcs11.Attribute {
	t.Helper()
	p := &KeyPair{public: key}
	return append(p.publicTemplate(), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		attr(pkcs11.CKA_EC_PARAMS, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}), attr(pkcs11.CKA_VERIFY, true))
}

// A pair that only derives proves its public key by agreeing on a secret.
func TestECPairThatMustNotSign(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	p := makePair(t, tok, "pair", P256)
	r := openRaw(t, st)
	if err := r.SetAttributeValue(r.session, p.private.handle, []*pkcs11.Attribute{attr(pkcs11.CKA_SIGN, false)}); err != nil {
		t.Fatal(err)
	}
	again, err := tok.KeyPair(background, PairName{Label: "pair"})
	if err != nil {
		t.Fatal(err)
	}
	if again.CanSign() || !again.public.Equal(p.public) {
		t.Error("it should be found, and not sign")
	}
	digest := sha256.Sum256([]byte("x"))
	_, err = again.Sign(nil, digest[:], crypto.SHA256)
	want(t, err, errors.ErrUnsupported, "CKA_SIGN")
}

// A pair on an unsupported curve is not mistaken for a planted one.
func TestECPairOnAnotherCurve(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	r := openRaw(t, st)
	both := []*pkcs11.Attribute{attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_ID, []byte{1}), attr(pkcs11.CKA_LABEL, "koblitz")}
	_, _, err := r.GenerateKeyPair(r.session, mechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil),
		append(both[:3:3], attr(pkcs11.CKA_EC_PARAMS, []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a})), // secp256k1
		append(both[:3:3], attr(pkcs11.CKA_PRIVATE, true), attr(pkcs11.CKA_SENSITIVE, true), attr(pkcs11.CKA_EXTRACTABLE, false), attr(pkcs11.CKA_SIGN, true)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = tok.KeyPair(background, PairName{Label: "koblitz"})
	want(t, err, errors.ErrUnsupported, "none of P-256, P-384 and P-521")
}
