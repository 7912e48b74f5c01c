package hsmkeys_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// forge makes a blob as somebody with access to the storage can: with a key of
// their own, wrapped to our public key, described as ours, signed by theirs.
func forge(t *testing.T, k *hsmkeys.Keyring, name string) []byte {
	t.Helper()
	public := pair.Public().(*rsa.PublicKey)
	wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public, make([]byte, 32), nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := blob.PublicKeyID(public)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := blob.Sign(blob.Descriptor{KeyringID: k.ID(), Name: name, Version: 1, Revision: 1, Created: time.Now(), Purpose: keyspec.WrapKeys},
		blob.Content{Algorithm: keyspec.AES256, Recipients: []blob.Recipient{{Identifier: id, Key: &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: wrapped}}}},
		blob.Signer{Key: soft(), Scheme: keyspec.RSAPSS}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return forged.Bytes()
}

// TestTheStorageIsNotTrusted exchanges the blob that the state of the keyring names, and
// expects every way of using the key to refuse it.
func TestTheStorageIsNotTrusted(t *testing.T) {
	ctx := context.Background()
	for name, attack := range map[string]struct {
		with func(t *testing.T, k *hsmkeys.Keyring, genuine []byte) []byte
		want error
	}{
		"a key of a stranger, wrapped to our public key": {func(t *testing.T, k *hsmkeys.Keyring, _ []byte) []byte { return forge(t, k, "payroll") }, blob.ErrMisplaced},
		"one flipped bit": {func(t *testing.T, _ *hsmkeys.Keyring, genuine []byte) []byte {
			genuine[len(genuine)/2] ^= 0x10
			return genuine
		}, blob.ErrMisplaced},
		"a truncated blob":  {func(_ *testing.T, _ *hsmkeys.Keyring, genuine []byte) []byte { return genuine[:100] }, blob.ErrMisplaced},
		"an empty blob":     {func(*testing.T, *hsmkeys.Keyring, []byte) []byte { return nil }, blob.ErrMisplaced},
		"a blob of 100 MiB": {func(*testing.T, *hsmkeys.Keyring, []byte) []byte { return make([]byte, 100<<20) }, blob.ErrTooLarge},
		"a blob of another keyring of the same owner": {func(t *testing.T, _ *hsmkeys.Keyring, _ []byte) []byte {
			other, store, _ := found(t)
			create(t, other, "payroll")
			return must(store.Get(ctx, pathOf(t, store, "payroll", 1, 1)))
		}, blob.ErrMisplaced},
	} {
		t.Run(name, func(t *testing.T) {
			k, store, dir := found(t)
			create(t, k, "payroll")
			file := encrypt(t, k, "payroll", []byte("secret"))
			path := pathOf(t, store, "payroll", 1, 1)
			write(t, dir, path, attack.with(t, k, must(store.Get(ctx, path))))
			k, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: pair}) // which has no blobs in memory
			if err != nil {
				t.Fatal(err)
			}
			ref := hsmkeys.Ref{Name: "payroll"}
			check := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, attack.want) || !errors.Is(err, blob.ErrIntegrity) {
					t.Errorf("%s: %v, want %v", what, err, attack.want)
				}
			}
			_, err = k.Open(ctx, ref)
			check("Open", err)
			_, err = k.Show(ctx, ref)
			check("Show", err)
			_, err = k.Reveal(ctx, ref)
			check("Reveal", err)
			_, err = k.Load(ctx, ref, "stolen")
			check("Load", err)
			_, err = k.History(ctx, "payroll")
			check("History", err)
			_, err = k.Rotate(ctx, "payroll", "")
			check("Rotate", err)
			for r := range k.Rewrap(ctx, []hsmkeys.Ref{{Name: "payroll", Version: 1}}, "") {
				check("Rewrap", r.Err)
			}
			for _, err := range k.Verify(ctx) {
				check("Verify", err)
			}
			var out bytes.Buffer
			_, err = k.Encrypt(ctx, &out, []hsmkeys.Ref{ref})
			check("Encrypt", err)
			if out.Len() > 0 {
				t.Errorf("Encrypt wrote %d bytes", out.Len())
			}
			_, err = decrypt(k, file)
			check("Decrypt", err)
		})
	}
}

