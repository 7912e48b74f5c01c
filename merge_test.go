package hsmkeys_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// twoCopies is a keyring of two owners, with a key, in two stores that are copies of each
// other. The first owner works on the first, the second on the second.
type twoCopies struct {
	office, branch *site
	a, b           *hsmkeys.Keyring
	storeA, storeB blob.Store
	dirA, dirB     string
	files          map[string][]byte // by what is in them
}

func newTwoCopies(t *testing.T) *twoCopies {
	t.Helper()
	c := &twoCopies{office: newSite(t, "office"), branch: newSite(t, "branch"), files: map[string][]byte{}}
	c.a, c.storeA, c.dirA = c.office.found(t)
	add(t, c.a, c.branch.member(blob.Owner, "branch"))
	create(t, c.a, "db")
	c.files["before"] = encrypt(t, c.a, "db", []byte("before"))
	c.branch.join(t, c.storeA, c.office)
	c.storeB, c.dirB = copyOf(t, c.dirA)
	c.b = c.branch.reopen(t, c.storeB)
	return c
}

// merge merges a branch into a keyring and returns how many versions came.
func merge(t *testing.T, k *hsmkeys.Keyring, store blob.Store, at *ledger.Point) (taken int, members []ledger.Event) {
	t.Helper()
	ctx := context.Background()
	m, err := k.BeginMerge(ctx, store, at)
	if err != nil {
		t.Fatal(err)
	}
	for r := range m.Keys(ctx) {
		if r.Err != nil {
			t.Errorf("%+v", r)
		}
		taken += len(r.Versions)
	}
	return taken, m.Members
}

