package hsmkeys_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// statuses returns the status of each version of a key, the oldest first.
func statuses(t *testing.T, k *hsmkeys.Keyring, name string) (all []string) {
	t.Helper()
	for e, err := range k.ListWith(context.Background(), hsmkeys.ListOptions{Prefix: name, AllVersions: true}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Status)
	}
	return all
}

func setStatus(t *testing.T, k *hsmkeys.Keyring, name string, version int, status ledger.Status) {
	t.Helper()
	if err := k.SetStatus(context.Background(), name, version, status); err != nil {
		t.Fatal(err)
	}
}

// TestAMergeTakesTheWorseStatus has keys that one of two copies has compromised or destroyed.
func TestAMergeTakesTheWorseStatus(t *testing.T) {
	c := newTwoCopies(t)
	for _, name := range []string{"ours", "theirs", "both"} {
		create(t, c.a, name)
	}
	c.storeB, c.dirB = copyOf(t, c.dirA)
	c.b = c.branch.reopen(t, c.storeB)

	setStatus(t, c.b, "theirs", 1, ledger.Compromised)
	setStatus(t, c.a, "ours", 1, ledger.Destroyed)
	setStatus(t, c.b, "ours", 1, ledger.Deactivated)
	setStatus(t, c.a, "both", 1, ledger.Compromised)
	setStatus(t, c.b, "both", 1, ledger.Destroyed)
	rotate(t, c.b, "db", "b")
	rotate(t, c.b, "db", "b")
	setStatus(t, c.b, "db", 2, ledger.Destroyed)
	setStatus(t, c.b, "db", 3, ledger.Compromised)
	create(t, c.b, "new")
	rotate(t, c.b, "new", "b")
	rotate(t, c.b, "new", "b")
	setStatus(t, c.b, "new", 1, ledger.Destroyed)
	setStatus(t, c.b, "new", 2, ledger.Deactivated)

	if taken, _ := merge(t, c.a, c.storeB, nil); taken != 7 {
		t.Errorf("%d versions were taken in", taken)
	}
	for name, want := range map[string][]string{
		"theirs": {"compromised"},
		"ours":   {"destroyed"},
		"both":   {"destroyed"},
		"db":     {"active", "destroyed", "compromised"},
		"new":    {"destroyed", "deactivated", "active"},
	} {
		if got := statuses(t, c.a, name); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	encrypt(t, c.a, "new", []byte("under the version that is current there"))
	encrypt(t, c.a, "db", []byte("under ours"))
	if _, err := c.a.Open(context.Background(), hsmkeys.Ref{Name: "theirs"}); !errors.Is(err, hsmkeys.ErrNotActive) {
		t.Errorf("a compromised key is current: %v", err)
	}
	if taken, _ := merge(t, c.a, c.storeB, nil); taken != 0 {
		t.Errorf("%d versions were taken in again", taken)
	}
	if unchecked, err := c.a.VerifyChain(context.Background()); unchecked != 0 || err != nil {
		t.Errorf("%d unchecked, %v", unchecked, err)
	}
}

// TestAMergeBelievesOwnersInForce: a key of somebody whom only the other copy knows as an
// owner decrypts, and encrypts nothing.
func TestAMergeBelievesOwnersInForce(t *testing.T) {
	c := newTwoCopies(t)
	late := newSite(t, "late")
	add(t, c.b, late.member(blob.Owner, "late"))
	k := late.join(t, c.storeB, c.branch)
	create(t, k, "by-late")
	c.files["late"] = encrypt(t, k, "by-late", []byte("late"))
	create(t, c.a, "ours")
	if taken, members := merge(t, c.a, c.storeB, nil); taken != 1 || len(members) != 1 {
		t.Errorf("%d versions were taken in, members changed: %+v", taken, members)
	}
	if got := statuses(t, c.a, "by-late"); !slices.Equal(got, []string{"deactivated"}) {
		t.Errorf("it is %v", got)
	}
	ctx, ref := context.Background(), hsmkeys.Ref{Name: "by-late"}
	if e, err := c.a.Show(ctx, ref); err != nil || e.Version != 1 || e.Status != "deactivated" {
		t.Errorf("shown: %+v, %v", e, err)
	}
	former, _, err := c.a.RotateFormer(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	for r := range former {
		if r.Err != nil {
			t.Errorf("rotate %v: %v", r.Ref, r.Err)
		}
	}
	decrypts(t, c.a, c.files)
	if _, err := c.a.Open(ctx, ref); !errors.Is(err, hsmkeys.ErrNotActive) || strings.Contains(err.Error(), "version 0") {
		t.Errorf("it is current: %v", err)
	}
	rotate(t, c.a, "by-late", "under a version of our own")
}

// TestAMergeLosesARace: another process rotates the keys meanwhile.
func TestAMergeLosesARace(t *testing.T) {
	ctx := context.Background()
	c := newTwoCopies(t)
	c.files["b"] = rotate(t, c.b, "db", "b")
	create(t, c.b, "new")
	c.files["new"] = encrypt(t, c.b, "new", []byte("new"))
	create(t, c.a, "ours")
	m, err := c.a.BeginMerge(ctx, c.storeB, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := c.office.reopen(t, c.storeA)
	c.files["a"] = rotate(t, other, "db", "a")
	create(t, other, "new")
	got := map[string]hsmkeys.MergedVersion{}
	for r := range m.Keys(ctx) {
		if r.Err != nil || len(r.Versions) != 1 {
			t.Fatalf("%+v", r)
		}
		got[r.Name] = r.Versions[0]
	}
	want := hsmkeys.MergedVersion{Theirs: 2, Ours: 3, Status: ledger.Deactivated}
	if got["db"] != want {
		t.Errorf("db: %+v", got["db"])
	}
	want = hsmkeys.MergedVersion{Theirs: 1, Ours: 2, Status: ledger.Deactivated}
	if got["new"] != want {
		t.Errorf("new: %+v", got["new"])
	}
	decrypts(t, c.a, c.files)
	if left := unknown(t, c.a); len(left) > 0 {
		t.Errorf("blobs are left: %v", left)
	}
}

// TestWhatCannotBeMerged lists what is no copy to merge.
func TestWhatCannotBeMerged(t *testing.T) {
	ctx := context.Background()
	c := newTwoCopies(t)
	if m, err := c.a.BeginMerge(ctx, c.storeB, nil); err != nil || m.At != m.Common {
		t.Errorf("the same: %+v, %v", m, err)
	}
	create(t, c.b, "ahead")
	if _, err := c.a.BeginMerge(ctx, c.storeB, nil); !errors.Is(err, hsmkeys.ErrContinues) {
		t.Errorf("a newer copy: %v", err)
	}
	empty, _ := newStore(t)
	if _, err := c.a.BeginMerge(ctx, empty, nil); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("no keyring: %v", err)
	}
	if _, err := c.a.BeginMerge(ctx, nil, &ledger.Point{Number: 9}); !errors.Is(err, ledger.ErrIncomplete) {
		t.Errorf("no such checkpoint: %v", err)
	}
	_, other, _ := newSite(t, "other").found(t)
	if _, err := c.a.BeginMerge(ctx, other, nil); !errors.Is(err, blob.ErrIntegrity) {
		t.Errorf("another keyring: %v", err)
	}
}
