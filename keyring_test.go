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
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	dirstore "github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token"
)

// One token with one pair serves all tests; each has a store and a keyring of its
// own.
var (
	env  *softhsm.Env
	tok  *token.Token
	pair *token.KeyPair
	pin  string
	soft = sync.OnceValue(func() *rsa.PrivateKey {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		return key
	})
)

func TestMain(m *testing.M) {
	if os.Getenv(workerVar) != "" {
		os.Exit(worker())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if env, err = softhsm.New(); err != nil {
		log.Print(err)
		return 1
	}
	defer env.Close()
	if err = env.Use(); err != nil {
		log.Print(err)
		return 1
	}
	made, err := env.InitToken("keyring")
	if err != nil {
		log.Print(err)
		return 1
	}
	pin = made.PIN
	if tok, err = openToken("keyring", pin); err != nil {
		log.Print(err)
		return 1
	}
	defer tok.Close()
	if pair, err = tok.GenerateKeyPair(context.Background(), "hsmkeys", 2048); err != nil {
		log.Print(err)
		return 1
	}
	return m.Run()
}

func openToken(label, pin string) (*token.Token, error) {
	return token.Open(context.Background(), token.Config{
		Module: env.Module(), Token: token.Selector{Label: label},
		PIN: func(context.Context, token.Info) ([]byte, error) { return []byte(pin), nil },
	})
}

// found makes a keyring in a new directory.
func found(tb testing.TB) (*hsmkeys.Keyring, *dirstore.Store, string) {
	tb.Helper()
	store, dir := newStore(tb)
	k, err := hsmkeys.Found(context.Background(), tok, pair, store, nil, "owner")
	if err != nil {
		tb.Fatal(err)
	}
	return k, store, dir
}

func create(tb testing.TB, k *hsmkeys.Keyring, name string) hsmkeys.Entry {
	tb.Helper()
	e, err := k.Create(context.Background(), name, blob.AES256, 0)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func encrypt(tb testing.TB, k *hsmkeys.Keyring, name string, plain []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	w, err := k.Encrypt(context.Background(), &out, []hsmkeys.Ref{{Name: name}})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func decrypt(k *hsmkeys.Keyring, file []byte) ([]byte, error) {
	r, err := k.Decrypt(context.Background(), bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestAFileComesBackFromEveryAlgorithm(t *testing.T) {
	k, _, _ := found(t)
	plain := bytes.Repeat([]byte("the salaries of March\n"), 10000)
	for _, algorithm := range []blob.Algorithm{blob.AES128, blob.AES192, blob.AES256} {
		name := algorithm.String()
		e, err := k.Create(context.Background(), name, algorithm, 0)
		if err != nil {
			t.Fatal(err)
		}
		if e.Algorithm != name || e.Purpose != "wrap" || e.Version != 1 || e.Residence != "token" || len(e.Holders) != 1 {
			t.Errorf("entry %+v", e)
		}
		back, err := decrypt(k, encrypt(t, k, name, plain))
		if err != nil || !bytes.Equal(back, plain) {
			t.Errorf("%s: %v, %d bytes", name, err, len(back))
		}
	}
}

func TestAFileStaysReadableAfterRotation(t *testing.T) {
	k, _, _ := found(t)
	create(t, k, "payroll")
	old := encrypt(t, k, "payroll", []byte("old"))
	e, err := k.Rotate(context.Background(), "payroll")
	if err != nil || e.Version != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
	recent := encrypt(t, k, "payroll", []byte("new"))
	if !strings.Contains(string(recent[:200]), "-> hsmkeys payroll 2 ") {
		t.Errorf("a new file is not under the newest version: %q", recent[:100])
	}
	for want, file := range map[string][]byte{"old": old, "new": recent} {
		if got, err := decrypt(k, file); err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	history, err := k.History(context.Background(), "payroll")
	if err != nil || len(history) != 2 || history[0].KeyID == history[1].KeyID {
		t.Errorf("%+v, %v", history, err)
	}
}

func TestHMACKeysEncryptNoFiles(t *testing.T) {
	k, _, _ := found(t)
	for name, make := range map[string]struct {
		a blob.Algorithm
		p blob.Purpose
	}{"mac": {blob.HMACSHA256, 0}, "data": {blob.AES256, blob.Encrypt}} {
		if _, err := k.Create(context.Background(), name, make.a, make.p); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Encrypt(context.Background(), io.Discard, []hsmkeys.Ref{{Name: name}}); !errors.Is(err, hsmkeys.ErrPurpose) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNamesOfKeys(t *testing.T) {
	k, _, _ := found(t)
	create(t, k, "payroll")
	if _, err := k.Create(context.Background(), "payroll", blob.AES256, 0); !errors.Is(err, blob.ErrExists) {
		t.Errorf("creating it again: %v", err)
	}
	_, err := k.Open(context.Background(), hsmkeys.Ref{Name: "pairoll"})
	var h interface{ Hint() string }
	if !errors.Is(err, blob.ErrNotFound) || !errors.As(err, &h) || h.Hint() != `did you mean "payroll"?` {
		t.Errorf("a name that is nearly right: %v", err)
	}
	if _, err := k.Open(context.Background(), hsmkeys.Ref{Name: "payroll", Version: 7}); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a version that is not there: %v", err)
	}
	for _, s := range []string{"", "..", "a/../b", "/a", "a/", "A", "a@0", "a@-1", "a@01", "a@", "a@1@2", "a@99999999999", strings.Repeat("a", 129)} {
		if _, err := hsmkeys.ParseRef(s); !errors.Is(err, blob.ErrName) {
			t.Errorf("ParseRef(%q): %v", s, err)
		}
	}
}

func TestVerificationNeedsNoToken(t *testing.T) {
	k, store, _ := found(t)
	create(t, k, "payroll")
	c, err := k.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	offline, err := hsmkeys.OpenWithCertificate(context.Background(), hsmkeys.Options{Store: store, Voucher: c})
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range offline.Verify(context.Background()) {
		if err != nil || name != "payroll" {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := offline.Open(context.Background(), hsmkeys.Ref{Name: "payroll"}); err == nil {
		t.Error("a key was opened without a token")
	}
	if _, err := offline.Create(context.Background(), "other", blob.AES256, 0); err == nil {
		t.Error("a key was made without a token")
	}
}

func TestRevealGivesTheKeyThatTheTokenWrapped(t *testing.T) {
	k, _, _ := found(t)
	for _, a := range []blob.Algorithm{blob.AES128, blob.AES256, blob.HMACSHA512} {
		if _, err := k.Create(context.Background(), a.String(), a, 0); err != nil {
			t.Fatal(err)
		}
		first, err := k.Reveal(context.Background(), hsmkeys.Ref{Name: a.String()})
		if err != nil || len(first) != a.KeySize() {
			t.Fatalf("%d bytes, %v", len(first), err)
		}
		if second, err := k.Reveal(context.Background(), hsmkeys.Ref{Name: a.String()}); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s: the second time it is another: %v", a, err)
		}
	}
}

// forge makes a blob as somebody with access to the storage can: with a key of
// their own, wrapped to our public key, described as ours, signed by theirs.
func forge(t *testing.T, k *hsmkeys.Keyring, name string) []byte {
	t.Helper()
	public := pair.Public().(*rsa.PublicKey)
	wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public, make([]byte, 32), nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := blob.SubjectKeyID(public)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := blob.Sign(blob.Descriptor{KeyringID: k.ID(), Name: name, Version: 1, Revision: 1, Created: time.Now(), Purpose: blob.WrapKeys},
		blob.Content{Algorithm: blob.AES256, Recipients: []blob.Recipient{{SubjectKeyID: id, Transport: &blob.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: wrapped}}}},
		blob.Signer{Key: soft(), Scheme: blob.RSAPSS}, time.Now())
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
			k, err := hsmkeys.OpenKeyring(ctx, tok, pair, store, nil) // which has no blobs in memory
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
			_, err = k.Rotate(ctx, "payroll")
			check("Rotate", err)
			for r := range k.Rewrap(ctx, []hsmkeys.Ref{{Name: "payroll", Version: 1}}) {
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
	swapped := bytes.ReplaceAll(forge(t, k, "payroll"), must(blob.SubjectKeyID(soft().Public())), must(blob.SubjectKeyID(pair.Public())))
	for path, data := range map[string][]byte{
		blob.KeyPath("payroll", 1, 1, sha256.Sum256(swapped)): swapped,
		blob.KeyPath("payroll", 1, 2, sha256.Sum256(own)):     own,
		blob.KeyPath("payroll", 2, 1, sha256.Sum256(own)):     own,
		blob.KeyPath("billing", 1, 1, sha256.Sum256(own)):     own,
		blob.KeyPath("payroll", 3, 1, [32]byte{}):             forge(t, k, "payroll"),
	} {
		write(t, dir, path, data)
	}
	k, err := hsmkeys.OpenKeyring(ctx, tok, pair, store, nil)
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
	if e, err := k.Rotate(ctx, "payroll"); err != nil || e.Version != 2 {
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
			if _, err := ledger.Found(ctx, theirs, blob.MemberList{KeyringID: k.ID(), Members: []blob.Member{m}}, blob.Signer{Key: stranger, Scheme: blob.RSAPSS}, time.Now(), random); err != nil {
				t.Fatal(err)
			}
			write(t, dir, blob.SlotPath(1), must(theirs.Get(ctx, blob.SlotPath(1))))
		}, ledger.ErrRollback},
		"a stranger's next checkpoint": {func(t *testing.T, _ *hsmkeys.Keyring, store blob.Store, _ string) {
			forgeList(t, store, signer{stranger, blob.RSAPSS}, func(*blob.MemberList) {})
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
			if _, err := hsmkeys.OpenKeyring(ctx, tok, pair, store, nil); !errors.Is(err, attack.want) || !errors.Is(err, blob.ErrIntegrity) {
				t.Errorf("%v, want %v", err, attack.want)
			}
		})
	}
}

func TestADeletedBlobIsMissed(t *testing.T) {
	k, store, dir := found(t)
	create(t, k, "payroll")
	for range 2 {
		if _, err := k.Rotate(context.Background(), "payroll"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, pathOf(t, store, "payroll", 2, 1))); err != nil {
		t.Fatal(err)
	}
	k, err := hsmkeys.OpenKeyring(context.Background(), tok, pair, store, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range k.Verify(context.Background(), "payroll") {
		if !errors.Is(err, blob.ErrMisplaced) {
			t.Errorf("Verify: %v", err)
		}
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	k, _, _ := found(t)
	create(t, k, "payroll")
	plain := bytes.Repeat([]byte("x"), 200<<10)
	file := encrypt(t, k, "payroll", plain)
	header := bytes.Index(file, []byte("\n---"))
	for i := 0; i < header+60; i++ {
		for bit := range 8 {
			if i%3 != bit%3 { // a third of all bits of the header, spread over all of it
				continue
			}
			damaged := bytes.Clone(file)
			damaged[i] ^= 1 << bit
			if _, err := decrypt(k, damaged); err == nil {
				t.Fatalf("bit %d of byte %d flipped: decrypted", bit, i)
			}
		}
	}
	for _, size := range []int{0, 10, header, header + 50, header + 60, header + 70<<10, len(file) - 1} {
		if _, err := decrypt(k, file[:size]); !errors.Is(err, blob.ErrIntegrity) {
			t.Errorf("cut to %d bytes: %v", size, err)
		}
	}
	damaged := bytes.Clone(file)
	damaged[len(damaged)-1] ^= 1
	got, err := decrypt(k, damaged)
	if !errors.Is(err, blob.ErrIntegrity) || len(got) >= len(plain) {
		t.Errorf("last byte: %d bytes, %v", len(got), err)
	}
}

func TestFilesOfOthersAreNotOurs(t *testing.T) {
	k, _, _ := found(t)
	create(t, k, "payroll")
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := decrypt(k, out.Bytes()); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("an age file without our stanza: %v", err)
	}
	other, _, _ := found(t)
	create(t, other, "payroll")
	if _, err := decrypt(k, encrypt(t, other, "payroll", nil)); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a file of another keyring: %v", err)
	}
}

func TestOthersMayOpenTheFileToo(t *testing.T) {
	k, _, _ := found(t)
	create(t, k, "payroll")
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := k.Encrypt(context.Background(), &out, []hsmkeys.Ref{{Name: "payroll"}}, identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "both")
	w.Close()
	if got, err := decrypt(k, out.Bytes()); err != nil || string(got) != "both" {
		t.Errorf("%q, %v", got, err)
	}
	r, err := age.Decrypt(&out, identity)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "both" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestACancelledContextStopsBeforeTheToken(t *testing.T) {
	k, _, dir := found(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := k.Create(ctx, "payroll", blob.AES256, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "keys/*/*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
