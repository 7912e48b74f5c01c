package ledger

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/mem"
	"github.com/hsmkeys/hsmkeys/blob/store/storetest"
)

// contents returns all that is in a store.
func contents(s *story, store blob.Store) map[string]string {
	s.Helper()
	all := map[string]string{}
	for path, err := range store.List(s.Context(), "") {
		s.ok(err)
		data, err := store.Get(s.Context(), path)
		s.ok(err)
		all[path] = string(data)
	}
	return all
}

// putBlobs stores the blob of every version: what [version] has the digest of.
func putBlobs(s *story, store blob.Store, l *Ledger) {
	s.Helper()
	for e, err := range l.Entries(s.Context(), "") {
		s.ok(err)
		for v, err := range l.Versions(s.Context(), e) {
			s.ok(err)
			data := fmt.Appendf(nil, "%x", pathOf(fmt.Sprint(e.Name, v.Changed, "@", v.Number)))
			if err := store.Put(s.Context(), blob.KeyPath(e.Name, v.Number, v.Revision, v.Blob), data); !errors.Is(err, blob.ErrExists) {
				s.ok(err)
			}
		}
	}
}

// alike checks that two stores have the same objects.
func alike(s *story, a, b blob.Store) {
	s.Helper()
	x, y := contents(s, a), contents(s, b)
	if len(x) != len(y) {
		s.Errorf("%d objects and %d", len(x), len(y))
	}
	for path, data := range x {
		if y[path] != data {
			s.Errorf("%s differs", path)
		}
	}
}

func TestACopyIsBroughtUpToDate(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice", "bob"), "alice", newKey("db"))
	putBlobs(s, s.store, l)
	to := new(mem.Store)
	var calls atomic.Int64
	done, err := Copy(t.Context(), storetest.Shuffle(s.store, 1), to, func() { calls.Add(1) })
	s.ok(err)
	alike(s, s.store, to)
	if done.Keyring != keyringID || done.Head != l.At() || int64(done.Objects) != calls.Load() || done.There != 0 || done.Bytes == 0 {
		t.Errorf("%+v, %d calls", done, calls.Load())
	}

	// From there on, and not again.
	l = s.change(s.commit(l, "alice", newKey("web")), "alice", "alice", "bob", "vault")
	l = s.commit(l, "bob", newKey("mail"))
	putBlobs(s, s.store, l)
	again, err := Copy(t.Context(), s.store, to, nil)
	s.ok(err)
	alike(s, s.store, to)
	if again.Head != l.At() || again.There != done.Objects-2 { // the slots are not looked at
		t.Errorf("%+v after %+v", again, done)
	}

	// The copy is written to, as by a backup authority, and comes back.
	other := s.in(to)
	putBlobs(s, to, s.in(to).commit(other.opened(Trust{Pins: []Pin{l.Pin()}, Write: true}), "bob", newKey("offline")))
	before := contents(s, to)
	done, err = Copy(t.Context(), s.store, to, nil) // which is the newer one
	s.ok(err)
	if done.Objects != 0 || done.Head != l.At() || len(contents(s, to)) != len(before) {
		t.Errorf("%+v", done)
	}
	_, err = Copy(t.Context(), to, s.store, nil)
	s.ok(err)
	alike(s, to, s.store)
}

func TestStoresThatDoNotBelongTogetherAreNotCopied(t *testing.T) {
	s := newStory(t)
	common := s.commit(s.found("alice", "bob"), "alice", newKey("db"))
	other := s.in(s.copy())
	s.commit(common, "alice", newKey("one"))
	l := other.opened(Trust{Pins: []Pin{common.Pin()}, Write: true})
	for _, more := range []int{1, 2, 3} { // shorter, as long, longer
		l = other.commit(l, "bob", newKey(fmt.Sprint("two", more)))
		before := contents(s, s.store)
		_, err := Copy(t.Context(), other.store, s.store, nil)
		if !errors.Is(err, ErrFork) && !errors.Is(err, ErrRollback) {
			t.Errorf("%d: %v", more, err)
		}
		if len(contents(s, s.store)) != len(before) {
			t.Errorf("%d: something was copied", more)
		}
	}

	stranger := newStory(t)
	_, err := Init(t.Context(), stranger.store, blob.MemberList{KeyringID: blob.ID{9}, Members: members("mallory")}, who("mallory").signer(), stranger.tick(), stranger.nonce)
	s.ok(err)
	_, err = Copy(t.Context(), stranger.store, s.store, nil)
	s.refused(err, ErrOtherKeyring)
	_, err = Copy(t.Context(), new(mem.Store), s.store, nil)
	s.refused(err, blob.ErrNotFound)
}

