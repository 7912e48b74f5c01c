package token

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// A key with CKA_ALWAYS_AUTHENTICATE gets its PIN each time, from where the first came.
func TestPINForEachUse(t *testing.T) {
	st := newToken(t)
	asked, text := 0, st.PIN
	cfg := config(st)
	cfg.PIN = func(context.Context, Info) ([]byte, error) {
		asked++
		return []byte(text), nil
	}
	tok, err := Open(background, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	r := openRaw(t, st)
	key := softwareKey(t)
	object := append(privateKeyObject(key, []byte{1}, "strict"), attr(pkcs11.CKA_ALWAYS_AUTHENTICATE, true))
	for _, a := range object {
		if a.Type == pkcs11.CKA_PRIVATE {
			a.Value = []byte{1}
		}
		if a.Type == pkcs11.CKA_UNWRAP {
			a.Value = []byte{0} // decrypts, as a card
		}
	}
	if _, err := r.CreateObject(r.session, object); err != nil {
		t.Fatal(err)
	}
	p, err := tok.KeyPair(background, PairName{Label: "strict"})
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := memkey.WrapRSA(&key.PublicKey, crypto.SHA1, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	for want := 2; want < 6; want += 2 {
		if ok, err := p.signs(sha256.Sum256(nil)); err != nil || !ok {
			t.Fatalf("it signs: %v, %v", ok, err)
		}
		session, err := p.Unwrap(background, of(wraps(32), wrapped))
		if err != nil {
			t.Fatal(err)
		}
		session.Close()
		if asked != want+1 {
			t.Errorf("the PIN was asked for %d times, want %d", asked, want+1)
		}
	}
	text = "wrong"
	asked = 0
	_, err = p.signs(sha256.Sum256(nil))
	want(t, err, ErrPIN, "CKR_PIN_INCORRECT")
	if asked != 1 {
		t.Errorf("a wrong PIN was tried %d times", asked)
	}
	for range 3 { // a token locks after a few tries
		_, err = p.signs(sha256.Sum256(nil))
		want(t, err, ErrPIN, "CKR_PIN_INCORRECT")
	}
	if asked != 1 {
		t.Errorf("after a wrong PIN it was asked for %d times", asked)
	}
}

func TestSignWith(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	opens, signs := makePair(t, tok, "opens", 2048), makePair(t, tok, "signs", P256)
	want(t, opens.SignWith(opens), errors.ErrUnsupported, "the key exchange pair itself")
	other := makePair(t, open(t, newToken(t)), "other", 2048)
	want(t, opens.SignWith(other), errors.ErrUnsupported, "another token")
	mute := forbid(t, openRaw(t, st), makePair(t, tok, "mute", 2048), pkcs11.CKA_SIGN)
	want(t, opens.SignWith(mute), errors.ErrUnsupported, "CKA_SIGN")
	if c, err := opens.SigningCertificate(background); c != nil || err != nil || opens.Signing() != opens {
		t.Errorf("a pair that signs itself: %v, %v", c, err)
	}
	if err := opens.SignWith(signs); err != nil {
		t.Fatal(err)
	}
	if opens.Signing() != signs || opens.Signing().Scheme() != keyspec.ECDSA {
		t.Error("the other should sign")
	}
	c, err := opens.SigningCertificate(background)
	if err != nil || !signs.public.Equal(c.PublicKey) {
		t.Errorf("its certificate: %v", err)
	}
	if again, err := opens.SigningCertificate(background); err != nil || !again.Equal(c) {
		t.Errorf("the same again: %v", err)
	}
	// A pair that may not sign is certified by the one that signs for it.
	if err := mute.SignWith(signs); err != nil {
		t.Fatal(err)
	}
	issued, err := mute.Certify(background, "mute")
	if err != nil || !mute.public.Equal(issued.PublicKey) || c.CheckSignature(issued.SignatureAlgorithm, issued.RawTBSCertificate, issued.Signature) != nil {
		t.Errorf("certified: %v", err)
	}
	if found, err := mute.IssuedCertificate(background); err != nil || !found.Equal(issued) {
		t.Errorf("found again: %v", err)
	}
	if _, err := mute.Certificate(background); err != nil || errors.Is(err, ErrPlanted) {
		t.Errorf("no certificate of its own: %v", err)
	}
}