// TestTwoCopiesThatBothRotatedAKey puts one copy over the other, as cp -a and rsync do: in
// either direction every file of either side decrypts, before they are merged and after.
func TestTwoCopiesThatBothRotatedAKey(t *testing.T) {
	ctx := context.Background()
	for _, test := range []struct {
		name      string
		overwrite bool // the slots of the first copy, by those of the second
		longer    bool // the second has a checkpoint more
	}{
		{"the second over the first", true, false},
		{"the first stays, the second beside it", false, false},
		{"the first stays, and the second goes on behind it", false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newTwoCopies(t)
			c.files["a"], c.files["b"] = rotate(t, c.a, "db", "a"), rotate(t, c.b, "db", "b")
			create(t, c.a, "only-in-a")
			c.files["in a"] = encrypt(t, c.a, "only-in-a", []byte("in a"))
			create(t, c.b, "only-in-b")
			c.files["in b"] = encrypt(t, c.b, "only-in-b", []byte("in b"))
			if test.longer {
				c.files["more"] = encrypt(t, c.b, "only-in-b", []byte("more"))
				add(t, c.b, newSite(t, "vault").member(blob.BackupAuthority, "vault"))
			}
			headA, headB := c.a.State().At, c.b.State().At
			unite(t, c.storeA, c.storeB, c.dirA, test.overwrite)

			stays, loses, lost := c.office, c.branch, headB
			if test.overwrite || test.longer {
				stays, loses, lost = c.branch, c.office, headA
			}
			// Whose checkpoints are in the slots goes on; the other is told of a fork.
			k := stays.reopen(t, c.storeA)
			decrypts(t, k, c.files)
			older := loses.older(t, c.storeA, ledger.ErrFork)
			decrypts(t, older, c.files)
			encryptsNothing(t, older, "db", hsmkeys.ErrStale)

			// The way out: the other one shows its checkpoint, and either takes in what is beside.
			k = loses.replacePin(t, c.storeA, k.State().At)
			if taken, members := merge(t, k, c.storeA, &lost); taken != 2 || len(members) != 0 {
				t.Errorf("%d keys were taken in, members changed: %+v", taken, members)
			}
			for _, s := range []*site{stays, loses} {
				k := s.reopen(t, c.storeA)
				var warnings warned
				k.Options().Warn = warnings.add
				decrypts(t, k, c.files)
				if warnings.say("") {
					t.Errorf("warned of %v", warnings.all)
				}
				rotate(t, k, "db", "after") // and goes on
			}
			k = stays.reopen(t, c.storeA)
			history := must(k.History(ctx, "db"))
			status := map[int]string{}
			for _, e := range history {
				status[e.Version] = e.Status
			}
			if len(status) != 5 || status[2] != "active" || status[3] != "deactivated" {
				t.Errorf("status of the versions: %v", status)
			}
			if taken, _ := merge(t, k, c.storeA, &lost); taken != 0 {
				t.Errorf("%d keys were taken in again", taken)
			}
			if unchecked, err := k.VerifyChain(ctx); unchecked != 0 || err != nil {
				t.Errorf("%d checkpoints unchecked, %v", unchecked, err)
			}
			for name, err := range k.Verify(ctx) {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// TestMergeOfAnotherStore takes in a copy that is apart.
func TestMergeOfAnotherStore(t *testing.T) {
	c := newTwoCopies(t)
	c.files["a"], c.files["b"] = rotate(t, c.a, "db", "a"), rotate(t, c.b, "db", "b")
	if taken, _ := merge(t, c.a, c.storeB, nil); taken != 1 {
		t.Errorf("%d keys were taken in", taken)
	}
	decrypts(t, c.a, c.files)
	// And the other way round, as long as they stay apart.
	for again, want := range []bool{true, false} {
		if taken, _ := merge(t, c.b, c.storeA, nil); (taken > 0) != want {
			t.Errorf("%d versions were taken in, time %d", taken, again+1)
		}
	}
	c.files["after"] = rotate(t, c.b, "db", "after")
	decrypts(t, c.b, c.files)
}

// TestTwoCopiesThatBothGotAMember adds one on each copy: neither token is locked out.
func TestTwoCopiesThatBothGotAMember(t *testing.T) {
	c := newTwoCopies(t)
	one, other := newSite(t, "one"), newSite(t, "other")
	add(t, c.a, one.member(blob.Owner, "one"))
	one.join(t, c.storeA, c.office)
	add(t, c.b, other.member(blob.Owner, "other"))
	create(t, one.reopen(t, c.storeA), "from-one")
	o := other.join(t, c.storeB, c.branch)
	create(t, o, "db2")
	c.files["by the other"] = encrypt(t, o, "db2", []byte("by the other"))
	headB := o.State().At
	unite(t, c.storeA, c.storeB, c.dirA, false)

	a := c.office.reopen(t, c.storeA)
	// The other reads its files all the time.
	decrypts(t, other.older(t, c.storeA, ledger.ErrFork), map[string][]byte{"by the other": c.files["by the other"]})
	taken, members := merge(t, a, c.storeA, &headB)
	if taken != 1 || len(members) != 1 || len(members[0].Joined) != 1 || members[0].Joined[0].Label != "other" {
		t.Errorf("%d keys taken in, members changed: %+v", taken, members)
	}
	if len(a.Members()) != 3 || a.Members()[2].Label != "one" {
		t.Errorf("the members are %+v", a.Members())
	}
	add(t, a, other.member(blob.Owner, "other"))
	rewrap(t, a)
	other.replacePin(t, c.storeA, a.State().At)
	c.branch.replacePin(t, c.storeA, a.State().At)
	for _, s := range []*site{c.office, c.branch, one, other} {
		k := s.reopen(t, c.storeA)
		decrypts(t, k, c.files)
		rotate(t, k, "db", "after")
	}
}

// TestACopyBringsAKeyOfAFormerMember has the other copy make a key for somebody who was removed
// here: nothing would tell any more that the key is theirs too, so it encrypts nothing.
func TestACopyBringsAKeyOfAFormerMember(t *testing.T) {
	ctx := context.Background()
	c := newTwoCopies(t)
	guest := newSite(t, "guest")
	add(t, c.a, guest.member(blob.BackupAuthority, "guest"))
	restore(t, c.dirB, c.dirA)
	c.b = c.branch.reopen(t, c.storeB)
	remove(t, c.a, blob.BackupAuthority, "guest")
	create(t, c.b, "new")
	file := encrypt(t, c.b, "new", []byte("of the copy"))
	merge(t, c.a, c.storeB, nil)
	k := c.office.reopen(t, c.storeA)
	decrypts(t, k, map[string][]byte{"of the copy": file})
	if _, err := k.Encrypt(ctx, io.Discard, []hsmkeys.Ref{{Name: "new"}}); err == nil {
		t.Error("it encrypts")
	}
	rotate(t, k, "new", "after a rotation")
}

// TestACopyOfWhoWasRemovedDestroysNothing has an owner who was removed here destroy a key in
// another copy.
func TestACopyOfWhoWasRemovedDestroysNothing(t *testing.T) {
	ctx := context.Background()
	c := newTwoCopies(t)
	remove(t, c.a, blob.Owner, "branch")
	destroy(t, c.storeB, c.branch.signer(), "db", 1)
	m, err := c.a.BeginMerge(ctx, c.storeB, nil)
	if err != nil {
		t.Fatal(err)
	}
	for r := range m.Keys(ctx) {
		if !errors.Is(r.Err, blob.ErrUntrusted) {
			t.Errorf("%+v", r)
		}
	}
	decrypts(t, c.office.reopen(t, c.storeA), c.files)
}
