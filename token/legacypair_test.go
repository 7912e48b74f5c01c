package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"strconv"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/openssltest"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// shortKey is one that crypto/rsa does not make.
func shortKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode(openssltest.Run(t, nil, "genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:"+strconv.Itoa(bits)))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}

func TestALegacyPairOpensAndDoesNothingElse(t *testing.T) {
	tok := blank(t, "legacy")
	ctx := context.Background()
	for _, bits := range []int{512, 768, 1024, 2040} {
		key := shortKey(t, bits)
		label := strconv.Itoa(bits)
		if _, err := tok.ImportPair(ctx, label, key); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%d bits as any other pair: %v", bits, err)
		}
		if _, err := tok.ImportLegacyPair(ctx, label, key); err != nil {
			t.Fatalf("%d bits: %v", bits, err)
		}
		p, err := tok.KeyPair(ctx, PairName{Label: label})
		if err != nil || !p.Legacy() || !p.public.Equal(&key.PublicKey) {
			t.Fatalf("%d bits: %v", bits, err)
		}
		if a, err := p.Attributes(ctx); err != nil || a.Sign || a.Derive || !a.Decrypt || !a.Unwrap {
			t.Errorf("%d bits: %+v, %v", bits, a, err)
		}
		sum := sha256.Sum256(nil)
		if _, err := p.Sign(nil, sum[:], crypto.SHA256); !errors.Is(err, errors.ErrUnsupported) || p.CanSign() {
			t.Errorf("%d bits: signs: %v", bits, err)
		}
		if _, err := p.Certify(ctx, "legacy"); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%d bits: is certified: %v", bits, err)
		}
		if err := p.RefuseLegacy(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%d bits: %v", bits, err)
		}
		if _, err := tok.ImportLegacyPair(ctx, "again", key); !errors.Is(err, ErrTaken) {
			t.Errorf("%d bits twice: %v", bits, err)
		}
		// An AES key in the token, and one of a legacy cipher through memory.
		for _, spec := range []keyspec.Key{wraps(16), decrypts(keyspec.RC4, 5)} {
			value := make([]byte, spec.Size)
			_, _ = rand.Read(value)
			encrypted, err := encryptPKCS1v15(&key.PublicKey, value)
			if err != nil {
				t.Fatal(err)
			}
			opened, err := p.UnwrapRSAES(ctx, spec, encrypted, keyspec.RSAESPKCS1v15)
			if err != nil {
				t.Fatalf("%d bits, %v: %v", bits, spec, err)
			}
			want, err := memkey.New(spec, bytes.Clone(value), tok.fail)
			if err != nil {
				t.Fatal(err)
			}
			a, err := opened.CheckValue(ctx)
			b, err2 := want.CheckValue(ctx)
			if err != nil || err2 != nil || !bytes.Equal(a, b) {
				t.Errorf("%d bits, %v: check value %x, not %x: %v, %v", bits, spec, a, b, err, err2)
			}
			opened.Close()
			want.Close()
		}
	}
	// They are not found without a name.
	if _, err := tok.KeyPair(ctx, PairName{}); !errors.Is(err, ErrNoPair) {
		t.Errorf("no pair is named: %v", err)
	}
	made, err := tok.GenerateKeyPair(ctx, "new", P256)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := tok.KeyPair(ctx, PairName{}); err != nil || !p.public.Equal(made.public) || p.RefuseLegacy() != nil {
		t.Errorf("no pair is named: %v", err)
	}
	// List shows them.
	all, err := List(env.Module())
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range all {
		if info.Label == "legacy" && len(info.Legacy) != 4 {
			t.Errorf("listed: %+v", info.Legacy)
		}
	}
}

func TestLegacyPairsThatAreRefused(t *testing.T) {
	tok := blank(t, "no legacy")
	ctx := context.Background()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tooShort := shortKey(t, 512)
	tooShort.N = new(big.Int).Rsh(tooShort.N, 8)
	one, other := shortKey(t, 1024), shortKey(t, 1024)
	other.Precompute()
	other.PublicKey = one.PublicKey
	for name, key := range map[string]crypto.Signer{"EC": ec, "2048 bits": whole, "504 bits": tooShort, "halves of two": other} {
		if _, err := tok.ImportLegacyPair(ctx, "x", key); err == nil {
			t.Errorf("%s: imported", name)
		}
	}
	left, err := tok.findObjects(ctx, nil)
	if err != nil || len(left) != 0 {
		t.Errorf("%d objects are left, %v", len(left), err)
	}
}

// A short pair that another program has put on the token may have every attribute, and is a legacy
// pair all the same.
func TestAShortPairOfAnotherProgramIsLegacy(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	object := privateKeyObject(shortKey(t, 1024), []byte{1}, "short")
	for _, a := range object {
		if a.Type == pkcs11.CKA_PRIVATE {
			a.Value = []byte{1}
		}
	}
	r := openRaw(t, st)
	if _, err := r.CreateObject(r.session, object); err != nil {
		t.Fatal(err)
	}
	p, err := tok.KeyPair(background, PairName{Label: "short"})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(nil)
	if _, err := p.Sign(nil, sum[:], crypto.SHA256); !p.Legacy() || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("it signs: %v", err)
	}
}
