package token

import (
	"crypto/ecdsa"
	"crypto/rand"
	"math/big"
	"testing"

	"github.com/miekg/pkcs11"
	"pgregory.net/rapid"
)

func TestSignaturesTellThePublicKey(t *testing.T) {
	for _, c := range curves {
		t.Run(c.curve.Params().Name, func(t *testing.T) {
			key, err := ecdsa.GenerateKey(c.curve, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			rapid.Check(t, func(t *rapid.T) {
				left := []*ecdsa.PublicKey(nil)
				for n := range 2 {
					digest := rapid.SliceOfN(rapid.Byte(), c.hash.Size(), c.hash.Size()).Draw(t, "digest")
					signature, err := ecdsa.SignASN1(rand.Reader, key, digest)
					if err != nil {
						t.Fatal(err)
					}
					possible, err := signersOf(c.curve, digest, signature)
					if err != nil {
						t.Fatal(err)
					}
					if len(possible) < 2 || len(possible) > 4 {
						t.Fatalf("%d keys fit one signature", len(possible))
					}
					if left = intersect(left, possible); n == 0 {
						left = possible
					}
				}
				if len(left) != 1 || !left[0].Equal(&key.PublicKey) {
					t.Fatalf("%d keys are left", len(left))
				}
			})
		})
	}
}

func TestWhatIsNoSignatureTellsNoPublicKey(t *testing.T) {
	c := curves[0].curve
	n := c.Params().N
	der := func(r, s *big.Int) []byte {
		raw := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		out, err := (ecPair{}).signature(raw)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	one := big.NewInt(1)
	for name, signature := range map[string][]byte{
		"nothing": nil, "no DER": []byte("signature"), "r is 0": der(new(big.Int), one), "s is 0": der(one, new(big.Int)), "r is n": der(n, one), "s is n": der(one, n),
	} {
		if keys, err := signersOf(c, make([]byte, 32), signature); err == nil || keys != nil {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
	if _, err := signersOf(c, make([]byte, 64), der(one, one)); err == nil {
		t.Error("a digest that is too long")
	}
}

// An EC pair of which only the private key is left, as after a crash, or after an attacker deleted
// the rest, for which no PIN is needed.
func TestAnECPairWithoutItsPublicHalf(t *testing.T) {
	for _, kind := range []KeyType{P256, P384, P521} {
		st := newToken(t)
		tok := open(t, st)
		p := makePair(t, tok, "pair", kind)
		attack{Destroy: []rawAttribute{{pkcs11.CKA_ID, p.ID()}}}.must(t, st) // all that is public
		again, err := tok.KeyPair(background, PairName{Label: "pair"})
		if err != nil {
			t.Fatalf("%v: %v", kind, err)
		}
		if !again.public.Equal(p.public) {
			t.Errorf("%v: another key", kind)
		}
		if err := again.checkUnwraps(background); err != nil {
			t.Errorf("%v: %v", kind, err)
		}
	}
}
