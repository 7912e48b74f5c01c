package sharing

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/bits"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/softpair"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// For all n up to 8, any k of n put the key together, and no k-1 do.
func TestAnyThatAreEnough(t *testing.T) {
	for n := 2; n <= 8; n++ {
		for k := 2; k <= n; k++ {
			t.Run(fmt.Sprintf("%d of %d", k, n), func(t *testing.T) {
				t.Parallel()
				s := must(New(k, n))
				if len(s.Shares) != n || len(s.Commitments) != k {
					t.Fatalf("%d shares, %d commitments", len(s.Shares), len(s.Commitments))
				}
				public := s.Pair.Public().(*ecdsa.PublicKey)
				if !bytes.Equal(must(public.Bytes()), s.Commitments[0]) {
					t.Fatal("commitment 0 is not the public key")
				}
				for set := range uint(1 << n) {
					size := bits.OnesCount(set)
					if size != k && size != k-1 {
						continue
					}
					some := map[int][]byte{}
					for i, share := range s.Shares {
						if set&(1<<i) != 0 {
							some[i+1] = share
						}
					}
					pair, err := Combine(some, s.Commitments)
					if size < k {
						if !errors.Is(err, ErrShare) {
							t.Fatalf("%d shares: %v", size, err)
						}
						// Nor do they where somebody claims that fewer are needed.
						if k > 2 {
							if _, err := Combine(some, s.Commitments[:k-1]); !errors.Is(err, ErrShare) {
								t.Fatalf("%d shares and as many commitments: %v", size, err)
							}
						}
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					if !pair.Public().(*ecdsa.PublicKey).Equal(public) {
						t.Fatal("another key")
					}
				}
			})
		}
	}
}

func TestSharesThatDoNotFit(t *testing.T) {
	s, other := must(New(2, 3)), must(New(2, 3))
	flipped := bytes.Clone(s.Shares[0])
	flipped[47] ^= 1
	order := elliptic.P384().Params().N.Bytes()
	for name, share := range map[string][]byte{
		"of another index": s.Shares[1], "of another key": other.Shares[0], "with one bit changed": flipped, "short": s.Shares[0][1:],
		"long": append([]byte{0}, s.Shares[0]...), "empty": nil, "the order": order, "zero": make([]byte, Size),
	} {
		if err := Check(1, share, s.Commitments); !errors.Is(err, ErrShare) {
			t.Errorf("a share %s: %v", name, err)
		}
		if _, err := Combine(map[int][]byte{1: share, 2: s.Shares[1]}, s.Commitments); !errors.Is(err, ErrShare) {
			t.Errorf("combined with a share %s: %v", name, err)
		}
	}
	for i, share := range s.Shares {
		if err := Check(i+1, share, s.Commitments); err != nil {
			t.Error(err)
		}
	}
	if err := Check(0, s.Shares[0], s.Commitments); !errors.Is(err, ErrShare) {
		t.Errorf("share 0: %v", err)
	}
	for name, commitments := range map[string][][]byte{"none": nil, "one": s.Commitments[:1], "no point": {s.Commitments[0], make([]byte, 97)}, "infinity": {s.Commitments[0], {0}}} {
		if err := Check(1, s.Shares[0], commitments); !errors.Is(err, ErrShare) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, kn := range [][2]int{{1, 2}, {3, 2}, {0, 0}} {
		if _, err := New(kn[0], kn[1]); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v: %v", kn, err)
		}
	}
}

// What is put together signs as the key that was split.
func TestTheCombinedKeySigns(t *testing.T) {
	s := must(New(3, 4))
	pair := must(Combine(map[int][]byte{1: s.Shares[0], 2: s.Shares[1], 4: s.Shares[3]}, s.Commitments))
	digest := make([]byte, 48)
	key, _ := pair.Signer()
	signature := must(key.Sign(rand.Reader, digest, crypto.SHA384))
	if !ecdsa.VerifyASN1(s.Pair.Public().(*ecdsa.PublicKey), digest, signature) {
		t.Error("the key that was put together signs for another one")
	}
}

func TestSealedSecrets(t *testing.T) {
	ctx := context.Background()
	for _, key := range []crypto.Signer{must(rsa.GenerateKey(rand.Reader, 2048)), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))} {
		pair := must(softpair.New(key))
		for _, size := range []int{0, 1, 15, 16, 48} {
			secret := bytes.Repeat([]byte{7}, size)
			s := must(Seal(ctx, secret, pair.Public(), crypto.SHA256))
			if got, err := Open(ctx, pair, s); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%d bytes: %x, %v", size, got, err)
			}
			s.Content[len(s.Content)-1] ^= 1
			if got, err := Open(ctx, pair, s); err == nil && bytes.Equal(got, secret) {
				t.Error("a changed one opens")
			}
		}
		if _, err := Open(ctx, must(softpair.New(must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)))), must(Seal(ctx, nil, pair.Public(), crypto.SHA256))); !errors.Is(err, keyspec.ErrWrapped) {
			t.Errorf("opened by a stranger: %v", err)
		}
	}
}
