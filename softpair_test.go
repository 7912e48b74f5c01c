package hsmkeys_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/store/mem"
	"github.com/hsmkeys/hsmkeys/token/softpair"
)

// softPairs returns a pair in memory for each kind of key.
func softPairs(t *testing.T) map[string]*softpair.Pair {
	t.Helper()
	keys := map[string]crypto.Signer{"RSA": must(rsa.GenerateKey(rand.Reader, 2048))}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		keys[curve.Params().Name] = must(ecdsa.GenerateKey(curve, rand.Reader))
	}
	pairs := map[string]*softpair.Pair{}
	for name, key := range keys {
		pairs[name] = must(softpair.New(key))
	}
	return pairs
}

// A pair in memory goes through the life of a keyring, without any PKCS #11 module: made, rotated,
// with a backup authority, recovered to another pair.
func TestALifeWithPairsInMemory(t *testing.T) {
	ctx := context.Background()
	for name, owner := range softPairs(t) {
		t.Run(name, func(t *testing.T) {
			store := new(mem.Store)
			k := must(hsmkeys.Init(ctx, hsmkeys.Options{Store: store, Pair: owner}, "office"))
			if _, err := hsmkeys.Init(ctx, hsmkeys.Options{Store: store, Pair: owner}, "office"); !errors.Is(err, hsmkeys.ErrHasKeyring) || !errors.Is(err, blob.ErrExists) {
				t.Errorf("made twice: %v", err)
			}
			vault, spare := softPairs(t)["P-384"], softPairs(t)["RSA"]
			authority := must(vault.Certify(ctx, "vault"))
			if err := k.AddMember(ctx, blob.Member{Role: blob.BackupAuthority, Label: "vault", Certificate: authority}); err != nil {
				t.Fatal(err)
			}
			made := must(k.Create(ctx, "payroll", keyspec.AES256, 0))
			if made.Residence != string(keyspec.InMemory) || len(made.Holders) != 2 {
				t.Errorf("made %+v", made)
			}
			file := encryptWith(t, k, "payroll", "The salaries of March.")
			must(k.Rotate(ctx, "payroll", ""))

			// Opened again, it is the same; with another pair it is nobody's.
			k = must(hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: owner}))
			if got := decryptWith(t, k, file); got != "The salaries of March." {
				t.Errorf("decrypted %q", got)
			}
			if _, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: spare}); !errors.Is(err, hsmkeys.ErrNotJoined) {
				t.Errorf("a stranger: %v", err)
			}
			certificate := must(k.Certificate())
			if rows := must(hsmkeys.OpenWithCertificate(ctx, hsmkeys.Options{Store: store, Voucher: certificate})); rows.ID() != k.ID() {
				t.Error("another keyring")
			}

			// The owner is lost.
			recoverTo(t, store, vault, certificate, spare)
			k = must(hsmkeys.Join(ctx, hsmkeys.Options{Store: store, Pair: spare, Voucher: authority}))
			if got := decryptWith(t, k, file); got != "The salaries of March." {
				t.Errorf("after the recovery: %q", got)
			}
			if _, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: owner}); !errors.Is(err, blob.ErrUntrusted) {
				t.Errorf("the lost owner: %v", err)
			}
		})
	}
}

// recoverTo has a backup authority recover every key from an owner to another pair.
func recoverTo(t *testing.T, store blob.Store, authority *softpair.Pair, from *x509.Certificate, to *softpair.Pair) {
	t.Helper()
	ctx := context.Background()
	k := must(hsmkeys.Join(ctx, hsmkeys.Options{Store: store, Pair: authority, Voucher: from}))
	r, err := k.BeginRecovery(ctx, from, blob.Member{Role: blob.Owner, Label: "spare", Certificate: must(to.Certify(ctx, "spare"))}, "a test")
	if err != nil {
		t.Fatal(err)
	}
	refs := must(k.Versions(ctx))
	n := 0
	for result := range r.Keys(ctx, refs) {
		if result.Err != nil {
			t.Fatal(result.Err)
		}
		n++
	}
	if n != 2 {
		t.Errorf("%d versions recovered", n)
	}
}

// What is made with a pair in memory opens on a token, and the other way round.
func TestAPairInMemoryBesideOneOnAToken(t *testing.T) {
	ctx := context.Background()
	office := newSite(t, "office")
	k, store, _ := office.found(t)
	soft := softPairs(t)["RSA"]
	if err := k.AddMember(ctx, blob.Member{Role: blob.Owner, Label: "soft", Certificate: must(soft.Certify(ctx, "soft"))}); err != nil {
		t.Fatal(err)
	}
	create(t, k, "by-token")
	other := must(hsmkeys.Join(ctx, hsmkeys.Options{Store: store, Pair: soft, Voucher: office.cert}))
	file := encryptWith(t, other, "by-token", "from memory")
	create(t, other, "in-memory")
	k = must(hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: office.pair}))
	if got := decryptWith(t, k, file); got != "from memory" {
		t.Errorf("the token decrypted %q", got)
	}
	if got := decryptWith(t, other, encryptWith(t, k, "in-memory", "from the token")); got != "from the token" {
		t.Errorf("the pair in memory decrypted %q", got)
	}
	if _, err := other.Load(ctx, hsmkeys.Ref{Name: "by-token"}, "label"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("loaded: %v", err)
	}
}

func encryptWith(t *testing.T, k *hsmkeys.Keyring, name, text string) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := k.Encrypt(context.Background(), &file, []hsmkeys.Ref{{Name: name}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func decryptWith(t *testing.T, k *hsmkeys.Keyring, file []byte) string {
	t.Helper()
	r, err := k.Decrypt(context.Background(), bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return string(must(io.ReadAll(r)))
}
