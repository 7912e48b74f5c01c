package token

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/pkcs11"
)

func TestGenerateKeyPair(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	r := openRaw(t, st)
	for _, tt := range []struct {
		label string
		bits  KeyType
	}{{"two", 2048}, {"three", 3072}, {strings.Repeat("4", 64), 4096}} {
		t.Run(tt.label, func(t *testing.T) {
			p := makePair(t, tok, tt.label, tt.bits)
			if rsaOf(p).N.BitLen() != int(tt.bits) || rsaOf(p).E != 65537 {
				t.Errorf("%d bits, exponent %d", rsaOf(p).N.BitLen(), rsaOf(p).E)
			}
			isTheKey(t, p, rsaOf(p))
			c, err := p.Certify(background, "holder")
			if err != nil {
				t.Fatal(err)
			}
			label, id := attr(pkcs11.CKA_LABEL, tt.label), attr(pkcs11.CKA_ID, keyID(p.public))
			if got := r.find(t, attr(pkcs11.CKA_TOKEN, true), label, id); len(got) != 3 {
				t.Errorf("%d objects have the label and id, want private key, public key and certificate", len(got))
			}
			if !bytes.Equal(c.SubjectKeyId, p.ID()) {
				t.Errorf("certificate for %x, pair %x", c.SubjectKeyId, p.ID())
			}
			private := r.one(t, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), label, id)
			for name, a := range map[string]struct {
				kind uint
				want bool
			}{
				"CKA_TOKEN": {pkcs11.CKA_TOKEN, true}, "CKA_PRIVATE": {pkcs11.CKA_PRIVATE, true}, "CKA_LOCAL": {pkcs11.CKA_LOCAL, true},
				"CKA_SENSITIVE": {pkcs11.CKA_SENSITIVE, true}, "CKA_ALWAYS_SENSITIVE": {pkcs11.CKA_ALWAYS_SENSITIVE, true},
				"CKA_EXTRACTABLE": {pkcs11.CKA_EXTRACTABLE, false}, "CKA_NEVER_EXTRACTABLE": {pkcs11.CKA_NEVER_EXTRACTABLE, true},
				"CKA_SIGN": {pkcs11.CKA_SIGN, true}, "CKA_UNWRAP": {pkcs11.CKA_UNWRAP, true}, "CKA_DERIVE": {pkcs11.CKA_DERIVE, false},
			} {
				if got := r.attribute(t, private, a.kind); !bytes.Equal(got, attr(0, a.want).Value) {
					t.Errorf("%s of the private key is %x, want %v", name, got, a.want)
				}
			}
			_, err = r.GetAttributeValue(r.session, private, []*pkcs11.Attribute{attr(pkcs11.CKA_PRIVATE_EXPONENT, nil)})
			if !is(err, pkcs11.CKR_ATTRIBUTE_SENSITIVE) {
				t.Errorf("the private exponent is read: %v", err)
			}
		})
	}
}

func TestGenerateKeyPairRefuses(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	for _, tt := range []struct {
		name, label string
		bits        KeyType
	}{
		{"a key too short", "x", 1024}, {"a size between", "x", 2560}, {"a key too long", "x", 8192}, {"no size", "x", 0},
		{"a negative size", "x", -2048}, {"no label", "", 2048}, {"a label too long", strings.Repeat("x", 65), 2048},
		{"the label of a leftover", "x" + unfinished, 2048},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tok.GenerateKeyPair(background, tt.label, tt.bits)
			want(t, err, errors.ErrUnsupported)
		})
	}
	key := softwareKey(t)
	plant(t, st, publicKeyObject(&key.PublicKey, []byte{1}, "public"), privateKeyObject(key, []byte{2}, "private"),
		certificateObject(forge(t, &key.PublicKey, key), []byte{3}, "certificate"))
	makePair(t, tok, "pair", 2048)
	for _, label := range []string{"pair", "public", "private", "certificate"} {
		t.Run("a label that is taken by a "+label, func(t *testing.T) {
			_, err := tok.GenerateKeyPair(background, label, 2048)
			want(t, err, ErrTaken, label)
			if !errors.Is(err, ErrLabelTaken) {
				t.Error("it is not the label that is taken")
			}
		})
	}
	if got := openRaw(t, st).find(t, attr(pkcs11.CKA_TOKEN, true)); len(got) != 5 {
		t.Errorf("%d objects are on the token, want the 5 that were there", len(got))
	}
}

