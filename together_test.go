package hsmkeys_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
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
					note(k.Create(ctx, fmt.Sprintf("k%d-%d-%d", i, lane, n), keyspec.AES256, 0))
				}
			})
		}
		all.Go(func() {
			for range rounds {
				note(k.Rotate(ctx, "shared", ""))
			}
		})
		all.Go(func() {
			for n := range rounds {
				if err := k.AddMember(ctx, vaults[i*rounds+n]); err != nil {
					t.Error(err)
				}
				for r := range k.Rewrap(ctx, versions(t, k), "") {
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
