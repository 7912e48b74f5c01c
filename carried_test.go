package hsmkeys_test

import (
	"context"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A vault has no network: the store is carried to it, and what it has recovered back.

func TestARecoveryOnACarriedCopyComesBack(t *testing.T) {
	office, vault, spare, k, store, dir := threesome(t)
	createMany(t, k, 20)
	files := map[string][]byte{"a letter": encrypt(t, k, "k7", []byte("a letter"))}
	carried, _ := copyOf(t, dir)
	if n := recoverAll(t, vault.join(t, carried, office), office.cert, spare.member(blob.Owner, "spare")); n != 21 {
		t.Errorf("%d keys recovered", n)
	}
	unite(t, store, carried, dir, false)
	k = spare.join(t, store, vault)
	opens(t, k, 21, files)
	if n := rewrap(t, k); n != 21 {
		t.Errorf("%d keys adopted", n)
	}
	if left := unknown(t, k); len(left) != 0 {
		t.Errorf("not adopted: %q", left)
	}
	opens(t, k, 21, files)
}

// TestARecoveryOnACopyThatIsOutdated has the keyring go on while the copy is away: the
// recovery is begun again, and what was recovered is not done again.
func TestARecoveryOnACopyThatIsOutdated(t *testing.T) {
	ctx := context.Background()
	office, vault, spare, k, store, dir := threesome(t)
	createMany(t, k, 20)
	carried, _ := copyOf(t, dir)
	create(t, k, "made-meanwhile")
	files := map[string][]byte{"meanwhile": encrypt(t, k, "made-meanwhile", []byte("meanwhile")), "a letter": encrypt(t, k, "k7", []byte("a letter"))}
	to := spare.member(blob.Owner, "spare")
	if n := recoverAll(t, vault.join(t, carried, office), office.cert, to); n != 21 {
		t.Errorf("%d keys recovered", n)
	}
	unite(t, store, carried, dir, false)
	decryptsOnly(t, vault.older(t, store, ledger.ErrFork), "k7", "a letter", files["a letter"])
	k = office.reopen(t, store) // nothing has happened to it
	v := vault.replacePin(t, store, k.State().At)
	if n := recoverAll(t, v, office.cert, to); n != 1 {
		t.Errorf("%d keys recovered, and not the one that was made meanwhile", n)
	}
	k = spare.join(t, store, vault)
	opens(t, k, 22, files)
	if n := rewrap(t, k); n != 22 {
		t.Errorf("%d keys adopted", n)
	}
	if _, err := k.Rotate(ctx, "k7", ""); err != nil {
		t.Error(err)
	}
	opens(t, k, 23, files)
}
