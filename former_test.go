package hsmkeys_test

import (
	"context"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
)

// TestAFormerMemberIsNamedUntilTheKeyIsRotated removes an authority. Rewrapping takes it
// out of the newest revision, but it holds the key from the one before: only a new
// version is a key that it has never seen.
func TestAFormerMemberIsNamedUntilTheKeyIsRotated(t *testing.T) {
	ctx := context.Background()
	office, vault, _, k, store, dir := threesome(t)
	create(t, k, "billing")
	payroll := hsmkeys.Ref{Name: "payroll"}
	former := func(k *hsmkeys.Keyring, ref hsmkeys.Ref) (labels []string) {
		t.Helper()
		holders, err := k.FormerHolders(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range holders {
			if !h.Former || h.Role != "former authority" || h.SubjectKeyID != hex.EncodeToString(vault.id()) {
				t.Errorf("%+v", h)
			}
			labels = append(labels, h.Label)
		}
		return labels
	}
	if got := former(k, payroll); got != nil {
		t.Errorf("before the removal: %q", got)
	}
	remove(t, k, blob.BackupAuthority, "vault")
	if got := k.FormerMembers(); len(got) != 1 || got[0].Label != "vault" {
		t.Errorf("%+v", got)
	}
	e, err := k.Show(ctx, payroll)
	if err != nil || len(e.Former()) != 1 || len(e.Earlier) != 0 {
		t.Errorf("%+v, %v", e, err)
	}
	for e, err := range k.List(ctx) {
		if err != nil || len(e.Former()) != 1 {
			t.Errorf("%+v, %v", e, err)
		}
	}

	rewrap(t, k)
	if got := former(k, payroll); !slices.Equal(got, []string{"vault"}) {
		t.Errorf("after rewrap: %q", got)
	}
	if e, err = k.Show(ctx, payroll); err != nil || len(e.Earlier) != 1 || len(e.Holders) != 1 || e.Holders[0].Former {
		t.Errorf("%+v, %v", e, err)
	}
	// What stands in the place of an earlier revision names nobody; the newest must verify.
	earlier, newest := pathOf(t, store, "payroll", 1, 1), pathOf(t, store, "payroll", 1, 2)
	for _, test := range []struct {
		path string
		fine bool
	}{{earlier, true}, {newest, false}} {
		genuine := must(store.Get(ctx, test.path))
		write(t, dir, test.path, []byte("junk"))
		fresh, err := office.open(store)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := fresh.FormerHolders(ctx, payroll); test.fine != (err == nil) || len(got) > 0 {
			t.Errorf("%v, %v", got, err)
		}
		write(t, dir, test.path, genuine)
	}

	rotated, unchanged := 0, 0
	for range 2 { // the second time nothing is left to do
		results, total, err := k.RotateFormer(ctx, "")
		if err != nil || total != 2 {
			t.Fatalf("%d keys, %v", total, err)
		}
		for r := range results {
			switch {
			case r.Err != nil:
				t.Error(r.Err)
			case r.Done && r.Entry.Version == 2:
				rotated++
			default:
				unchanged++
			}
		}
	}
	if rotated != 2 || unchanged != 2 {
		t.Errorf("%d rotated, %d left alone", rotated, unchanged)
	}
	if got := former(k, payroll); got != nil {
		t.Errorf("of the new version: %q", got)
	}
	if got := former(k, hsmkeys.Ref{Name: "payroll", Version: 1}); !slices.Equal(got, []string{"vault"}) {
		t.Errorf("of the old version: %q", got)
	}
}

// TestAFormerMemberIsNamedAfterManyRewraps has revisions pile up after an authority has left.
func TestAFormerMemberIsNamedAfterManyRewraps(t *testing.T) {
	ctx := context.Background()
	_, _, spare, k, _, _ := threesome(t)
	payroll := hsmkeys.Ref{Name: "payroll"}
	remove(t, k, blob.BackupAuthority, "vault")
	add(t, k, spare.member(blob.BackupAuthority, "spare"))
	rewrap(t, k)
	for range 70 { // each makes it anew, as the other authority has proven nothing
		for r := range k.RewrapDamaged(ctx, []hsmkeys.Ref{payroll}, "", true) {
			if r.Err != nil || !r.Done {
				t.Fatalf("%+v", r)
			}
		}
	}
	if got, err := k.FormerHolders(ctx, payroll); err != nil || len(got) != 1 || got[0].Label != "vault" {
		t.Errorf("%+v, %v", got, err)
	}
	results, _, err := k.RotateFormer(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	for r := range results {
		if r.Err != nil || !r.Done {
			t.Errorf("%+v", r)
		}
	}
}

// TestWhoComesBackIsNoFormerMember removes an authority and adds it again.
func TestWhoComesBackIsNoFormerMember(t *testing.T) {
	ctx := context.Background()
	_, vault, _, k, _, _ := threesome(t)
	remove(t, k, blob.BackupAuthority, "vault")
	add(t, k, vault.member(blob.BackupAuthority, "vault again"))
	if got, err := k.FormerHolders(ctx, hsmkeys.Ref{Name: "payroll"}); err != nil || got != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if got := k.FormerMembers(); got != nil {
		t.Errorf("%+v", got)
	}
}