// What is damaged is not copied. If the state needs it, the slots stay as they are.
func TestWhatIsDamagedIsNotCopied(t *testing.T) {
	s := newStory(t)
	old := s.commit(s.found("alice"), "alice", newKey("db"))
	to := s.copy()
	l := s.commit(old, "alice", newKey("web"))
	putBlobs(s, s.store, l)
	key := blob.KeyPath("db", 1, 1, sha256.Sum256([]byte("a blob")))
	s.ok(s.store.Put(t.Context(), key, []byte("another")))
	done, err := Copy(t.Context(), s.store, to, nil)
	s.refused(err, blob.ErrMisplaced)
	if _, missing := to.Get(t.Context(), key); !errors.Is(missing, blob.ErrNotFound) || done.Head != l.At() {
		t.Errorf("%v, %+v", missing, done)
	}

	newer := s.commit(l, "alice", newKey("mail"))
	putBlobs(s, s.store, newer)
	for _, path := range []string{blob.PackPath(newer.head.RootAt.Pack), blob.ChangesPath(newer.head.Changes), blob.CheckpointPath(newer.At().Digest)} {
		data, err := s.store.Get(t.Context(), path)
		s.ok(err)
		s.ok(s.store.Delete(t.Context(), path))
		s.ok(s.store.Put(t.Context(), path, append([]byte{data[0] ^ 0x80}, data[1:]...)))
		done, err := Copy(t.Context(), s.store, to, nil)
		if !errors.Is(err, blob.ErrIntegrity) || done.Head.Number != 0 {
			t.Errorf("%s: %v, %+v", path, err, done)
		}
		if _, err := to.Get(t.Context(), blob.SlotPath(newer.At().Number)); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("%s: the slot is filled: %v", path, err)
		}
		s.ok(s.store.Delete(t.Context(), path))
		s.ok(s.store.Put(t.Context(), path, data))
	}
	s.ok(s.store.Delete(t.Context(), key))
	_, err = Copy(t.Context(), s.store, to, nil)
	s.ok(err)
	alike(s, s.store, to)
}

// Whatever call fails, and wherever it ends: what is there is a copy of some state, and the next call goes on.
func TestACopyIsInterrupted(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob")
	for i := range 8 {
		l = s.commit(l, "alice", newKey(fmt.Sprint("key", i)))
	}
	putBlobs(s, s.store, l)
	broken := errors.New("the network is gone")
	for seed := range uint64(40) {
		dice := rand.New(rand.NewPCG(seed, 1))
		to := new(mem.Store)
		for tries := 0; ; tries++ {
			left := atomic.Int64{}
			left.Store(int64(dice.IntN(60)))
			lost := dice.IntN(2) == 0
			fault := func(_, _ string) error {
				if n := left.Add(-1); n > 0 || tries > 20 {
					return nil
				}
				if lost {
					return storetest.Lost(broken)
				}
				return broken
			}
			_, err := Copy(t.Context(), storetest.Fault(s.store, fault), storetest.Fault(to, fault), nil)
			if err == nil {
				break
			}
			s.refused(err, broken)
			if _, err := to.Get(t.Context(), blob.SlotPath(1)); err == nil {
				first := must(newObjects(to).slot(t.Context(), 1)).at
				c, _, err := Open(t.Context(), to, Trust{Checkpoint: &first, Write: true})
				s.ok(err)
				s.ok(c.readable(s))
			}
		}
		alike(s, s.store, to)
	}
}

