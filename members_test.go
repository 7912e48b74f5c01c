package hsmkeys_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/store/storetest"
)

// TestListsOfMembersThatAreRefused signs lists as nobody may, with keys of the
// keyring itself.
func TestListsOfMembersThatAreRefused(t *testing.T) {
	office, vault, spare, _, store, _ := threesome(t)
	other := newSite(t, "other")
	newOwner := spare.member(blob.Owner, "spare")
	recovery := func(l *blob.MemberList) *blob.Recovery {
		return &blob.Recovery{List: l.Number, From: office.id(), Reason: "a test"}
	}
	for name, attack := range map[string]struct {
		signer *site
		edit   func(*blob.MemberList)
		says   string
	}{
		"signed by an authority outside a recovery": {vault, func(l *blob.MemberList) {
			l.Members = append(l.Members, newOwner)
		}, "outside a recovery"},
		"a recovery that brings in an authority too": {vault, func(l *blob.MemberList) {
			l.Members = []blob.Member{newOwner, l.Members[1], other.member(blob.BackupAuthority, "other")}
			l.Recovery = recovery(l)
		}, `it brings in "other", who is no owner`},
		"a recovery to two owners": {vault, func(l *blob.MemberList) {
			l.Members = []blob.Member{newOwner, l.Members[1], other.member(blob.Owner, "other")}
			l.Recovery = recovery(l)
		}, "2 owners come in"},
		"a recovery without a new owner": {vault, func(l *blob.MemberList) {
			self := l.Members[1]
			self.Role = blob.Owner
			l.Members, l.Recovery = []blob.Member{self}, recovery(l)
		}, `it changes the member "vault"`},
		"a recovery from somebody who was no owner": {vault, func(l *blob.MemberList) {
			l.Members = append(l.Members, newOwner)
			l.Recovery = &blob.Recovery{List: l.Number, From: other.id(), Reason: "a test"}
		}, "was not an owner's"},
		"a recovery signed by somebody who is no authority": {other, func(l *blob.MemberList) {
			l.Members[0], l.Recovery = newOwner, recovery(l)
		}, "untrusted signer"},
		"a recovery signed by an owner": {office, func(l *blob.MemberList) {
			l.Members[0], l.Recovery = newOwner, recovery(l)
		}, "which is for a backup authority"},
		"a list for another keyring":      {office, func(l *blob.MemberList) { l.KeyringID[0]++ }, "of keyring"},
		"a list that follows another one": {office, func(l *blob.MemberList) { l.Previous = make([]byte, 32) }, "incomplete copy"},
	} {
		t.Run(name, func(t *testing.T) {
			undo := forgeList(t, store, attack.signer.signer(), attack.edit)
			defer undo()
			if _, err := office.open(store); !errors.Is(err, blob.ErrIntegrity) || !strings.Contains(err.Error(), attack.says) {
				t.Errorf("%v; want it to say %q", err, attack.says)
			}
		})
	}
	if _, err := office.open(store); err != nil {
		t.Errorf("without an attack: %v", err)
	}
}

func TestAFormerOwnersListIsRefused(t *testing.T) {
	office, _, spare, k, store, _ := threesome(t)
	add(t, k, spare.member(blob.Owner, "spare"))
	remove(t, k, blob.Owner, "spare")
	forgeList(t, store, spare.signer(), func(l *blob.MemberList) {
		l.Members = append(l.Members, spare.member(blob.Owner, "spare"))
	})
	_, err := office.open(store)
	if !errors.Is(err, blob.ErrUntrusted) || !strings.Contains(err.Error(), `"spare" is no member any more`) {
		t.Errorf("%v", err)
	}
}

