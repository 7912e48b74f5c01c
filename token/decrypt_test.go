package token

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"testing"

	"github.com/miekg/pkcs11"
)

// A pair that may unwrap, one that may only decrypt, and one that may only unwrap.
func TestDecrypt(t *testing.T) {
	st, both := newPair(t)
	r := openRaw(t, st)
	secret := bytes.Repeat([]byte{5}, 40)
	enc, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, rsaOf(both), secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	labelled, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, rsaOf(both), secret, []byte("a label"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, p *KeyPair) {
		t.Run(what, func(t *testing.T) {
			if got, err := p.Decrypt(background, enc, crypto.SHA1); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("decrypted %x, %v", got, err)
			}
			_, err := p.Decrypt(background, labelled, crypto.SHA1)
			want(t, err, ErrWrapped, "decrypt with the key exchange pair")
			_, err = p.Decrypt(background, bytes.Repeat([]byte{0xff}, 256), crypto.SHA1)
			want(t, err, ErrWrapped, "not smaller than the modulus")
			damaged := bytes.Clone(enc)
			damaged[9] ^= 1
			_, err = p.Decrypt(background, damaged, crypto.SHA1)
			want(t, err, ErrWrapped)
			for _, hash := range []crypto.Hash{0, crypto.MD5, crypto.SHA512} {
				_, err = p.Decrypt(background, enc, hash)
				want(t, err, ErrWrapped)
			}
			for _, short := range [][]byte{nil, enc[1:], append(bytes.Clone(enc), 0)} {
				_, err = p.Decrypt(background, short, crypto.SHA1)
				want(t, err, ErrWrapped, "for a key of 256 bytes")
			}
		})
	}
	check("unwraps and decrypts", both)
	decrypts := forbid(t, r, both, pkcs11.CKA_UNWRAP)
	check("decrypts", decrypts)
	mute := forbid(t, r, decrypts, pkcs11.CKA_DECRYPT)
	_, err = mute.Decrypt(background, enc, crypto.SHA1)
	want(t, err, errors.ErrUnsupported)

	st, both = newPair(t)
	unwraps := forbid(t, openRaw(t, st), both, pkcs11.CKA_DECRYPT)
	enc, _ = rsa.EncryptOAEP(sha1.New(), rand.Reader, rsaOf(both), secret, nil)
	labelled, _ = rsa.EncryptOAEP(sha1.New(), rand.Reader, rsaOf(both), secret, []byte("a label"))
	check("unwraps", unwraps)
	_, err = unwraps.ECDH(background, nil)
	want(t, err, ErrWrapped, "not of the pair's curve")
}

func TestECDH(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	r := openRaw(t, st)
	for _, kind := range []KeyType{P256, P384, P521} {
		t.Run(kind.String(), func(t *testing.T) {
			p := makePair(t, tok, kind.String(), kind)
			public, err := p.Public().(*ecdsa.PublicKey).ECDH()
			if err != nil {
				t.Fatal(err)
			}
			peer, err := public.Curve().GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			here, err := peer.ECDH(public)
			if err != nil {
				t.Fatal(err)
			}
			if there, err := p.ECDH(background, peer.PublicKey()); err != nil || !bytes.Equal(here, there) {
				t.Errorf("agreed on %x, and the token on %x, %v", here, there, err)
			}
			stranger, err := ecdh.X25519().GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.ECDH(background, stranger.PublicKey())
			want(t, err, ErrWrapped, "not of the pair's curve")
			_, err = p.ECDH(background, nil)
			want(t, err, ErrWrapped)
			_, err = p.Decrypt(background, make([]byte, 256), crypto.SHA1)
			want(t, err, errors.ErrUnsupported, "not an RSA pair")
			_, err = forbid(t, r, p, pkcs11.CKA_DERIVE).ECDH(background, peer.PublicKey())
			want(t, err, errors.ErrUnsupported, "may not derive")
		})
	}
}