// readable reads all entries.
func (l *Ledger) readable(s *story) error {
	for _, err := range l.Entries(s.Context(), "") {
		if err != nil {
			return err
		}
	}
	return nil
}

// lying is a store whose lists lack some paths, and which returns something else for others.
type lying struct {
	blob.Store
	hides func(path string) bool
	gives map[string][]byte
}

func (l *lying) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for path, err := range l.Store.List(ctx, prefix) {
			if (l.hides == nil || !l.hides(path)) && !yield(path, err) {
				return
			}
		}
	}
}

func (l *lying) Get(ctx context.Context, path string) ([]byte, error) {
	if data, ok := l.gives[path]; ok {
		return data, nil
	}
	return l.Store.Get(ctx, path)
}

// A copy is complete also where the lists of the source are not: what the state names is asked for.
func TestACopyFromListsThatLag(t *testing.T) {
	s := newStory(t)
	l := s.change(s.commit(s.found("alice", "bob"), "alice", newKey("db")), "alice", "alice", "bob", "vault")
	putBlobs(s, s.store, l)
	for _, prefix := range []string{blob.KeysPrefix, blob.MembersPrefix, blob.ChangesPrefix, blob.CheckpointsPrefix} {
		to := new(mem.Store)
		_, err := Copy(t.Context(), &lying{Store: s.store, hides: func(path string) bool { return strings.HasPrefix(path, prefix) }}, to, nil)
		s.ok(err)
		alike(s, s.store, to)
	}
	_, err := Copy(t.Context(), &lying{Store: s.store, hides: func(path string) bool { return strings.HasPrefix(path, blob.PacksPrefix) }}, new(mem.Store), nil)
	s.refused(err, ErrIncomplete)

	// A blob that is gone is told, and everything else is copied.
	s.ok(s.store.Delete(t.Context(), one(s, s.store, blob.KeysPrefix)))
	to := new(mem.Store)
	done, err := Copy(t.Context(), s.store, to, nil)
	s.refused(err, ErrIncomplete)
	if done.Head != l.At() {
		t.Errorf("%+v", done)
	}
	// Damaged state in the destination is not taken for a copy.
	to = new(mem.Store)
	for _, kind := range []string{blob.MembersPrefix, blob.ChangesPrefix, blob.CheckpointsPrefix} {
		to := new(mem.Store)
		s.ok(to.Put(t.Context(), one(s, s.store, kind), []byte("rotten")))
		done, err := Copy(t.Context(), s.store, to, nil)
		if !errors.Is(err, blob.ErrMisplaced) || done.Head.Number > 0 {
			t.Errorf("%s: %v, %+v", kind, err, done)
		}
	}
}

// one returns a path in a store.
func one(s *story, store blob.Store, prefix string) string {
	s.Helper()
	for path, err := range store.List(s.Context(), prefix) {
		s.ok(err)
		return path
	}
	s.Fatalf("nothing at %s", prefix)
	return ""
}

// Nothing that was not verified gets into a slot, from where nobody could remove it.
func TestAForgedSlotIsNotCopied(t *testing.T) {
	s := newStory(t)
	old := s.commit(s.found("alice", "bob"), "alice", newKey("db"))
	putBlobs(s, s.store, old)
	to := s.copy()
	l := s.commit(s.commit(old, "alice", newKey("web")), "bob", newKey("mail"))
	putBlobs(s, s.store, l)
	for _, number := range []int{old.At().Number + 1, l.At().Number} {
		slot := blob.SlotPath(number)
		forged := must(s.store.Get(t.Context(), slot))
		forged[len(forged)-5] ^= 1 // of the signature
		store := s.in(to).copy()
		done, err := Copy(t.Context(), &lying{Store: s.store, gives: map[string][]byte{slot: forged}}, store, nil)
		if there, _ := store.Get(t.Context(), slot); string(there) == string(forged) {
			t.Errorf("slot %d is forged; %v, %+v", number, err, done)
		}
		_, err = Copy(t.Context(), s.store, store, nil) // from an honest one
		s.ok(err)
		alike(s, s.store, store)
	}
}
