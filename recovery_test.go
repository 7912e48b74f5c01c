package hsmkeys_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/capi"
	dirstore "github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// TestTheHardwareIsLostTwice is what all of this is for. It runs in a process of its
// own: SoftHSM fails on a token that was destroyed, crypto11 looks at all tokens
// when it opens one, and gives up on the module.
func TestTheHardwareIsLostTwice(t *testing.T) {
	const inside = "HSMKEYS_TEST_LOSS"
	if os.Getenv(inside) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1", "SOFTHSM2_CONF=")
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	const keys, letters = 1000, 20
	office, vault, spare := newSite(t, "office"), newSite(t, "vault"), newSite(t, "spare")
	second, last := newSite(t, "second vault"), newSite(t, "last")
	k, store, _ := office.found(t)
	add(t, k, vault.member(blob.BackupAuthority, "vault"))
	createMany(t, k, keys)
	files := map[string][]byte{}
	for i := range letters {
		plain := fmt.Sprintf("letter %d", i)
		files[plain] = encrypt(t, k, fmt.Sprintf("k%d", i*37), []byte(plain))
	}
	office.lose(t)

	authority := vault.join(t, store, office)
	if n := recoverAll(t, authority, office.cert, spare.member(blob.Owner, "spare")); n != keys {
		t.Errorf("%d keys recovered, not %d", n, keys)
	}
	k = spare.join(t, store, vault)
	opens(t, k, keys, files)
	if n := rewrap(t, k); n != keys {
		t.Errorf("%d keys rewrapped, not %d", n, keys)
	}

	// The authority's token dies as well, and then the new owner's.
	vault.lose(t)
	remove(t, k, blob.BackupAuthority, "vault")
	add(t, k, second.member(blob.BackupAuthority, "second vault"))
	if n := rewrap(t, k); n != keys {
		t.Errorf("%d keys rewrapped for the second authority, not %d", n, keys)
	}
	spare.lose(t)
	authority = second.join(t, store, spare)
	if n := recoverAll(t, authority, spare.cert, last.member(blob.Owner, "last")); n != keys {
		t.Errorf("%d keys recovered the second time, not %d", n, keys)
	}
	k = last.join(t, store, second)
	opens(t, k, keys, files)
	for name, err := range k.Verify(context.Background()) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// threesome is a keyring with an owner and a backup authority, one key, and a
// token to recover to.
func threesome(t *testing.T) (office, vault, spare *site, k *hsmkeys.Keyring, store *dirstore.Store, dir string) {
	t.Helper()
	office, vault, spare = newSite(t, "office"), newSite(t, "vault"), newSite(t, "spare")
	k, store, dir = office.found(t)
	add(t, k, vault.member(blob.BackupAuthority, "vault"))
	create(t, k, "payroll")
	return
}

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
		_, err := hsmkeys.Join(context.Background(), spare.tok, spare.pair, store, nil, voucher.cert)
		if !errors.Is(err, blob.ErrUntrusted) {
			t.Errorf("vouched by %s: %v", name, err)
		}
	}
	if _, err := spare.open(store); !errors.Is(err, hsmkeys.ErrNotJoined) || !errors.Is(err, blob.ErrIntegrity) {
		t.Errorf("without a voucher: %v", err)
	}
	stranger := newSite(t, "not named")
	if _, err := hsmkeys.Join(context.Background(), stranger.tok, stranger.pair, store, nil, office.cert); !errors.Is(err, blob.ErrUntrusted) {
		t.Errorf("somebody whom the list does not name: %v", err)
	}
	spare.join(t, store, office)
	if _, err := spare.open(store); err != nil {
		t.Errorf("after joining: %v", err)
	}
}

