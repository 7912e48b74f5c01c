package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"filippo.io/nistec"
)

// An EC private key object does not state its public key, and anybody who reaches the token can
// delete the public half without a PIN, as can a crash. But a signature reveals the public key up
// to a choice of two (SEC 1 v2.0 §4.1.6), and two signatures leave one.

// publicOfSignatures returns the public key of an EC pair that may sign, with nothing but the
// private key on the token.
func (p *KeyPair) publicOfSignatures(ctx context.Context) (publicKey, error) {
	c, err := p.privateCurve(ctx)
	if err != nil {
		return nil, err
	}
	if !p.private.sign {
		return nil, ErrMayNotSign
	}
	// Sign uses the kind and the curve of the public key, not its point.
	try := &KeyPair{token: p.token, private: p.private, public: &ecdsa.PublicKey{Curve: c.curve}, label: p.label, id: p.id, generation: p.generation}
	var left []*ecdsa.PublicKey
	for n := range 2 {
		digest := make([]byte, c.hash.Size())
		_, _ = rand.Read(digest)
		signature, err := try.Sign(nil, digest, c.hash)
		if err != nil {
			return nil, err
		}
		possible, err := signersOf(c.curve, digest, signature)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			left = possible
			continue
		}
		left = intersect(left, possible)
	}
	if len(left) != 1 {
		return nil, fmt.Errorf("its signatures fit %d public keys", len(left))
	}
	return left[0], nil
}

func intersect(a, b []*ecdsa.PublicKey) (both []*ecdsa.PublicKey) {
	for _, x := range a {
		for _, y := range b {
			if x.Equal(y) {
				both = append(both, x)
			}
		}
	}
	return both
}

// signersOf returns the public keys under which a signature, DER, verifies: two, or with
// negligible probability four.
func signersOf(c elliptic.Curve, digest, signature []byte) ([]*ecdsa.PublicKey, error) {
	switch c {
	case elliptic.P256():
		return signersOn(c, nistec.NewP256Point, digest, signature)
	case elliptic.P384():
		return signersOn(c, nistec.NewP384Point, digest, signature)
	case elliptic.P521():
		return signersOn(c, nistec.NewP521Point, digest, signature)
	}
	return nil, fmt.Errorf("curve %s", c.Params().Name)
}

// point is a type of package nistec.
type point[P any] interface {
	Add(P, P) P
	Bytes() []byte
	SetBytes([]byte) (P, error)
	ScalarBaseMult([]byte) (P, error)
	ScalarMult(P, []byte) (P, error)
}

// signersOn is signersOf on one curve. For each point R with the x coordinate r (or r + n) the key
// is (s/r)R - (e/r)G. All values are public.
func signersOn[P point[P]](c elliptic.Curve, zero func() P, digest, signature []byte) ([]*ecdsa.PublicKey, error) {
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(signature, &sig); err != nil || len(rest) > 0 {
		return nil, errors.New("not a signature")
	}
	n := c.Params().N
	size := (c.Params().BitSize + 7) / 8
	if sig.R.Sign() <= 0 || sig.S.Sign() <= 0 || sig.R.Cmp(n) >= 0 || sig.S.Cmp(n) >= 0 || 8*len(digest) > n.BitLen() {
		return nil, errors.New("not a signature of such a digest")
	}
	scalar := func(v *big.Int) []byte { return new(big.Int).Mod(v, n).FillBytes(make([]byte, size)) }
	inverse := new(big.Int).ModInverse(sig.R, n)
	ofR := scalar(new(big.Int).Mul(sig.S, inverse))
	ofG := scalar(new(big.Int).Neg(new(big.Int).Mul(new(big.Int).SetBytes(digest), inverse)))
	var keys []*ecdsa.PublicKey
	for x := new(big.Int).Set(sig.R); x.Cmp(c.Params().P) < 0; x.Add(x, n) {
		for _, sign := range []byte{2, 3} { // compressed points, SEC 1 §2.3.3
			r, err := zero().SetBytes(append([]byte{sign}, x.FillBytes(make([]byte, size))...))
			if err != nil {
				continue // no point has this coordinate
			}
			a, err := zero().ScalarMult(r, ofR)
			if err != nil {
				return nil, err
			}
			b, err := zero().ScalarBaseMult(ofG)
			if err != nil {
				return nil, err
			}
			key, err := ecdsa.ParseUncompressedPublicKey(c, zero().Add(a, b).Bytes())
			if err == nil && ecdsa.VerifyASN1(key, digest, signature) {
				keys = append(keys, key)
			}
		}
	}
	return keys, nil
}
