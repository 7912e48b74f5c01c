package hsmkeys_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// coverage expects no failure.
func coverage(t *testing.T, k *hsmkeys.Keyring) hsmkeys.Coverage {
	t.Helper()
	c, err := k.Coverage(context.Background(), nil, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheRehearsalTellsWhatWouldBeLost(t *testing.T) {
	ctx := context.Background()
	office, vault := newSite(t, "office"), newSite(t, "vault")
	k, store, _ := office.found(t)
	if c := coverage(t, k); c.Lost != 0 || len(c.Keys) != 0 {
		t.Errorf("without a key: %+v", c)
	}
	for name, a := range map[string]keyspec.Algorithm{"aes": keyspec.AES128, "mac": keyspec.HMACSHA384} {
		if _, err := k.Create(ctx, name, a, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Create(ctx, "data", keyspec.AES256, keyspec.Encrypt); err != nil {
		t.Fatal(err)
	}
	if c := coverage(t, k); c.Lost != 3 || c.Holders[0].Alone != 3 || !c.Keys[0].Lost {
		t.Errorf("with one owner: %+v", c)
	}
	add(t, k, vault.member(blob.BackupAuthority, "vault"))
	if c := coverage(t, k); c.Lost != 3 || c.Holders[1].Opens != 0 {
		t.Errorf("before rewrap: %+v", c)
	}
	rewrap(t, k)
	if c := coverage(t, k); c.Lost != 0 || c.Holders[1].Opens != 3 || c.Holders[1].Proven != 0 {
		t.Errorf("after rewrap: %+v", c)
	}
	authority := vault.join(t, store, office)
	prove := func(since time.Time) (done int) {
		for r := range authority.Prove(ctx, versions(t, authority), since) {
			if r.Err != nil {
				t.Error(r.Err)
			}
			if r.Done {
				done++
			}
		}
		return done
	}
	began := time.Now().Add(-time.Minute)
	if n := prove(began); n != 3 {
		t.Errorf("%d keys proven", n)
	}
	if n := prove(began); n != 0 {
		t.Errorf("%d keys proven again", n)
	}
	c := coverage(t, k)
	if h := c.Holders[1]; h.Proven != 3 || h.Latest.Before(began) || c.Holders[0].Proven != 0 {
		t.Errorf("after the proof: %+v", c)
	}
	// A new revision is another wrapping, which nobody has proven.
	add(t, k, newSite(t, "third").member(blob.BackupAuthority, "third"))
	rewrap(t, k)
	if h := coverage(t, k).Holders[1]; h.Proven != 0 || !h.Latest.IsZero() || h.Outdated != 3 || h.LatestOutdated.Before(began) {
		t.Errorf("proven is what was there before: %+v", h)
	}
	if h := coverage(t, k).Holders[2]; h.Outdated != 0 || !h.LatestOutdated.IsZero() {
		t.Errorf("nothing was ever proven: %+v", h)
	}
}

// TestProofsOfOthers lets strangers, and members, say what somebody else's token
// has unwrapped.
func TestProofsOfOthers(t *testing.T) {
	ctx := context.Background()
	office, vault, stranger, k, store, _ := threesome(t)
	for i, attack := range []struct {
		signer  *site
		keyring blob.ID
		want    error
	}{{stranger, k.ID(), blob.ErrUntrusted}, {office, k.ID(), blob.ErrUntrusted}, {vault, blob.ID{1}, blob.ErrMisplaced}} {
		putProofOf(t, store, k, attack.keyring, vault.id(), attack.signer.signer(), "payroll")
		var told []error
		c, err := k.Coverage(ctx, nil, func(err error) { told = append(told, err) })
		if err != nil || c.Holders[1].Proven != 0 {
			t.Errorf("%+v, %v", c, err)
		}
		if len(told) != i+1 || !slices.ContainsFunc(told, func(err error) bool { return errors.Is(err, attack.want) }) {
			t.Errorf("told of %v, want %v", told, attack.want)
		}
	}
	// What somebody has planted does not keep the authority from its own.
	if err := store.Put(ctx, blob.ProofPath(vault.id(), [32]byte{1}), []byte("junk")); err != nil {
		t.Fatal(err)
	}
	authority := vault.join(t, store, office)
	for r := range authority.Prove(ctx, versions(t, authority), time.Now()) {
		if r.Err != nil || !r.Done {
			t.Errorf("%+v", r)
		}
	}
	if c, err := k.Coverage(ctx, nil, func(error) {}); err != nil || c.Holders[1].Proven != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestMoreKeysThanWorkers goes through everything that works on many keys, with
// failures in between and a caller who has enough.
func TestMoreKeysThanWorkers(t *testing.T) {
	ctx := context.Background()
	_, _, _, k, store, dir := threesome(t)
	createMany(t, k, 60)
	for i := range 5 {
		der := must(store.Get(ctx, pathOf(t, store, fmt.Sprintf("k%d", i), 1, 1)))
		der[len(der)/2] ^= 1
		write(t, dir, pathOf(t, store, fmt.Sprintf("k%d", i), 1, 1), der)
	}
	add(t, k, newSite(t, "third").member(blob.BackupAuthority, "third"))
	failed, fine := 0, 0
	for r := range k.Rewrap(ctx, versions(t, k), "") {
		if r.Err != nil {
			failed++
		} else {
			fine++
		}
	}
	if failed != 5 || fine != 56 {
		t.Errorf("%d failed, %d did not", failed, fine)
	}
	seen := 0
	for range k.Rewrap(ctx, versions(t, k), "") {
		if seen++; seen == 3 {
			break
		}
	}
	ended, end := context.WithCancel(ctx)
	end()
	var last hsmkeys.Result
	for r := range k.Rewrap(ended, versions(t, k), "") {
		last = r
	}
	if !errors.Is(last.Err, context.Canceled) {
		t.Errorf("after the end: %+v", last)
	}
}
