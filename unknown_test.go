package hsmkeys_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// late is a key that an owner has made in another copy of the store, of which only the blob
// has come here, and a file under it.
func late(t *testing.T, c *twoCopies, name string) (path string, file []byte) {
	t.Helper()
	if _, err := c.b.Show(context.Background(), hsmkeys.Ref{Name: name}); err == nil {
		file = rotate(t, c.b, name, "late")
	} else {
		create(t, c.b, name)
		file = encrypt(t, c.b, name, []byte("late"))
	}
	e := must(c.b.Show(context.Background(), hsmkeys.Ref{Name: name}))
	path = pathOf(t, c.storeB, name, e.Version, 1)
	write(t, c.dirA, path, must(c.storeB.Get(context.Background(), path)))
	return path, file
}

// unknown returns the paths of the blobs that the state does not name.
func unknown(t *testing.T, k *hsmkeys.Keyring) (paths []string) {
	t.Helper()
	for path, err := range k.Unknown(context.Background()) {
		if err != nil {
			t.Error(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// TestAnUnknownBlobDecryptsAndNothingElse brings the blobs of a copy, and not its state.
func TestAnUnknownBlobDecryptsAndNothingElse(t *testing.T) {
	ctx := context.Background()
	c := newTwoCopies(t)
	for _, name := range []string{"db", "new/name"} { // one that is here, and one that is not
		_, c.files["late"] = late(t, c, name)
		var warnings warned
		c.a.Options().Warn = warnings.add
		decrypts(t, c.a, map[string][]byte{"late": c.files["late"]})
		if !warnings.say(`"branch" signed it in another copy`) {
			t.Errorf("%s: no warning", name)
		}
		if e, err := c.a.Show(ctx, hsmkeys.Ref{Name: name}); err == nil && e.Version != 1 || err != nil && !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("%s: shown as version %d, %v", name, e.Version, err)
		}
		if _, err := c.a.Open(ctx, hsmkeys.Ref{Name: name, Version: 2}); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("%s: opened by its version: %v", name, err)
		}
	}
	if got := unknown(t, c.a); len(got) != 2 {
		t.Errorf("unknown are %q", got)
	}
	if refs := versions(t, c.a); len(refs) != 1 {
		t.Errorf("the versions are %v", refs)
	}
	// A new file is under what the state names, also where that is rotated meanwhile.
	decrypts(t, c.b, map[string][]byte{"known": encrypt(t, c.a, "db", []byte("known"))})
	c.files["rotated"] = rotate(t, c.a, "db", "rotated")
	decrypts(t, c.a, c.files)
}

// TestUnknownBlobsThatAreRefused has the file name what the blob is not, and the blob be of
// somebody who may not.
func TestUnknownBlobsThatAreRefused(t *testing.T) {
	ctx := context.Background()
	t.Run("another key under that name", func(t *testing.T) {
		c := newTwoCopies(t)
		path, file := late(t, c, "db")
		// A blob of the same owner, for the same place, that holds another key.
		if err := c.storeA.Delete(ctx, path); err != nil {
			t.Fatal(err)
		}
		putBlob(t, c.storeA, must(signAs(t, c.branch, c.a, "db", func(d *blob.Descriptor, content *blob.Content) {
			d.Version = 2
			d.KeyID = blob.ID{1}
			content.Recipients = []blob.Recipient{wrapTo(t, c.office, make([]byte, 32))}
		})))
		if _, err := decrypt(c.a, file); !errors.Is(err, blob.ErrNotFound) {
			t.Error(err)
		}
	})
	t.Run("signed by a stranger", func(t *testing.T) {
		c := newTwoCopies(t)
		path, file := late(t, c, "db")
		if err := c.storeA.Delete(ctx, path); err != nil {
			t.Fatal(err)
		}
		e := must(c.b.Show(ctx, hsmkeys.Ref{Name: "db"}))
		putBlob(t, c.storeA, must(signAs(t, newSite(t, "stranger"), c.a, "db", func(d *blob.Descriptor, content *blob.Content) {
			d.Version, d.KeyID = 2, blob.ID(unhex(t, e.KeyID))
			content.Recipients = []blob.Recipient{wrapTo(t, c.office, make([]byte, 32))}
		})))
		if _, err := decrypt(c.a, file); !errors.Is(err, blob.ErrNotFound) {
			t.Error(err)
		}
	})
	t.Run("signed by an owner who has left since", func(t *testing.T) {
		c := newTwoCopies(t)
		remove(t, c.a, blob.Owner, "branch")
		_, file := late(t, c, "db")
		if _, err := decrypt(c.a, file); !errors.Is(err, blob.ErrNotFound) {
			t.Error(err)
		}
	})
	t.Run("of a key that was destroyed", func(t *testing.T) {
		c := newTwoCopies(t)
		destroy(t, c.storeA, c.office.signer(), "db", 1)
		if _, err := decrypt(c.a, c.files["before"]); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("the blob is still there: %v", err)
		}
		// Under a number that the state does not have.
		e := must(c.b.Show(ctx, hsmkeys.Ref{Name: "db"}))
		putBlob(t, c.storeA, must(signAs(t, c.branch, c.b, "db", func(d *blob.Descriptor, content *blob.Content) {
			d.Version, d.KeyID = 2, blob.ID(unhex(t, e.KeyID))
			content.Recipients = []blob.Recipient{wrapTo(t, c.office, make([]byte, 32))}
		})))
		file := bytes.Replace(c.files["before"], []byte("-> hsmkeys db 1 "), []byte("-> hsmkeys db 2 "), 1)
		if _, err := decrypt(c.a, file); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("under another number: %v", err)
		}
	})
}