// What a process that is killed leaves behind, at every step of renaming.
func TestGenerateKeyPairAfterAKill(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	r := openRaw(t, st)
	leftover := func(t *testing.T) (public, private pkcs11.ObjectHandle) {
		t.Helper()
		a, b := pairTemplates([]byte("preliminary"), "pair"+unfinished, RSA2048)
		pub := append(a, attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA), attr(pkcs11.CKA_MODULUS_BITS, 2048))
		public, private, err := r.GenerateKeyPair(r.session, mechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil), pub, b)
		if err != nil {
			t.Fatal(err)
		}
		return public, private
	}
	name := func(t *testing.T, object pkcs11.ObjectHandle, as ...*pkcs11.Attribute) {
		t.Helper()
		if err := r.SetAttributeValue(r.session, object, as); err != nil {
			t.Fatal(err)
		}
	}
	id, label := attr(pkcs11.CKA_ID, []byte("final")), attr(pkcs11.CKA_LABEL, "pair")
	for _, tt := range []struct {
		name  string
		steps func(t *testing.T, public, private pkcs11.ObjectHandle)
	}{
		{"before it was proved", func(*testing.T, pkcs11.ObjectHandle, pkcs11.ObjectHandle) {}},
		{"after the public half got its id", func(t *testing.T, public, _ pkcs11.ObjectHandle) { name(t, public, id) }},
		{"when the private half is there alone", func(t *testing.T, public, _ pkcs11.ObjectHandle) {
			if err := r.DestroyObject(r.session, public); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			public, private := leftover(t)
			tt.steps(t, public, private)
			for _, by := range []PairName{{}, {Label: "pair"}, {Label: "pair" + unfinished}, {ID: []byte("preliminary")}} {
				_, err := tok.KeyPair(background, by)
				want(t, err, ErrNoPair)
			}
			p := makePair(t, tok, "pair", 2048)
			if got := r.find(t, attr(pkcs11.CKA_TOKEN, true)); len(got) != 2 {
				t.Errorf("%d objects are on the token, want the two new halves", len(got))
			}
			if err := p.Destroy(background); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("after the private half got its name, the pair is there", func(t *testing.T) {
		public, private := leftover(t)
		name(t, public, id)
		name(t, private, id, label)
		p, err := tok.KeyPair(background, PairName{Label: "pair"})
		if err != nil {
			t.Fatal(err)
		}
		isTheKey(t, p, rsaOf(p))
		_, err = tok.GenerateKeyPair(background, "pair", 2048)
		want(t, err, ErrTaken)
	})
}

// watched is a context that runs something each time the package checks it, which it does before
// every call to the token.
type watched struct {
	context.Context
	look func(n int64) error
	n    *atomic.Int64
}

func (w watched) Err() error { return w.look(w.n.Add(1)) }

func watch(look func(n int64) error) watched { return watched{background, look, new(atomic.Int64)} }

func TestGenerateKeyPairLeavesNothingWhenCancelled(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	r := openRaw(t, st)
	for at := int64(1); ; at += 4 {
		ctx := watch(func(n int64) error {
			if n >= at {
				return context.Canceled
			}
			return nil
		})
		p, err := tok.GenerateKeyPair(ctx, "pair", 2048)
		if err == nil {
			if at < 20 {
				t.Errorf("it was not cancelled at step %d", at)
			}
			isTheKey(t, p, rsaOf(p))
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at step %d: %v", at, err)
		}
		if got := r.find(t, attr(pkcs11.CKA_TOKEN, true)); len(got) > 0 {
			t.Fatalf("cancelled at step %d, %d objects are left", at, len(got))
		}
	}
}

// An attacker without a PIN waits for the new public key and interferes.
func TestGenerateKeyPairAgainstAWatcher(t *testing.T) {
	attacker := softwareKey(t)
	for _, tt := range []struct {
		name, label string // the public half to wait for
		kind        error  // nil: the pair is made all the same
		attack      func(made *rsa.PublicKey, id []byte) attack
	}{
		{"who takes the id before the pair has it", "pair" + unfinished, ErrTaken, func(made *rsa.PublicKey, _ []byte) attack {
			return attack{Create: [][]rawAttribute{rawAttributes(publicKeyObject(&attacker.PublicKey, keyID(made), ""))}}
		}},
		{"who plants a key with the id after the pair has it", "pair", nil, func(made *rsa.PublicKey, _ []byte) attack {
			return attack{Create: [][]rawAttribute{rawAttributes(publicKeyObject(&attacker.PublicKey, keyID(made), "pair"))}}
		}},
		{"who plants a key with the preliminary id", "pair" + unfinished, nil, func(_ *rsa.PublicKey, id []byte) attack {
			return attack{Create: [][]rawAttribute{rawAttributes(publicKeyObject(&attacker.PublicKey, id, "x"))}}
		}},
		{"who deletes the public half", "pair" + unfinished, ErrPlanted, func(_ *rsa.PublicKey, id []byte) attack {
			return attack{Destroy: []rawAttribute{{pkcs11.CKA_ID, id}}}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := newToken(t)
			tok := open(t, st)
			r := openRaw(t, st)
			var once sync.Once
			planted, seen := 0, new(big.Int)
			ctx := watch(func(int64) error {
				found := r.find(t, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), attr(pkcs11.CKA_LABEL, tt.label), attr(pkcs11.CKA_TOKEN, true))
				if len(found) == 0 {
					return nil
				}
				once.Do(func() {
					seen.SetBytes(r.attribute(t, found[0], pkcs11.CKA_MODULUS))
					a := tt.attack(&rsa.PublicKey{N: seen, E: 65537}, r.attribute(t, found[0], pkcs11.CKA_ID))
					planted = len(a.Create)
					a.must(t, st)
				})
				return nil
			})
			p, err := tok.GenerateKeyPair(ctx, "pair", 2048)
			if tt.kind == nil {
				if err != nil {
					t.Fatal(err)
				}
				isTheKey(t, p, &rsa.PublicKey{N: seen, E: 65537})
				return
			}
			want(t, err, tt.kind)
			if got := r.find(t, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)); len(got) != 0 {
				t.Errorf("%d private keys are left", len(got))
			}
			if got := r.find(t, attr(pkcs11.CKA_TOKEN, true)); len(got) != planted {
				t.Errorf("%d objects are left, want the %d planted", len(got), planted)
			}
		})
	}
}

