package hsmkeys_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// What somebody who can write to the storage can do, and what an honest operator can do to
// it: each is refused, or loses nothing. Merges of copies are in merge_test.go.

// encryptsNothing expects no file to be made under a key, for the reason that is wanted.
func encryptsNothing(t *testing.T, k *hsmkeys.Keyring, key string, want error) {
	t.Helper()
	if _, err := k.Encrypt(context.Background(), io.Discard, []hsmkeys.Ref{{Name: key}}); !errors.Is(err, want) {
		t.Errorf("encrypt: %v, want %v", err, want)
	}
}

func TestTheNewestVersionOfAKeyIsDeleted(t *testing.T) {
	ctx := context.Background()
	office := newSite(t, "office")
	k, store, _ := office.found(t)
	create(t, k, "db")
	old := map[string][]byte{"old": encrypt(t, k, "db", []byte("old"))}
	rotate(t, k, "db", "new")
	if err := store.Delete(ctx, pathOf(t, store, "db", 2, 1)); err != nil {
		t.Fatal(err)
	}
	k = office.reopen(t, store)
	encryptsNothing(t, k, "db", blob.ErrMisplaced)
	missed := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, blob.ErrMisplaced) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := k.Show(ctx, hsmkeys.Ref{Name: "db"})
	missed("show", err)
	_, err = k.History(ctx, "db")
	missed("history", err)
	_, err = k.Rotate(ctx, "db", "")
	missed("rotate", err)
	for _, err := range k.Verify(ctx) {
		missed("verify", err)
	}
	for r := range k.Rewrap(ctx, []hsmkeys.Ref{{Name: "db", Version: 2}}, "") {
		missed("rewrap", r.Err)
	}
	for e, err := range k.List(ctx) {
		if err != nil || e.Version != 2 {
			t.Errorf("list: version %d, %v", e.Version, err)
		}
	}
	decrypts(t, k, old) // what is there still opens

	// And the checkpoint that names it as well.
	if err := store.Delete(ctx, blob.SlotPath(newest(t, store).Number)); err != nil {
		t.Fatal(err)
	}
	k = office.older(t, store, ledger.ErrRollback)
	decryptsOnly(t, k, "db", "old", old["old"])
}

func TestARotationIsUndoneWithOldObjects(t *testing.T) {
	office := newSite(t, "office")
	k, store, dir := office.found(t)
	create(t, k, "db")
	old, backup := copyOf(t, dir)
	files := map[string][]byte{"new": rotate(t, k, "db", "new")}

	unite(t, store, old, dir, true) // beside what is new: nothing changes
	k = office.reopen(t, store)
	if e := must(k.Show(context.Background(), hsmkeys.Ref{Name: "db"})); e.Version != 2 {
		t.Errorf("version %d is used", e.Version)
	}
	decrypts(t, k, files)

	restore(t, dir, backup) // in its place
	k = office.older(t, store, ledger.ErrRollback)
	encryptsNothing(t, k, "db", hsmkeys.ErrStale)
}