// TestWhatIsPutBesideIsNotLookedAt puts blobs under paths that the state of the keyring does
// not name. Nothing changes.
func TestWhatIsPutBesideIsNotLookedAt(t *testing.T) {
	ctx := context.Background()
	k, store, dir := found(t)
	create(t, k, "payroll")
	value := reveal(t, k, "payroll@1")
	own := must(store.Get(ctx, pathOf(t, store, "payroll", 1, 1)))
	swapped := bytes.ReplaceAll(forge(t, k, "payroll"), must(blob.PublicKeyID(soft().Public())), must(blob.PublicKeyID(pair.Public())))
	for path, data := range map[string][]byte{
		blob.KeyPath("payroll", 1, 1, sha256.Sum256(swapped)): swapped,
		blob.KeyPath("payroll", 1, 2, sha256.Sum256(own)):     own,
		blob.KeyPath("payroll", 2, 1, sha256.Sum256(own)):     own,
		blob.KeyPath("billing", 1, 1, sha256.Sum256(own)):     own,
		blob.KeyPath("payroll", 3, 1, [32]byte{}):             forge(t, k, "payroll"),
	} {
		write(t, dir, path, data)
	}
	k, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: pair})
	if err != nil {
		t.Fatal(err)
	}
	if got := reveal(t, k, "payroll"); !bytes.Equal(got, value) {
		t.Error("another key is used")
	}
	if refs := versions(t, k); len(refs) != 1 {
		t.Errorf("versions %v", refs)
	}
	if history, err := k.History(ctx, "payroll"); err != nil || len(history) != 1 {
		t.Errorf("%+v, %v", history, err)
	}
	if _, err := k.Open(ctx, hsmkeys.Ref{Name: "billing"}); !errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrIntegrity) {
		t.Errorf("billing: %v", err)
	}
	for name, err := range k.Verify(ctx) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	unknown := 0
	for _, err := range k.Unknown(ctx) {
		if err != nil {
			t.Error(err)
		}
		unknown++
	}
	if unknown != 5 {
		t.Errorf("%d blobs are unknown to the state", unknown)
	}
	if e, err := k.Rotate(ctx, "payroll", ""); err != nil || e.Version != 2 {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestTheStateIsNotTrusted exchanges checkpoints and lists of members.
func TestTheStateIsNotTrusted(t *testing.T) {
	ctx := context.Background()
	stranger := soft()
	for name, attack := range map[string]struct {
		do   func(t *testing.T, k *hsmkeys.Keyring, store blob.Store, dir string)
		want error
	}{
		"a stranger's first checkpoint": {func(t *testing.T, k *hsmkeys.Keyring, store blob.Store, dir string) {
			theirs, _ := newStore(t)
			m := k.Self()
			m.Certificate = certify(t, stranger, func(c *x509.Certificate) { c.KeyUsage = 0 })
			if _, err := ledger.Init(ctx, theirs, blob.MemberList{KeyringID: k.ID(), Members: []blob.Member{m}}, blob.Signer{Key: stranger, Scheme: keyspec.RSAPSS}, time.Now(), random); err != nil {
				t.Fatal(err)
			}
			write(t, dir, blob.SlotPath(1), must(theirs.Get(ctx, blob.SlotPath(1))))
		}, ledger.ErrRollback},
		"a stranger's next checkpoint": {func(t *testing.T, _ *hsmkeys.Keyring, store blob.Store, _ string) {
			forgeList(t, store, signer{stranger, keyspec.RSAPSS}, func(*blob.MemberList) {})
		}, blob.ErrUntrusted},
		"a certificate exchanged in the list": {func(t *testing.T, _ *hsmkeys.Keyring, store blob.Store, dir string) {
			path := blob.MembersPath(newest(t, store).List.Digest)
			data := must(store.Get(ctx, path))
			swapped := bytes.ReplaceAll(data, pair.Public().(*rsa.PublicKey).N.Bytes(), stranger.N.Bytes())
			if bytes.Equal(data, swapped) {
				t.Fatal("nothing was swapped")
			}
			write(t, dir, path, swapped)
		}, blob.ErrMisplaced},
		"a list that is missing": {func(t *testing.T, _ *hsmkeys.Keyring, store blob.Store, _ string) {
			if err := store.Delete(ctx, blob.MembersPath(newest(t, store).List.Digest)); err != nil {
				t.Fatal(err)
			}
		}, ledger.ErrIncomplete},
		"a bit flipped in the newest checkpoint": {func(t *testing.T, _ *hsmkeys.Keyring, store blob.Store, dir string) {
			path := blob.SlotPath(newest(t, store).Number)
			data := must(store.Get(ctx, path))
			data[len(data)-1] ^= 1
			write(t, dir, path, data)
		}, blob.ErrIntegrity},
		"a slot that is missing": {func(t *testing.T, _ *hsmkeys.Keyring, store blob.Store, _ string) {
			if err := store.Delete(ctx, blob.SlotPath(1)); err != nil {
				t.Fatal(err)
			}
		}, ledger.ErrIncomplete},
	} {
		t.Run(name, func(t *testing.T) {
			k, store, dir := found(t)
			create(t, k, "payroll")
			attack.do(t, k, store, dir)
			if _, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: pair}); !errors.Is(err, attack.want) || !errors.Is(err, blob.ErrIntegrity) {
				t.Errorf("%v, want %v", err, attack.want)
			}
		})
	}
}