func TestGenerateKeyPairDespitePlantedLeftovers(t *testing.T) {
	st := newToken(t)
	key := softwareKey(t)
	plant(t, st, publicKeyObject(&key.PublicKey, []byte{1}, "pair"+unfinished), privateKeyObject(key, []byte{1}, "pair"+unfinished))
	tok := open(t, st)
	_, err := tok.KeyPair(background, PairName{})
	want(t, err, ErrNoPair)
	p := makePair(t, tok, "pair", 2048)
	isTheKey(t, p, rsaOf(p))
	if p.public.Equal(&key.PublicKey) {
		t.Error("the planted key became the pair")
	}
}

func TestGenerateKeyPairByManyAtOnce(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	var made, refused atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			switch _, err := tok.GenerateKeyPair(background, "pair", 2048); {
			case err == nil:
				made.Add(1)
			case errors.Is(err, ErrTaken):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 || refused.Load() != 3 {
		t.Errorf("%d made, %d refused", made.Load(), refused.Load())
	}
	if got := openRaw(t, st).find(t, attr(pkcs11.CKA_TOKEN, true)); len(got) != 2 {
		t.Errorf("%d objects, want 2", len(got))
	}
}

func TestOAEPHash(t *testing.T) {
	_, p := newPair(t)
	if hash, err := p.OAEPHash(background); err != nil || hash.String() != "SHA-1" {
		t.Errorf("%v, %v; SoftHSM takes SHA-1 alone", hash, err)
	}
}
