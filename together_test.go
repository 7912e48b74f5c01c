package hsmkeys_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
)

// TestEightGoroutinesOnTwoTokens has two owners make, rotate and rewrap keys at once: what is
// reported is there, and all of it in one chain of checkpoints.
func TestEightGoroutinesOnTwoTokens(t *testing.T) {
	const rounds = 6
	ctx := context.Background()
	office, branch := newSite(t, "office"), newSite(t, "branch")
	k, store, _ := office.found(t)
	add(t, k, branch.member(blob.Owner, "branch"))
	b := branch.join(t, store, office)
	create(t, k, "shared")
	vaults := make([]blob.Member, 2*rounds)
	for i := range vaults {
		_, vaults[i] = inFile(t, t.TempDir(), fmt.Sprintf("vault %d", i), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	}
	var mu sync.Mutex
	reported := map[hsmkeys.Ref]string{} // key ids
	note := func(e hsmkeys.Entry, err error) {
		mu.Lock()
		defer mu.Unlock()
		ref := hsmkeys.Ref{Name: e.Name, Version: e.Version}
		if err != nil || reported[ref] != "" {
			t.Errorf("%v: %v, reported as %q before", ref, err, reported[ref])
			return
		}
		reported[ref] = e.KeyID
	}
	var all sync.WaitGroup
	for i, k := range []*hsmkeys.Keyring{k, b} {
		for lane := range 2 {
			all.Go(func() {
				for n := range rounds {
					note(k.Create(ctx, fmt.Sprintf("k%d-%d-%d", i, lane, n), blob.AES256, 0))
				}
			})
		}
		all.Go(func() {
			for range rounds {
				note(k.Rotate(ctx, "shared"))
			}
		})
		all.Go(func() {
			for n := range rounds {
				if err := k.AddMember(ctx, vaults[i*rounds+n]); err != nil {
					t.Error(err)
				}
				for r := range k.Rewrap(ctx, versions(t, k)) {
					if r.Err != nil {
						t.Errorf("rewrap: %v", r.Err)
					}
				}
			}
		})
	}
	all.Wait()
	k, b = office.reopen(t, store), branch.reopen(t, store)
	if k.State().At != b.State().At || k.ListNumber() != 2+2*rounds {
		t.Errorf("%v and %v, list %d", k.State().At, b.State().At, k.ListNumber())
	}
	if unchecked, err := k.VerifyChain(ctx); unchecked != 0 || err != nil {
		t.Errorf("%d checkpoints unchecked, %v", unchecked, err)
	}
	if n := len(versions(t, k)); n != len(reported)+1 {
		t.Errorf("%d versions, %d were reported", n, len(reported)+1)
	}
	for ref, id := range reported {
		if e, err := b.Show(ctx, ref); err != nil || e.KeyID != id {
			t.Errorf("%v: %s, %v; reported was %s", ref, e.KeyID, err, id)
		}
		if key, err := k.Open(ctx, ref); err != nil {
			t.Errorf("%v: %v", ref, err)
		} else {
			key.Close()
		}
	}
	if got := unknown(t, k); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
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
	} {
		t.Run(test.name, func(t *testing.T) {
			office := newSite(t, "office")
			k, store, _ := office.found(t)
			create(t, k, "payroll")
			file := encrypt(t, k, "payroll", []byte("a letter"))
			advanceAt(t, store, office.signer(), 1, time.Now().Add(-test.is))
			for maxAge, encrypts := range map[time.Duration]bool{test.max: test.fresh, 0: test.current} {
				k, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Token: office.tok, Pair: office.pair, MaxAge: maxAge})
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
			k, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Token: office.tok, Pair: office.pair, MaxAge: test.max})
			if err != nil {
				t.Fatal(err)
			}
			rotate(t, k, "payroll", "new")
		})
	}
}