func TestADeletedBlobIsMissed(t *testing.T) {
	k, store, dir := found(t)
	create(t, k, "payroll")
	for range 2 {
		if _, err := k.Rotate(context.Background(), "payroll", ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, pathOf(t, store, "payroll", 2, 1))); err != nil {
		t.Fatal(err)
	}
	k, err := hsmkeys.Open(context.Background(), hsmkeys.Options{Store: store, Pair: pair})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range k.Verify(context.Background(), "payroll") {
		if !errors.Is(err, blob.ErrMisplaced) {
			t.Errorf("Verify: %v", err)
		}
	}
}

// TestADeletedBlobIsMissedAfterARecovery deletes the newest version of a key, and a whole key.
func TestADeletedBlobIsMissedAfterARecovery(t *testing.T) {
	ctx := context.Background()
	office, vault, spare, k, store, dir := threesome(t)
	if _, err := k.Rotate(ctx, "payroll", ""); err != nil {
		t.Fatal(err)
	}
	create(t, k, "other")
	recoverAll(t, vault.join(t, store, office), office.cert, spare.member(blob.Owner, "spare"))
	for _, gone := range []string{"keys/payroll/2.*", "keys/other/*"} {
		paths, err := filepath.Glob(filepath.Join(dir, gone))
		if err != nil || len(paths) != 2 {
			t.Fatal(paths, err)
		}
		for _, path := range paths {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	k = spare.join(t, store, vault)
	missed := 0
	for name, err := range k.Verify(ctx) {
		if !errors.Is(err, blob.ErrMisplaced) || !strings.Contains(err.Error(), "is gone") {
			t.Errorf("%s: %v", name, err)
		}
		missed++
	}
	if missed != 2 {
		t.Errorf("%d keys are missed", missed)
	}
	if _, err := k.History(ctx, "payroll"); !errors.Is(err, blob.ErrMisplaced) {
		t.Errorf("history: %v", err)
	}
	if _, err := k.Open(ctx, hsmkeys.Ref{Name: "payroll"}); !errors.Is(err, blob.ErrMisplaced) {
		t.Errorf("open: %v", err)
	}
}
