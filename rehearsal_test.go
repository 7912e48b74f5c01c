package hsmkeys_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/store/mem"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token/softpair"
)

// A softSpare is a new owner whose pair is in memory.
type softSpare struct {
	*softpair.Pair
	store blob.Store // the copy
	takes func([]byte) []byte
}

func (s *softSpare) String() string { return "a pair in memory" }

func (s *softSpare) Certificate(ctx context.Context) (*x509.Certificate, error) {
	return s.Certify(ctx, "spare")
}

func (s *softSpare) Take(ctx context.Context, voucher *x509.Certificate, key string, file []byte) ([]byte, error) {
	k, err := hsmkeys.Join(ctx, hsmkeys.Options{Store: ledger.RehearsalStore{Store: s.store}, Pair: s.Pair, Voucher: voucher})
	if err != nil {
		return nil, err
	}
	for r := range k.Rewrap(ctx, []hsmkeys.Ref{{Name: key, Version: 1}}, "") {
		if r.Err != nil {
			return nil, r.Err
		}
	}
	r, err := k.Decrypt(ctx, strings.NewReader(string(file)))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(r)
	if s.takes != nil {
		text = s.takes(text)
	}
	return text, err
}

// contents are the objects of a store by their paths.
func contents(t *testing.T, store blob.Store) map[string][32]byte {
	t.Helper()
	all := map[string][32]byte{}
	for path, err := range store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all[path] = sha256.Sum256(must(store.Get(t.Context(), path)))
	}
	return all
}

func TestARehearsalWalksTheWholeWay(t *testing.T) {
	ctx := t.Context()
	store, vault := new(mem.Store), ecPair(elliptic.P256())
	owner := must(hsmkeys.Init(ctx, hsmkeys.Options{Store: store, Pair: ecPair(elliptic.P256())}, "office"))
	authority := must(vault.Certify(ctx, "vault"))
	if err := owner.AddMember(ctx, blob.Member{Role: blob.BackupAuthority, Label: "vault", Certificate: authority}); err != nil {
		t.Fatal(err)
	}
	must(owner.Create(ctx, "payroll", keyspec.AES256, 0))
	k := must(hsmkeys.Join(ctx, hsmkeys.Options{Store: store, Pair: vault, Voucher: must(owner.Certificate())}))
	rehearse := func(k *hsmkeys.Keyring, takes func([]byte) []byte) (blob.Rehearsal, error) {
		copied := new(mem.Store)
		return k.Rehearse(ctx, hsmkeys.RehearsalOptions{
			Canary: "canary", Copy: copied, Pins: hsmkeys.NewPins(nil, t.TempDir()), Program: "a test",
			Spare: &softSpare{ecPair(elliptic.P384()), copied, takes},
		})
	}
	untouched := func(what string, before map[string][32]byte, more int) {
		t.Helper()
		after := contents(t, store)
		for path, digest := range before {
			if after[path] != digest {
				t.Errorf("%s: %s has changed", what, path)
			}
		}
		if len(after) != len(before)+more {
			t.Errorf("%s: %d objects, before %d", what, len(after), len(before))
		}
	}
	before := contents(t, store)
	if _, err := rehearse(k, nil); !errors.Is(err, hsmkeys.ErrNoCanary) || !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("without a canary: %v", err)
	}
	untouched("without a canary", before, 0)
	must(owner.Create(ctx, "canary", keyspec.AES256, 0))
	before = contents(t, store)
	records := must(vault.Records().Records(ctx))

	if _, err := rehearse(owner, nil); !errors.Is(err, hsmkeys.ErrRole) {
		t.Errorf("by an owner: %v", err)
	}
	if _, err := rehearse(k, func(text []byte) []byte { return text[1:] }); !errors.Is(err, blob.ErrIntegrity) {
		t.Errorf("decrypted to something else: %v", err)
	}
	untouched("failed", before, 0)
	r, err := rehearse(k, nil)
	if err != nil {
		t.Fatal(err)
	}
	untouched("done", before, 1)
	if r.Canary != "canary" || r.Version != 1 || r.Checkpoint != 4 || r.List != 2 || r.Spare != "a pair in memory" {
		t.Errorf("%+v", r)
	}
	pins := must(vault.Records().Records(ctx))
	if len(pins) > len(records)+1 { // the keyring itself is pinned as always
		t.Errorf("%d records, before %d", len(pins), len(records))
	}
	if n := len(must(owner.Versions(ctx))); n != 2 || len(owner.Members()) != 2 {
		t.Errorf("%d versions, %d members", n, len(owner.Members()))
	}

	m := owner.Members()[1]
	all := must(owner.Rehearsals(ctx, m, func(err error) { t.Error(err) }))
	if len(all) != 1 || !all[0].Created.Equal(all[0].Created.Truncate(1e9)) || all[0].Canary != "canary" {
		t.Errorf("%+v", all)
	}
	// Whoever carries the recovery of the copy into the store does not become an owner.
	copied := new(mem.Store)
	spare := &softSpare{ecPair(elliptic.P256()), copied, nil}
	if _, err := k.Rehearse(ctx, hsmkeys.RehearsalOptions{Canary: "canary", Copy: copied, Pins: hsmkeys.NewPins(nil, t.TempDir()), Program: "a test", Spare: spare}); err != nil {
		t.Fatal(err)
	}
	carried := memoryCopyOf(t, store)
	for path, err := range copied.List(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		if err := carried.Put(ctx, path, must(copied.Get(ctx, path))); err != nil && !errors.Is(err, blob.ErrExists) {
			t.Fatal(err)
		}
	}
	if _, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: carried, Pair: vault}); !errors.Is(err, ledger.ErrRehearsal) || !errors.Is(err, blob.ErrIntegrity) {
		t.Errorf("carried into the store: %v", err)
	}
	if _, err := hsmkeys.Join(ctx, hsmkeys.Options{Store: carried, Pair: spare.Pair, Voucher: authority}); !errors.Is(err, ledger.ErrRehearsal) {
		t.Errorf("joined by the throw-away token: %v", err)
	}

	// A damaged one, and one that somebody else has signed, count for nothing.
	var path string
	for p := range contents(t, store) {
		if _, _, ok := blob.ParseRehearsalPath(p); ok {
			path = p
		}
	}
	der := must(store.Get(ctx, path))
	other := must(blob.SignRehearsal(r, blob.Signer{Key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), Scheme: keyspec.ECDSA}, r.Created))
	id := must(blob.PublicKeyID(authority.PublicKey))
	if err := store.Put(ctx, blob.RehearsalPath(id, other.Digest()), other.Bytes()); err != nil {
		t.Fatal(err)
	}
	der[len(der)/2] ^= 1
	if err := store.Put(ctx, blob.RehearsalPath(id, [32]byte{1}), der); err != nil {
		t.Fatal(err)
	}
	failed := 0
	if all := must(owner.Rehearsals(ctx, m, func(error) { failed++ })); len(all) != 2 || failed != 2 {
		t.Errorf("%d rehearsals, %d failed", len(all), failed)
	}

	// The canary's blob is damaged: the way ends, and no proof says otherwise.
	for p := range contents(t, store) {
		if strings.HasPrefix(p, blob.KeysPrefix+"canary/") {
			if err := store.Delete(ctx, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	before = contents(t, store)
	if _, err := rehearse(must(hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: vault})), nil); !errors.Is(err, blob.ErrIntegrity) {
		t.Errorf("without the blob: %v", err)
	}
	untouched("without the blob", before, 0)
}