func TestAFormerAuthorityUndoesTheRotation(t *testing.T) {
	ctx := context.Background()
	office, vault, _, k, store, dir := threesome(t)
	vault.join(t, store, office)
	file := encrypt(t, k, "payroll", []byte("old"))
	_, backup := copyOf(t, dir)
	remove(t, k, blob.BackupAuthority, "vault")
	_, removed := copyOf(t, dir)
	results, _, err := k.RotateFormer(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	for r := range results {
		if r.Err != nil || !r.Done {
			t.Errorf("%+v", r)
		}
	}
	for _, state := range []string{backup, removed} { // before it was removed, and before the rotation
		restore(t, dir, state)
		decryptsOnly(t, office.older(t, store, ledger.ErrRollback), "payroll", "old", file)
	}
}

func TestAnotherKeyringIsPutInThePlaceOfTheStore(t *testing.T) {
	ctx := context.Background()
	office, mallory := newSite(t, "office"), newSite(t, "mallory")
	k, store, dir := office.found(t)
	create(t, k, "db")
	// The same token has joined the other one, and its owner holds the keys there.
	theirs, theirStore, theirDir := mallory.found(t)
	create(t, theirs, "db")
	add(t, theirs, office.member(blob.Owner, "ours"))
	office.join(t, theirStore, mallory)
	_, own, ownDir := office.found(t) // and has founded a third
	own.Close()
	for what, other := range map[string]string{"joined": theirDir, "founded": ownDir} {
		restore(t, dir, other)
		o := hsmkeys.Options{Store: store, Pair: office.pair, Keyring: k.ID()}
		if _, err := hsmkeys.Open(ctx, o); !errors.Is(err, hsmkeys.ErrOtherKeyring) || !errors.Is(err, blob.ErrIntegrity) || !strings.Contains(err.Error(), k.ID().String()) {
			t.Errorf("%s: %v", what, err)
		}
		o.Voucher, o.Pair = mallory.cert, nil
		if _, err := hsmkeys.OpenWithCertificate(ctx, o); !errors.Is(err, hsmkeys.ErrOtherKeyring) {
			t.Errorf("%s, without a token: %v", what, err)
		}
	}
}

func TestABackupFromBeforeAMemberCameIsRestored(t *testing.T) {
	ctx := context.Background()
	office, branch := newSite(t, "office"), newSite(t, "branch")
	k, store, dir := office.found(t)
	create(t, k, "db")
	file := encrypt(t, k, "db", []byte("a letter"))
	_, backup := copyOf(t, dir)
	add(t, k, branch.member(blob.Owner, "branch"))
	branch.join(t, store, office)

	restore(t, dir, backup)
	k = office.older(t, store, ledger.ErrRollback)
	decryptsOnly(t, k, "db", "a letter", file)
	if _, err := branch.open(store); !errors.Is(err, blob.ErrIntegrity) {
		t.Errorf("branch: %v", err)
	}
	if _, err := hsmkeys.ReplacePin(ctx, hsmkeys.Options{Store: store, Pair: office.pair}); !errors.Is(err, hsmkeys.ErrStale) {
		t.Errorf("without a checkpoint: %v", err)
	}
	gone := k.State().Before
	if _, err := hsmkeys.ReplacePin(ctx, hsmkeys.Options{Store: store, Pair: office.pair, Checkpoint: &gone}); !errors.Is(err, ledger.ErrRollback) {
		t.Errorf("with the checkpoint that is not there: %v", err)
	}
	// A person who has the backup shows its checkpoint, and the way goes on from there.
	before := newest(t, store).At()
	office.replacePin(t, store, before)
	if got := newest(t, store); got.Number != before.Number+1 {
		t.Errorf("it is not recorded: the newest checkpoint is %d", got.Number)
	}
	k = office.reopen(t, store)
	decrypts(t, k, map[string][]byte{"a letter": file, "new": rotate(t, k, "db", "new")})
	add(t, k, branch.member(blob.Owner, "branch"))
	branch.replacePin(t, store, k.State().At)
	create(t, branch.reopen(t, store), "from-branch")
}

func TestARecoveryFromAnOwnerWhoLives(t *testing.T) {
	ctx := context.Background()
	office, vault, spare, k, store, _ := threesome(t)
	branch := newSite(t, "branch")
	add(t, k, branch.member(blob.Owner, "branch"))
	rewrap(t, k)
	b := branch.join(t, store, office)
	file := encrypt(t, b, "payroll", []byte("a letter"))
	pinned := must(b.PinPlace(ctx)).Token
	last := k.State().At

	r, err := vault.join(t, store, office).BeginRecovery(ctx, office.cert, spare.member(blob.Owner, "spare"), "the office has burnt down")
	if err != nil {
		t.Fatal(err)
	}
	begun := r.Keyring.State().At

	// The other owner is told, and neither encrypts nor signs, nor moves the pin; nor does
	// the keyring that was open all the time.
	for _, k := range []*hsmkeys.Keyring{branch.reopen(t, store), b} {
		decryptsOnly(t, k, "payroll", "a letter", file)
		told := k.State().Recoveries
		if len(told) != 1 || told[0].At != begun || told[0].From.Label != "office" || told[0].To.Label != "spare" ||
			told[0].Authority.Label != "vault" || told[0].Reason != "the office has burnt down" || told[0].LastSigned != last {
			t.Errorf("told of %+v", told)
		}
		encryptsNothing(t, k, "payroll", ledger.ErrUnaccepted)
		for r := range k.Prove(ctx, []hsmkeys.Ref{{Name: "payroll", Version: 1}}, time.Time{}) {
			if !errors.Is(r.Err, ledger.ErrUnaccepted) {
				t.Errorf("a proof: %v", r.Err)
			}
		}
		if got := must(k.PinPlace(ctx)).Token; got != pinned {
			t.Errorf("the pin has moved from %d to %d", pinned, got)
		}
	}
	// So is the one who lives.
	if _, err := office.open(store); !errors.Is(err, blob.ErrUntrusted) || !strings.Contains(err.Error(), `a recovery has put "spare" in its place`) {
		t.Errorf("the owner who lives: %v", err)
	}
	if _, err := k.Rotate(ctx, "payroll", ""); err == nil {
		t.Error("the owner who lives, with a keyring that was open, signs")
	}

	b = branch.reopen(t, store)
	if err := b.Accept(ctx, last); !errors.Is(err, blob.ErrMisplaced) {
		t.Errorf("another checkpoint is accepted: %v", err)
	}
	if err := b.Accept(ctx, begun); err != nil {
		t.Fatal(err)
	}
	b = branch.reopen(t, store)
	if told := b.State().Recoveries; len(told) != 0 {
		t.Errorf("told again of %+v", told)
	}
	rotate(t, b, "payroll", "new")
	// The new owner accepts by joining.
	s := spare.join(t, store, vault)
	if told := s.State().Recoveries; len(told) != 0 {
		t.Errorf("the new owner is told of %+v", told)
	}
	create(t, spare.reopen(t, store), "from-spare")
}

// TestAPinIsReplacedAndARecoveryHasFollowed replaces a pin by a checkpoint that another owner
// has shown, after which an authority has brought in somebody: that stays to be accepted.
func TestAPinIsReplacedAndARecoveryHasFollowed(t *testing.T) {
	office, vault, spare, k, store, _ := threesome(t)
	branch := newSite(t, "branch")
	add(t, k, branch.member(blob.Owner, "branch"))
	rewrap(t, k)
	branch.join(t, store, office)
	shown := k.State().At
	recoverAll(t, vault.join(t, store, office), office.cert, spare.member(blob.Owner, "spare"))

	for _, b := range []*hsmkeys.Keyring{branch.replacePin(t, store, shown), branch.reopen(t, store)} {
		if told := b.State().Recoveries; len(told) != 1 || b.State().List != 4 {
			t.Errorf("%+v", b.State())
		}
		encryptsNothing(t, b, "payroll", ledger.ErrUnaccepted)
	}
	b := branch.reopen(t, store)
	if err := b.Accept(context.Background(), b.State().Recoveries[0].At); err != nil {
		t.Fatal(err)
	}
	encrypt(t, branch.reopen(t, store), "payroll", nil)
}