// TestRecoveredBlobsThatAreRefused begins a recovery, and then has the authority
// sign blobs that no recovery makes.
func TestRecoveredBlobsThatAreRefused(t *testing.T) {
	ctx := context.Background()
	office, vault, spare, k, store, _ := threesome(t)
	stranger := newSite(t, "stranger")
	create(t, k, "other")
	legacy := simple(t, office.pair.Public().(*rsa.PublicKey), capi.RC4, make([]byte, 5))
	legacy.Size, legacy.Salt = 5, make([]byte, 11)
	if _, err := k.ImportSimple(ctx, "legacy", legacy); err != nil {
		t.Fatal(err)
	}
	authority := vault.join(t, store, office)
	r, err := authority.BeginRecovery(ctx, office.cert, spare.member(blob.Owner, "spare"), "a test")
	if err != nil {
		t.Fatal(err)
	}
	// Somebody with the old token makes a key after the recovery has begun.
	late := must(signAs(t, office, k, "late", nil))
	putBlob(t, store, late)
	k = spare.join(t, store, vault)
	if _, err := k.Show(ctx, hsmkeys.Ref{Name: "late"}); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("what the old owner makes later: %v", err)
	}
	digests := map[string][32]byte{"late": late.Digest()}
	for _, name := range []string{"payroll", "other", "legacy"} {
		digests[name] = digestOf(t, store, name, 1, 1)
	}
	for name, attack := range map[string]struct {
		of     string // the key whose next revision it is
		signer *site
		edit   func(*blob.Descriptor, *blob.Content)
		want   error
	}{
		"signed by the old owner":      {"payroll", office, nil, blob.ErrNotFound},
		"signed by a stranger":         {"payroll", stranger, nil, blob.ErrNotFound},
		"signed by the new owner":      {"payroll", spare, nil, blob.ErrNotFound},
		"of a key that was made later": {"late", vault, nil, blob.ErrNotFound},
		"another key id":               {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.KeyID[0]++ }, blob.ErrNotFound},
		"another check value":          {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.CheckValue = []byte{1, 2, 3} }, blob.ErrNotFound},
		"another confirmation":         {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.Confirmation = make([]byte, 16) }, blob.ErrNotFound},
		"no confirmation":              {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.Confirmation = nil }, blob.ErrNotFound},
		"no check value":               {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.CheckValue = nil }, blob.ErrNotFound},
		"another salt of a legacy key": {"legacy", vault, func(d *blob.Descriptor, c *blob.Content) {
			d.Confirmation = nil
			d.Purpose, d.Legacy, c.Algorithm = blob.Decrypt, &blob.Legacy{KeySize: 5}, blob.RC4
		}, blob.ErrNotFound},
		"from another owner":            {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.Recovery.From = spare.id() }, blob.ErrNotFound},
		"by a list that is no recovery": {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.Recovery.List = 2 }, blob.ErrNotFound},
		"by a list that is not there":   {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.Recovery.List = 9 }, blob.ErrNotFound},
		"outside a recovery":            {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.Recovery = nil }, blob.ErrNotFound},
		"in the place of another key's": {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) {
			digest := digests["other"]
			d.Replaces = digest[:]
		}, blob.ErrNotFound},
		"to an owner who is in no list": {"payroll", vault, func(_ *blob.Descriptor, c *blob.Content) {
			c.Recipients = append(c.Recipients, c.Recipients[0])
			c.Recipients[1].SubjectKeyID = stranger.id()
		}, blob.ErrNotFound},
		"another key, all else the same": {"payroll", vault, func(*blob.Descriptor, *blob.Content) {}, blob.ErrIntegrity},
	} {
		t.Run(name, func(t *testing.T) {
			digest := digests[attack.of]
			forged, err := signAs(t, attack.signer, k, attack.of, func(d *blob.Descriptor, c *blob.Content) {
				d.Revision, d.Replaces = 2, digest[:]
				d.Recovery = &blob.Recovery{List: r.Number(), From: office.id(), Reason: "a test"}
				c.Recipients[0] = wrapTo(t, spare, make([]byte, 32))
				if attack.edit != nil {
					attack.edit(d, c)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			path := putBlob(t, store, forged)
			defer func() {
				if err := store.Delete(ctx, path); err != nil {
					t.Error(err)
				}
			}()
			ref := hsmkeys.Ref{Name: attack.of, Version: 1}
			if _, err := k.Reveal(ctx, ref); !errors.Is(err, attack.want) {
				t.Errorf("open: %v", err)
			}
			for r := range k.Rewrap(ctx, []hsmkeys.Ref{ref}) {
				if !errors.Is(r.Err, attack.want) {
					t.Errorf("adopt: %+v", r)
				}
			}
		})
	}
	// And the genuine recovery, after all this.
	for result := range r.Keys(ctx, []hsmkeys.Ref{{Name: "payroll", Version: 1}}) {
		if result.Err != nil {
			t.Error(result.Err)
		}
	}
	key, err := k.Open(ctx, hsmkeys.Ref{Name: "payroll"})
	if err != nil {
		t.Fatal(err)
	}
	key.Close()
}

// TestAKeyThatIsAnotherIsNotCarriedOn has the newest revision hold another key than it
// says, which the confirmation tells, and expects nobody to use it or put their name to it.
func TestAKeyThatIsAnotherIsNotCarriedOn(t *testing.T) {
	ctx := context.Background()
	office, _, _, k, store, _ := threesome(t)
	payroll := hsmkeys.Ref{Name: "payroll"}
	value, err := k.Reveal(ctx, payroll)
	if err != nil {
		t.Fatal(err)
	}
	var warnings warned
	// The owner itself has signed a blob that holds another key than it says.
	digest := digestOf(t, store, "payroll", 1, 1)
	record(t, store, office.signer(), must(signAs(t, office, k, "payroll", func(d *blob.Descriptor, c *blob.Content) {
		d.Revision, d.Replaces = 2, digest[:]
		c.Recipients = []blob.Recipient{wrapTo(t, office, make([]byte, 32))}
	})))
	if k, err = office.open(store); err != nil {
		t.Fatal(err)
	}
	k.Warnings(warnings.add)
	for r := range k.Prove(ctx, versions(t, k), time.Now()) {
		if !errors.Is(r.Err, blob.ErrIntegrity) {
			t.Errorf("prove: %+v", r)
		}
	}
	for name, open := range map[string]func() error{
		"open": func() error {
			key, err := k.Open(ctx, payroll)
			if err != nil {
				return err
			}
			if key.Entry.Revision != 1 {
				t.Errorf("revision %d is used", key.Entry.Revision)
			}
			return key.Close()
		},
		"reveal": func() error {
			got, err := k.Reveal(ctx, payroll)
			if !bytes.Equal(got, value) {
				t.Error("another value")
			}
			return err
		},
		"load": func() error { _, err := k.Load(ctx, payroll, "payroll loaded"); return err },
	} {
		if err := open(); err != nil || !warnings.say("another key came out than the one that was wrapped; revision 1, which holds the same key, is used") {
			t.Errorf("%s: %v, %v", name, err, warnings.all)
		}
	}
	for r := range k.Rewrap(ctx, versions(t, k)) {
		if r.Err != nil || !r.Done || !warnings.say("revision 1, which holds the same key, is used") {
			t.Errorf("rewrap: %+v, %v", r, warnings.all)
		}
	}
	if got, err := k.Reveal(ctx, payroll); err != nil || !bytes.Equal(got, value) || warnings.say("") {
		t.Errorf("after rewrap: %v, %v", err, warnings.all)
	}
}

// warned collects warnings.
type warned struct {
	mu  sync.Mutex
	all []error
}

func (w *warned) add(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, err)
}

// say reports whether there was a warning with these words, and forgets all.
func (w *warned) say(words string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := slices.ContainsFunc(w.all, func(err error) bool { return strings.Contains(err.Error(), words) })
	w.all = nil
	return said
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
	if _, err := branch.open(store); !errors.Is(err, blob.ErrUntrusted) || !strings.Contains(err.Error(), "no member since list 3") {
		t.Errorf("the removed owner opens the keyring: %v", err)
	}
	if _, err := b.Create(ctx, "too-late", blob.AES256, 0); !errors.Is(err, blob.ErrUntrusted) {
		t.Errorf("the removed owner makes a key: %v", err)
	}
	if _, err := b.Rotate(ctx, "from-branch"); !errors.Is(err, blob.ErrUntrusted) {
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
	for r := range k.Rewrap(ctx, []hsmkeys.Ref{before}) {
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

// TestADeletedBlobIsMissedAfterARecovery deletes the newest version of a key, and a whole key.
func TestADeletedBlobIsMissedAfterARecovery(t *testing.T) {
	ctx := context.Background()
	office, vault, spare, k, store, dir := threesome(t)
	if _, err := k.Rotate(ctx, "payroll"); err != nil {
		t.Fatal(err)
	}
	create(t, k, "other")
	recoverAll(t, vault.join(t, store, office), office.cert, spare.member(blob.Owner, "spare"))
	for _, gone := range []string{"keys/payroll/2.*", "keys/other/*"} {
		paths, err := filepath.Glob(filepath.Join(dir, gone))
		if err != nil || len(paths) != 2 {
			t.Fatal(paths, err)
		}
		for _, path := range paths {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	k = spare.join(t, store, vault)
	missed := 0
	for name, err := range k.Verify(ctx) {
		if !errors.Is(err, blob.ErrMisplaced) || !strings.Contains(err.Error(), "is gone") {
			t.Errorf("%s: %v", name, err)
		}
		missed++
	}
	if missed != 2 {
		t.Errorf("%d keys are missed", missed)
	}
	if _, err := k.History(ctx, "payroll"); !errors.Is(err, blob.ErrMisplaced) {
		t.Errorf("history: %v", err)
	}
	if _, err := k.Open(ctx, hsmkeys.Ref{Name: "payroll"}); !errors.Is(err, blob.ErrMisplaced) {
		t.Errorf("open: %v", err)
	}
}

// signAs signs a blob like revision 1 of a key, with another signer and key.
func signAs(t *testing.T, signer *site, k *hsmkeys.Keyring, name string, edit func(*blob.Descriptor, *blob.Content)) (*blob.Blob, error) {
	t.Helper()
	d := blob.Descriptor{KeyringID: k.ID(), Name: name, Version: 1, Revision: 1, Created: time.Now(), Purpose: blob.WrapKeys}
	if e, err := k.Show(context.Background(), hsmkeys.Ref{Name: name, Version: 1}); err == nil {
		d.KeyID, d.CheckValue, d.Created = blob.ID(unhex(t, e.KeyID)), unhex(t, e.CheckValue), e.Created
		if e.Confirms != "" {
			d.Confirmation = unhex(t, e.Confirms)
		}
	}
	c := blob.Content{Algorithm: blob.AES256, Recipients: []blob.Recipient{wrapTo(t, signer, make([]byte, 32))}}
	if edit != nil {
		edit(&d, &c)
	}
	return blob.Sign(d, c, blob.Signer{Key: signer.pair, Scheme: blob.RSAPSS}, time.Now())
}

func digestOf(t *testing.T, store blob.Store, name string, version, revision int) [32]byte {
	t.Helper()
	return sha256.Sum256(must(store.Get(context.Background(), pathOf(t, store, name, version, revision))))
}

// wrapTo wraps a key that we know to a site, as anybody can.
func wrapTo(t *testing.T, to *site, key []byte) blob.Recipient {
	t.Helper()
	wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, to.pair.Public().(*rsa.PublicKey), key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return blob.Recipient{SubjectKeyID: to.id(), Transport: &blob.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: wrapped}}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	out, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
