package hsmkeys_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// TestAnOldStateIsRefused puts back what was there before a member was removed, and
// another checkpoint in the place of the newest.
func TestAnOldStateIsRefused(t *testing.T) {
	ctx := context.Background()
	office, _, spare, k, store, dir := threesome(t)
	remove(t, k, blob.BackupAuthority, "vault") // checkpoint 4
	slot := blob.SlotPath(4)
	genuine := must(store.Get(ctx, slot))
	refused := func(what string, want error, says string) {
		t.Helper()
		_, err := office.open(store)
		if !errors.Is(err, want) || !errors.Is(err, blob.ErrIntegrity) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want it to say %q", what, err, says)
		}
	}
	if err := store.Delete(ctx, slot); err != nil {
		t.Fatal(err)
	}
	refused("the newest checkpoint is gone", ledger.ErrRollback, "checkpoint 4 was accepted, the newest in the store is number 3")
	// Signed by the owner itself, and yet not what it has accepted.
	forgeList(t, store, office.signer(), func(l *blob.MemberList) {
		l.Members = append(l.Members, spare.member(blob.Owner, "spare"))
	})
	refused("another checkpoint", ledger.ErrFork, "after checkpoint 3: two copies of the keyring have been written to")
	if err := store.Delete(ctx, blob.CheckpointPath(sha256.Sum256(genuine))); err != nil {
		t.Fatal(err)
	}
	refused("and no trace of the genuine one", ledger.ErrRollback, "in its place")
	write(t, dir, slot, genuine)
	if _, err := office.open(store); err != nil {
		t.Errorf("when all is well again: %v", err)
	}
}

func TestJoinWithTheWrongVoucher(t *testing.T) {
	office, vault, spare, k, store, _ := threesome(t)
	add(t, k, spare.member(blob.Owner, "spare"))
	for name, voucher := range map[string]*site{"who has signed nothing": vault, "oneself": spare, "a stranger": newSite(t, "stranger")} {
		_, err := hsmkeys.Join(context.Background(), hsmkeys.Options{Store: store, Pair: spare.pair, Voucher: voucher.cert})
		if !errors.Is(err, blob.ErrUntrusted) {
			t.Errorf("vouched by %s: %v", name, err)
		}
	}
	if _, err := spare.open(store); !errors.Is(err, hsmkeys.ErrNotJoined) || !errors.Is(err, blob.ErrIntegrity) {
		t.Errorf("without a voucher: %v", err)
	}
	stranger := newSite(t, "not named")
	if _, err := hsmkeys.Join(context.Background(), hsmkeys.Options{Store: store, Pair: stranger.pair, Voucher: office.cert}); !errors.Is(err, blob.ErrUntrusted) {
		t.Errorf("somebody whom the list does not name: %v", err)
	}
	spare.join(t, store, office)
	if _, err := spare.open(store); err != nil {
		t.Errorf("after joining: %v", err)
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
	if _, err := offline.Create(context.Background(), "other", keyspec.AES256, 0); err == nil {
		t.Error("a key was made without a token")
	}
}

// TestWithACertificateThePinIsAFile opens a keyring without a token.
func TestWithACertificateThePinIsAFile(t *testing.T) {
	ctx := context.Background()
	office, vault, spare, k, store, dir := threesome(t)
	o := hsmkeys.Options{Store: store, Voucher: office.cert, Pins: hsmkeys.NewPins(nil, t.TempDir()+"/pins")}
	open := func() error {
		_, err := hsmkeys.OpenWithCertificate(ctx, o)
		return err
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	_, backup := copyOf(t, dir)
	add(t, k, spare.member(blob.Owner, "spare"))
	if err := open(); err != nil {
		t.Fatal(err)
	}
	_, recent := copyOf(t, dir)
	restore(t, dir, backup)
	wantErr(t, "an old state", open(), ledger.ErrRollback)
	restore(t, dir, recent)

	// The key must be that of an owner of today, who has signed.
	spare.join(t, store, office)
	o.Pins = nil
	o.Voucher = vault.cert
	wantErr(t, "an authority's", open(), blob.ErrUntrusted)
	o.Voucher = spare.cert
	wantErr(t, "of an owner who has signed nothing", open(), blob.ErrUntrusted)
	remove(t, spare.reopen(t, store), blob.Owner, "office")
	if err := open(); err != nil {
		t.Error(err)
	}
	o.Voucher = office.cert
	wantErr(t, "a former owner's", open(), blob.ErrUntrusted)
}

// TestMaxAge opens keyrings whose newest checkpoint is of another time.
func TestMaxAge(t *testing.T) {
	ctx := context.Background()
	for _, test := range []struct {
		name           string
		is, max        time.Duration
		fresh, current bool // encrypts with a maximum, and without
	}{
		{"new", 0, time.Hour, true, true},
		{"younger than the maximum", 50 * time.Minute, time.Hour, true, true},
		{"older", 61 * time.Minute, time.Hour, false, true},
		{"a little ahead of the clock", -9 * time.Minute, time.Hour, true, true},
		{"far ahead", -11 * time.Minute, time.Hour, false, true},
		{"centuries ahead", 0, time.Hour, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			office := newSite(t, "office")
			k, store, _ := office.found(t)
			create(t, k, "payroll")
			file := encrypt(t, k, "payroll", []byte("a letter"))
			created := time.Now().Add(-test.is)
			if test.name == "centuries ahead" { // more than a time.Duration can tell
				created = created.AddDate(300, 0, 0)
			}
			advanceAt(t, store, office.signer(), 1, created)
			for maxAge, encrypts := range map[time.Duration]bool{test.max: test.fresh, 0: test.current} {
				k, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: office.pair, MaxAge: maxAge})
				if err != nil {
					t.Fatal(err)
				}
				if encrypts {
					encrypt(t, k, "payroll", nil)
				} else {
					encryptsNothing(t, k, "payroll", hsmkeys.ErrStale)
				}
				if got, err := decrypt(k, file); err != nil || string(got) != "a letter" {
					t.Errorf("decrypt: %q, %v", got, err)
				}
			}
			// An owner makes a new checkpoint, whatever the age of the newest.
			k, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: office.pair, MaxAge: test.max})
			if err != nil {
				t.Fatal(err)
			}
			rotate(t, k, "payroll", "new")
		})
	}
}