// TestTheBlobsOfAnOwnerWhoLeavesAreAdopted removes an owner of whom there are blobs that the
// state does not name: nobody would believe them then.
func TestTheBlobsOfAnOwnerWhoLeavesAreAdopted(t *testing.T) {
	c := newTwoCopies(t)
	_, c.files["late"] = late(t, c, "db")
	_, other := late(t, c, "other")
	remove(t, c.a, blob.Owner, "branch")
	k := c.office.reopen(t, c.storeA)
	var warnings warned
	k.Options().Warn = warnings.add
	decrypts(t, k, c.files)
	decrypts(t, k, map[string][]byte{"late": other})
	if warnings.say("") {
		t.Error("they are not in the state")
	}
	// They never encrypt under a name that was here.
	if e := must(k.Show(context.Background(), hsmkeys.Ref{Name: "db"})); e.Version != 1 {
		t.Errorf("version %d encrypts", e.Version)
	}
}

// TestWhatAnOwnerWhoLeavesHasNotLost puts blobs of keys that the state has into the way of a
// removal: under names of other digests, and one of a key that was destroyed. None is made anew.
func TestWhatAnOwnerWhoLeavesHasNotLost(t *testing.T) {
	ctx := context.Background()
	c := newTwoCopies(t)
	rotate(t, c.b, "db", "gone")
	restore(t, c.dirA, c.dirB)
	path := pathOf(t, c.storeA, "db", 2, 1)
	der := must(c.storeA.Get(ctx, path))
	destroy(t, c.storeA, c.branch.signer(), "db", 2)
	for i := range 3 {
		write(t, c.dirA, blob.KeyPath("db", 3+i, 1, [32]byte{byte(i)}), der)
		write(t, c.dirA, blob.KeyPath("db", 2, 1, [32]byte{byte(i)}), der)
	}
	count := func() (n int) {
		for _, err := range c.storeA.List(ctx, blob.KeysPrefix) {
			if n++; err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	before := count()
	remove(t, c.office.reopen(t, c.storeA), blob.Owner, "branch")
	if got := count(); got != before {
		t.Errorf("%d blobs, there were %d", got, before)
	}
}

// destroy has an owner destroy a version, by the state alone.
func destroy(t *testing.T, store blob.Store, by signer, name string, version int) {
	t.Helper()
	ctx := context.Background()
	at := newest(t, store).At()
	l, _, err := ledger.Open(ctx, store, ledger.Trust{Checkpoint: &at, Write: true})
	if err != nil {
		t.Fatal(err)
	}
	_, errs, err := l.Commit(ctx, ledger.Proposal{Edits: []ledger.Edit{{Name: name, Apply: func(old *ledger.Entry, get func(int) (ledger.Version, bool, error), number int, at time.Time) (ledger.Update, []ledger.Change, error) {
		v, _, err := get(version)
		v.Status, v.Changed, v.ChangedAt = ledger.Destroyed, number, at
		e := *old
		e.Current = 0
		return ledger.Update{Entry: e, Set: []ledger.Version{v}}, []ledger.Change{{Op: ledger.Destroy, Name: name, Version: version, Reason: "a test"}}, err
	}}}}, by.blob(), time.Now(), random)
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
}
