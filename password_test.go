package hsmkeys_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

const goodPassword = "correct horse battery staple"

// answer gives the same password to every question. What it gives is overwritten.
func answer(password string) hsmkeys.PasswordFunc {
	return func(context.Context, hsmkeys.Entry) ([]byte, error) { return []byte(password), nil }
}

func fromPassword(t *testing.T, k *hsmkeys.Keyring, name string, kdf blob.KDF) hsmkeys.Entry {
	t.Helper()
	e, err := k.CreateFromPassword(context.Background(), name, hsmkeys.NewKey{Algorithm: keyspec.AES256}, kdf, []byte(goodPassword))
	if err != nil {
		t.Fatal(err)
	}
	k.Options().Password = answer(goodPassword)
	return e
}

func TestAKeyFromAPassword(t *testing.T) {
	ctx := context.Background()
	k, _, _ := found(t)
	for _, kdf := range []blob.KDF{blob.Scrypt, blob.PBKDF2} {
		name := kdf.String()
		e := fromPassword(t, k, name, kdf)
		if e.Password == "" || len(e.Holders) != 0 {
			t.Errorf("%+v", e)
		}
		file := encrypt(t, k, name, []byte("a letter"))
		if got, err := decrypt(k, file); err != nil || string(got) != "a letter" {
			t.Errorf("%v: %q, %v", kdf, got, err)
		}
		key, err := k.Open(ctx, hsmkeys.Ref{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if key.Residence() != keyspec.InToken {
			t.Errorf("%v: in use it lives in %v", kdf, key.Residence())
		}
		key.Close()
	}
	first, err := k.Reveal(ctx, hsmkeys.Ref{Name: "pbkdf2"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Rotate(ctx, "pbkdf2", ""); err != nil {
		t.Fatal(err)
	}
	second, err := k.Reveal(ctx, hsmkeys.Ref{Name: "pbkdf2"})
	if err != nil || bytes.Equal(first, second) {
		t.Errorf("a new version with the same password is the same key, or %v", err)
	}
	k.Options().Password = answer("another password")
	for what, try := range map[string]func() error{
		"open":   func() error { _, err := k.Open(ctx, hsmkeys.Ref{Name: "pbkdf2"}); return err },
		"reveal": func() error { _, err := k.Reveal(ctx, hsmkeys.Ref{Name: "pbkdf2"}); return err },
		"load":   func() error { _, err := k.Load(ctx, hsmkeys.Ref{Name: "pbkdf2"}, "app"); return err },
		"rotate": func() error { _, err := k.Rotate(ctx, "pbkdf2", ""); return err },
	} {
		if err := try(); !errors.Is(err, hsmkeys.ErrPassword) || strings.Contains(err.Error(), "another password") {
			t.Errorf("%s with a wrong password: %v", what, err)
		}
	}
	k.Options().Password = nil
	if _, err := k.Open(ctx, hsmkeys.Ref{Name: "pbkdf2"}); !errors.Is(err, hsmkeys.ErrPassword) {
		t.Errorf("with nobody to ask: %v", err)
	}
	if _, err := k.CreateFromPassword(ctx, "short", hsmkeys.NewKey{Algorithm: keyspec.AES256}, blob.Scrypt, []byte("1234567")); !errors.Is(err, hsmkeys.ErrNewPassword) {
		t.Errorf("a short password: %v", err)
	}
	create(t, k, "stored")
	if _, err := k.RotatePassword(ctx, "stored", []byte(goodPassword), ""); !errors.Is(err, hsmkeys.ErrDerivation) {
		t.Errorf("a password for a stored key: %v", err)
	}
}

// Whoever has the storage cannot swap the salt, lower the cost, or put a record of their
// own in the place of ours; nor ours of another key, or an older one.
func TestTheStorageDoesNotChooseHowAKeyIsMade(t *testing.T) {
	ctx := context.Background()
	office, mallory := newSite(t, "office"), newSite(t, "mallory")
	k, store, dir := office.found(t)
	fromPassword(t, k, "archive", blob.PBKDF2)
	fromPassword(t, k, "other", blob.PBKDF2)
	path := pathOf(t, store, "archive", 1, 1)
	genuine, err := store.Get(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	own, err := store.Get(ctx, pathOf(t, store, "other", 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	e, err := k.Show(ctx, hsmkeys.Ref{Name: "archive"})
	if err != nil {
		t.Fatal(err)
	}
	forged, err := blob.Sign(blob.Descriptor{
		KeyringID: k.ID(), Name: "archive", Version: 1, Revision: 1, Created: time.Now(), Purpose: keyspec.WrapKeys,
		KeyID: blob.ID(unhex(t, e.KeyID)), CheckValue: unhex(t, e.CheckValue),
	}, blob.Content{Algorithm: keyspec.AES256, Derivation: &blob.Derivation{KDF: blob.PBKDF2, Cost: blob.DefaultPBKDF2Cost, Salt: [32]byte{1}}},
		blob.Signer{Key: mallory.pair, Scheme: keyspec.RSAPSS}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	iterations := []byte{0x02, 0x03, 0x09, 0x27, 0xc0} // 600000
	cheap := bytes.Replace(genuine, iterations, []byte{0x02, 0x03, 0x00, 0x80, 0x00}, 1)
	salt := bytes.Index(genuine, iterations) - 1
	if salt < 32 {
		t.Fatal("the iteration count was not found")
	}
	salted := bytes.Clone(genuine)
	salted[salt] ^= 1
	for name, planted := range map[string][]byte{
		"a lower cost": cheap, "another salt": salted, "a record of their own": forged.Bytes(), "a record of another key": own,
	} {
		if bytes.Equal(planted, genuine) {
			t.Fatalf("%s: nothing was changed", name)
		}
		write(t, dir, path, planted)
		k, err := office.open(store)
		if err != nil {
			t.Fatal(err)
		}
		asked := false
		k.Options().Password = func(context.Context, hsmkeys.Entry) ([]byte, error) { asked = true; return []byte(goodPassword), nil }
		ref := hsmkeys.Ref{Name: "archive"}
		for what, try := range map[string]func() error{
			"open":   func() error { _, err := k.Open(ctx, ref); return err },
			"reveal": func() error { _, err := k.Reveal(ctx, ref); return err },
			"load":   func() error { _, err := k.Load(ctx, ref, "app"); return err },
			"show":   func() error { _, err := k.Show(ctx, ref); return err },
			"rotate": func() error { _, err := k.Rotate(ctx, "archive", ""); return err },
		} {
			if err := try(); !errors.Is(err, blob.ErrIntegrity) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		if asked {
			t.Errorf("%s: the password was asked for", name)
		}
	}
}

// After the loss of a token the record is signed anew, without the password, and is
// still the same key. An authority cannot change how it is made.
func TestAKeyFromAPasswordSurvivesTheToken(t *testing.T) {
	ctx := context.Background()
	office, vault, spare, k, store, _ := threesome(t)
	fromPassword(t, k, "archive", blob.PBKDF2)
	value, err := k.Reveal(ctx, hsmkeys.Ref{Name: "archive"})
	if err != nil {
		t.Fatal(err)
	}
	refs, err := k.Versions(ctx)
	if err != nil {
		t.Fatal(err)
	}
	coverage, err := k.Coverage(ctx, nil, func(err error) { t.Error(err) })
	if err != nil || coverage.PasswordOnly != 1 {
		t.Errorf("%d keys are from a password only, %v", coverage.PasswordOnly, err)
	}
	for _, key := range coverage.Keys {
		if key.PasswordOnly != (key.Name == "archive") || key.PasswordOnly && key.Lost {
			t.Errorf("%+v", key)
		}
	}
	authority := vault.join(t, store, office)
	r, err := authority.BeginRecovery(ctx, office.cert, spare.member(blob.Owner, "spare"), "a test")
	if err != nil {
		t.Fatal(err)
	}
	// First what an authority that deceives would sign.
	source := digestOf(t, store, "archive", 1, 1)
	e, err := k.Show(ctx, hsmkeys.Ref{Name: "archive"})
	if err != nil {
		t.Fatal(err)
	}
	planted, err := signAs(t, vault, k, "archive", func(d *blob.Descriptor, c *blob.Content) {
		d.Revision, d.Replaces = 2, source[:]
		d.Recovery = &blob.Recovery{List: r.Number(), From: office.id(), Reason: "a test"}
		d.CheckValue = unhex(t, e.CheckValue)
		*c = blob.Content{Algorithm: keyspec.AES256, Derivation: &blob.Derivation{KDF: blob.PBKDF2, Cost: blob.DefaultPBKDF2Cost, Salt: [32]byte{1}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	putBlob(t, store, planted)
	// Then what an honest one does.
	for result := range r.Keys(ctx, refs) { // a key from a password needs none
		if result.Err != nil || result.Done != (result.Ref.Name != "archive") {
			t.Errorf("%+v", result)
		}
	}
	k = spare.join(t, store, vault)
	k.Options().Password = answer(goodPassword)
	again, err := k.Reveal(ctx, hsmkeys.Ref{Name: "archive"})
	if err != nil || !bytes.Equal(again, value) {
		t.Errorf("another key after the recovery, or %v", err)
	}
	for result := range k.Rewrap(ctx, refs, "") {
		if result.Err != nil {
			t.Errorf("%+v", result)
		}
	}
	if again, err = k.Reveal(ctx, hsmkeys.Ref{Name: "archive"}); err != nil || !bytes.Equal(again, value) {
		t.Errorf("another key after rewrap, or %v", err)
	}
}