func TestTwoOwners(t *testing.T) {
	ctx := context.Background()
	office, branch := newSite(t, "office"), newSite(t, "branch")
	k, store, _ := office.found(t)
	create(t, k, "first")
	add(t, k, branch.member(blob.Owner, "branch"))
	b := branch.join(t, store, office)
	create(t, k, "from-office")
	create(t, b, "from-branch")
	for _, end := range []*hsmkeys.Keyring{k, b} {
		for _, name := range []string{"from-office", "from-branch"} {
			key, err := end.Open(ctx, hsmkeys.Ref{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			key.Close()
		}
	}
	if _, err := b.Open(ctx, hsmkeys.Ref{Name: "first"}); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a key from before, not wrapped to the new owner: %v", err)
	}
	file := encrypt(t, b, "from-branch", []byte("a letter"))

	// What it signs when it was removed elsewhere: nothing.
	remove(t, k, blob.Owner, "branch")
	if _, err := branch.open(store); !errors.Is(err, blob.ErrUntrusted) || !strings.Contains(err.Error(), "no longer a member since list 3") {
		t.Errorf("the removed owner opens the keyring: %v", err)
	}
	if _, err := b.Create(ctx, "too-late", keyspec.AES256, 0); !errors.Is(err, blob.ErrUntrusted) {
		t.Errorf("the removed owner makes a key: %v", err)
	}
	if _, err := b.Rotate(ctx, "from-branch", ""); !errors.Is(err, blob.ErrUntrusted) {
		t.Errorf("the removed owner rotates a key: %v", err)
	}
	if _, err := k.Open(ctx, hsmkeys.Ref{Name: "too-late"}); !errors.Is(err, blob.ErrNotFound) {
		t.Error(err)
	}
	if e, err := k.Show(ctx, hsmkeys.Ref{Name: "from-branch"}); err != nil || e.Version != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	// What it signed before still opens, and rewrap moves it.
	before := hsmkeys.Ref{Name: "from-branch", Version: 1}
	if got, err := decrypt(k, file); err != nil || string(got) != "a letter" {
		t.Errorf("%q, %v", got, err)
	}
	if e, err := k.Show(ctx, before); err != nil || e.Signer.Label != "branch" || e.Signer.Role != "former owner" {
		t.Errorf("%+v, %v", e, err)
	}
	for r := range k.Rewrap(ctx, []hsmkeys.Ref{before}, "") {
		if r.Err != nil || !r.Done {
			t.Errorf("%+v", r)
		}
	}
	if e, err := k.Show(ctx, before); err != nil || e.Signer.Label != "office" || e.Revision != 2 || len(e.Holders) != 1 {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestMembersThatCannotGoOrCome(t *testing.T) {
	ctx := context.Background()
	_, vault, spare, k, _, _ := threesome(t)
	nobody := func(err error) { t.Error(err) }
	if err := k.RemoveMember(ctx, blob.Owner, "office", nobody); !errors.Is(err, hsmkeys.ErrRole) {
		t.Errorf("the last owner: %v", err)
	}
	if err := k.RemoveMember(ctx, blob.Owner, "vault", nobody); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("an authority as an owner: %v", err)
	}
	if err := k.AddMember(ctx, vault.member(blob.Owner, "somebody else")); !errors.Is(err, blob.ErrExists) {
		t.Errorf("a key that is there: %v", err)
	}
	if err := k.AddMember(ctx, spare.member(blob.Owner, "vault")); !errors.Is(err, blob.ErrExists) {
		t.Errorf("a label that is there: %v", err)
	}
	add(t, k, spare.member(blob.Owner, "spare"))
	if err := k.RemoveMember(ctx, blob.Owner, "office", nobody); !errors.Is(err, hsmkeys.ErrRole) {
		t.Errorf("oneself: %v", err)
	}
}

// TestABadBlobDoesNotKeepAnOwnerIn plants a blob that does not verify.
func TestABadBlobDoesNotKeepAnOwnerIn(t *testing.T) {
	_, _, spare, k, _, dir := threesome(t)
	add(t, k, spare.member(blob.Owner, "spare"))
	write(t, dir, blob.KeyPath("planted", 1, 1, [32]byte{1}), []byte("junk"))
	remove(t, k, blob.Owner, "spare")
}

// TestAKeyThatIsMadeWhileAMemberIsRemoved removes a member between the moment when a key
// is wrapped to it and the one when it would be recorded: the key is made anew, and one that
// the former member holds is never the newest.
func TestAKeyThatIsMadeWhileAMemberIsRemoved(t *testing.T) {
	ctx := context.Background()
	office, _, _, other, store, _ := threesome(t)
	removed := false
	k, err := office.open(storetest.Fault(store, func(op, path string) error {
		if op == "put" && strings.HasPrefix(path, blob.KeysPrefix+"new/") && !removed {
			removed = true
			remove(t, other, blob.BackupAuthority, "vault")
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Create(ctx, "new/key", keyspec.AES256, 0); err != nil {
		t.Fatal(err)
	}
	e, err := other.Show(ctx, hsmkeys.Ref{Name: "new/key"})
	if err != nil {
		t.Fatal(err)
	}
	if !removed || len(e.Holders) != 1 || len(e.Former()) != 0 {
		t.Errorf("removed %v; holders %v, former %v", removed, e.Holders, e.Former())
	}
	if n, _, err := other.CountUnnamed(ctx); err != nil || n != 0 {
		t.Errorf("%d blobs are left: %v", n, err)
	}
}
