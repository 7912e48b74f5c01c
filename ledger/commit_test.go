package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/storetest"
)

func TestWhoWasSlowerDoesItAgain(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob")
	bob := s.opened(Trust{Pins: []Pin{l.Pin()}, Write: true})
	l = s.commit(l, "alice", newKey("db"))
	l = s.commit(l, "alice", newKey("db"))
	bob = s.commit(bob, "bob", newKey("db")) // which he has not seen
	s.has(bob, "db@3")
	l = s.change(l, "alice", "alice", "bob", "carol")
	if bob.head.Number != 4 || l.head.Number != 5 {
		t.Fatal(bob.At(), l.At())
	}
	// One who is removed meanwhile signs nothing more.
	bob = s.opened(Trust{Pins: []Pin{l.Pin()}, Write: true})
	s.change(l, "alice", "alice", "carol")
	_, err := s.try(bob, "bob", Proposal{Edits: []Edit{newKey("db")}})
	s.refused(err, blob.ErrUntrusted)
}

func TestManyWritersAtOnce(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob")
	var all sync.WaitGroup
	for i := range 8 {
		by := who([]string{"alice", "bob"}[i%2]).signer()
		all.Go(func() {
			mine := s.opened(Trust{Pins: []Pin{l.Pin()}, Write: true})
			for n := range 10 {
				var nonce [16]byte
				nonce[0], nonce[1] = byte(i+1), byte(n)
				for {
					next, errs, err := mine.Commit(t.Context(), Proposal{Edits: []Edit{newKey(fmt.Sprint("key", n%3))}}, by, day, func() ([16]byte, error) { return nonce, nil })
					if errors.Is(err, ErrRace) {
						continue // sixteen times others were faster
					}
					if err := errors.Join(append(errs, err)...); err != nil {
						t.Error(err)
						return
					}
					mine = next
					break
				}
			}
		})
	}
	all.Wait()
	got := s.opened(Trust{Pins: []Pin{l.Pin()}, Write: true})
	s.has(got, "key0@32", "key1@24", "key2@24")
	if got.head.Number != 81 {
		t.Fatalf("checkpoint %d", got.head.Number)
	}
}

func TestTheRaceEnds(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob")
	other, count := l, 0
	rival := storetest.Fault(s.store, func(op, path string) error {
		if op == "put" && strings.HasPrefix(path, blob.SlotsPrefix) {
			other = s.commit(other, "bob", newKey("db"))
			count++
		}
		return nil
	})
	mine, _, err := Open(t.Context(), rival, Trust{Pins: []Pin{l.Pin()}, Write: true})
	s.ok(err)
	_, err = s.try(mine, "alice", Proposal{Edits: []Edit{newKey("web")}})
	s.refused(err, ErrRace)
	if count != maxCommits {
		t.Fatalf("%d tries", count)
	}
}

func TestEdits(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice"), "alice", newKey("db"))
	broken := errors.New("broken")
	fails := Edit{Name: "web", Apply: func(*Entry, func(int) (Version, bool, error), int, time.Time) (Update, []Change, error) {
		return Update{}, nil, broken
	}}
	nothing := Edit{Name: "mail", Apply: func(*Entry, func(int) (Version, bool, error), int, time.Time) (Update, []Change, error) {
		return Update{}, nil, nil
	}}

	// One that fails does not keep the others back.
	next, errs, err := l.Commit(t.Context(), Proposal{Edits: []Edit{newKey("a"), fails, nothing, newKey("b")}}, who("alice").signer(), day, s.nonce)
	s.ok(err)
	s.has(next, "a@1", "b@1", "db@1")
	if len(errs) != 4 || errs[0] != nil || errs[1] != broken || errs[2] != nil || errs[3] != nil {
		t.Fatal(errs)
	}

	// Where nothing is left there is no checkpoint.
	same, errs, err := next.Commit(t.Context(), Proposal{Edits: []Edit{fails, nothing}}, who("alice").signer(), day, s.nonce)
	s.ok(err)
	if same.At() != next.At() || errs[0] != broken || errs[1] != nil {
		t.Fatal(same.At(), errs)
	}

	// Several of one name follow one another.
	l = s.commit(next, "alice", newKey("db"), newKey("db"), rewrap("db", 1), newKey("new"), newKey("db"), rewrap("db", 1), newKey("new"))
	s.has(l, "a@1", "b@1", "db@4", "new@2")
	e, err := l.Entry(t.Context(), "db")
	s.ok(err)
	for number, revision := range map[int]int{1: 3, 2: 1, 3: 1, 4: 1} {
		v, err := l.Version(t.Context(), e, number)
		s.ok(err)
		if v.Revision != revision {
			t.Errorf("version %d has revision %d", number, v.Revision)
		}
	}

	// And what they make is checked as everybody will check it.
	old := l.At()
	_, err = s.try(l, "alice", Proposal{Edits: []Edit{editVersion(Rewrap, "db", 1, func(_ *Entry, v *Version) { v.Status = Compromised })}})
	s.refused(err, ErrIllegal)
	if again := s.opened(Trust{Pins: []Pin{l.Pin()}}); again.At() != old {
		t.Fatal(again.At())
	}
}

func TestNotesAreRecordedAndCompactionKeepsTheRoot(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob")
	pin := l.Pin()
	for i := range 50 {
		l = s.commit(l, "alice", newKey(fmt.Sprint("key", i)))
	}
	before := l.Trie()
	l = s.propose(l, "bob", Proposal{Notes: []Change{{Op: ReplacePin, Reason: "from 7"}}})
	l = s.propose(l, "bob", Proposal{Compact: true})
	if l.Trie().Root != before.Root || l.Trie().At == before.At {
		t.Fatal(before, l.Trie())
	}
	want := s.names(l)
	// All other packs may go: readers go on, and writers from the compaction on.
	checked := l.Pin()
	l = s.commit(l, "alice", newKey("last"))
	needed := map[string]bool{blob.PackPath(l.Trie().At.Pack): true, blob.PackPath(checked2(s, checked).RootAt.Pack): true}
	for path, err := range s.store.List(t.Context(), blob.PacksPrefix) {
		s.ok(err)
		if !needed[path] {
			s.ok(s.store.Delete(t.Context(), path))
		}
	}
	s.has(s.opened(Trust{Pins: []Pin{pin}}), append(want, "last@1")...)
	s.opened(Trust{Pins: []Pin{checked}, Write: true})
	_, _, err := Open(t.Context(), s.store, Trust{Pins: []Pin{pin}, Write: true})
	s.refused(err, ErrCompacted)
}

func checked2(s *story, p Pin) blob.Checkpoint {
	c, err := newObjects(s.store).checkpoint(s.Context(), p.At)
	s.ok(err)
	return c.Checkpoint
}

func TestAKeyringIsFoundedOnce(t *testing.T) {
	s := newStory(t)
	s.found("alice")
	_, err := Init(t.Context(), s.store, blob.MemberList{KeyringID: keyringID, Members: members("bob")}, who("bob").signer(), day, s.nonce)
	s.refused(err, blob.ErrExists)
	_, err = Init(t.Context(), newStory(t).store, blob.MemberList{KeyringID: keyringID, Members: members("bob")}, who("alice").signer(), day, s.nonce)
	s.refused(err, blob.ErrUntrusted)
	_, err = Init(t.Context(), newStory(t).store, blob.MemberList{KeyringID: keyringID, Members: members("bob", "vault")}, who("vault").signer(), day, s.nonce)
	s.refused(err, blob.ErrUntrusted)
}

var errDisk = errors.New("disk on fire")

// A commit meets a fault in each of its calls of the store, before or after it was carried
// out, once or for good.
func TestFaultsInEveryCallOfACommit(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for _, times := range []int{1, 2, 1000} {
			for call := 0; ; call++ {
				if done := faultyCommit(t, call, times, lost); done {
					if call < 5 {
						t.Fatalf("only %d calls", call)
					}
					break
				}
			}
		}
	}
}

// faultyCommit reports whether the commit has fewer calls than that which is to fail.
func faultyCommit(t *testing.T, call, times int, lost bool) (done bool) {
	s := newStory(t)
	l := s.commit(s.found("alice", "bob"), "bob", newKey("db"))
	signed := map[string]bool{} // the different bytes put into slot 3
	var mu sync.Mutex
	calls := -1 << 30
	faulty := storetest.Fault(watch{s.store, signed}, func(op, path string) error {
		mu.Lock()
		defer mu.Unlock()
		calls++
		if calls <= call || calls > call+times {
			return nil
		}
		if lost {
			return storetest.Lost(errDisk)
		}
		return errDisk
	})
	mine, _, err := Open(t.Context(), faulty, Trust{Pins: []Pin{l.Pin()}, Write: true})
	s.ok(err)
	calls = 0
	p := Proposal{Edits: []Edit{newKey("db"), newKey("web")}, List: listOf(nil, "alice", "bob", "carol")}
	next, errs, err := mine.Commit(t.Context(), p, who("alice").signer(), s.tick(), s.nonce)
	done = calls <= call
	calls = -1 << 30 // the storage is well again
	got := s.opened(Trust{Pins: []Pin{l.Pin()}, Write: true})
	switch {
	case err == nil && errors.Join(errs...) != nil: // what an edit had to read could not be read
		s.refused(errors.Join(errs...), errDisk)
		return done
	case err == nil:
		s.has(got, "db@2", "web@1")
		s.has(next, "db@2", "web@1")
	case !errors.Is(err, errDisk):
		t.Fatal(err)
	case !errors.Is(err, ErrDoubt) && got.At() != l.At():
		t.Fatalf("call %d: recorded, and the error is %v", call, err)
	}
	// Whoever goes on after the doubt does not sign the number again.
	again := s.commit(mine, "alice", newKey("mail"))
	if len(signed) != 1 && errors.Is(err, ErrDoubt) {
		t.Fatalf("call %d: %d checkpoints were signed for one number in doubt", call, len(signed))
	}
	final := s.opened(Trust{Pins: []Pin{l.Pin()}, Write: true})
	if final.At() != again.At() {
		t.Fatal("what was reported is not there")
	}
	if err == nil || errors.Is(err, ErrDoubt) {
		s.has(final, "db@2", "mail@1", "web@1")
	}
	return done
}

// watch notes what is put into slot 3.
type watch struct {
	blob.Store
	signed map[string]bool
}

func (w watch) Put(ctx context.Context, path string, data []byte) error {
	if path == blob.SlotPath(3) {
		w.signed[string(data)] = true
	}
	return w.Store.Put(ctx, path, data)
}

// A liar shows another checkpoint in slot 3 when that is to be filled, and later none.
type liar struct {
	blob.Store
	other []byte
	asked int
}

func (l *liar) Put(ctx context.Context, path string, data []byte) error {
	if path == blob.SlotPath(3) && l.asked == 0 {
		return blob.ErrExists
	}
	return l.Store.Put(ctx, path, data)
}

func (l *liar) Get(ctx context.Context, path string) ([]byte, error) {
	if path == blob.SlotPath(3) && l.asked == 0 {
		l.asked++
		return l.other, nil
	}
	return l.Store.Get(ctx, path)
}

// The number of a checkpoint that has lost its slot is not signed again where nothing is in it.
func TestNothingIsInTheSlotThatWasLost(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice", "bob"), "bob", newKey("db"))
	signed := map[string]bool{}
	mine, _, err := Open(t.Context(), s.store, Trust{Pins: []Pin{l.Pin()}, Write: true})
	s.ok(err)
	mine.store = &liar{Store: watch{s.store, signed}, other: l.Head().Bytes()}
	_, err = s.try(mine, "alice", Proposal{Edits: []Edit{newKey("web")}})
	s.refused(err, ErrDoubt)
	mine = s.commit(mine, "alice", newKey("other"))
	s.has(mine, "db@1", "other@1", "web@1")
	if len(signed) != 1 {
		t.Errorf("%d checkpoints of number 3 were signed", len(signed))
	}
}

func TestAnotherIsInTheSlotAfterADoubt(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob")
	broken := true
	faulty := storetest.Fault(s.store, func(op, path string) error {
		if broken && path == blob.SlotPath(2) {
			return errDisk
		}
		return nil
	})
	mine, _, err := Open(t.Context(), s.store, Trust{Pins: []Pin{l.Pin()}, Write: true})
	s.ok(err)
	mine.store = faulty
	_, err = s.try(mine, "alice", Proposal{Edits: []Edit{newKey("db")}})
	s.refused(err, ErrDoubt)
	_, err = s.try(mine, "alice", Proposal{Edits: []Edit{newKey("db")}})
	s.refused(err, ErrDoubt) // and still the first one
	s.commit(l, "bob", newKey("web"))
	broken = false
	got := s.commit(mine, "alice", newKey("mail"))
	s.has(got, "mail@1", "web@1")
}

// A file of an attacker's where an object of the commit belongs does not become part of it.
func TestWhatLiesInTheWayIsNotTrusted(t *testing.T) {
	s := newStory(t)
	l := s.found("alice")
	planted := storetest.Fault(s.store, func(op, path string) error {
		if op == "put" && !strings.HasPrefix(path, blob.SlotsPrefix) {
			s.store.Put(t.Context(), path, []byte("planted"))
		}
		return nil
	})
	mine, _, err := Open(t.Context(), planted, Trust{Pins: []Pin{l.Pin()}, Write: true})
	s.ok(err)
	_, err = s.try(mine, "alice", Proposal{Edits: []Edit{newKey("db")}})
	s.refused(err, blob.ErrMisplaced)
	if got := s.opened(Trust{Pins: []Pin{l.Pin()}}); got.At() != l.At() {
		t.Fatal(got.At())
	}
}

func TestACancelledCommitIsNotInDoubt(t *testing.T) {
	s := newStory(t)
	l := s.found("alice")
	ctx, cancel := context.WithCancel(t.Context())
	stops := storetest.Fault(s.store, func(op, path string) error {
		if op == "put" {
			cancel()
		}
		return nil
	})
	mine, _, err := Open(t.Context(), stops, Trust{Pins: []Pin{l.Pin()}, Write: true})
	s.ok(err)
	_, _, err = mine.Commit(ctx, Proposal{Edits: []Edit{newKey("db")}}, who("alice").signer(), day, s.nonce)
	s.refused(err, context.Canceled)
	if errors.Is(err, ErrDoubt) {
		t.Fatal(err)
	}
}

func TestNothingIsRecordedBeforeAllIsReady(t *testing.T) {
	s := newStory(t)
	l := s.found("alice")
	full := errors.New("the disk is full")
	ready := full
	p := Proposal{Edits: []Edit{newKey("db")}, Ready: func() error {
		if _, err := s.store.Get(t.Context(), blob.SlotPath(2)); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("slot 2 is filled before: %v", err)
		}
		return ready
	}}
	_, err := s.try(l, "alice", p)
	s.refused(err, full)
	ready = nil
	if l, err = s.try(l, "alice", p); err != nil || l.head.Number != 2 {
		t.Fatal(l, err)
	}
}

// A key that was wrapped to the members of one list is not recorded under another.
func TestAnEditForAnotherListOfMembers(t *testing.T) {
	s := newStory(t)
	l := s.change(s.found("alice"), "alice", "alice", "bob")
	for list, want := range map[int]error{0: nil, 1: ErrList, 2: nil, 3: ErrList} {
		e := newKey(fmt.Sprint("key", list))
		e.List = list
		_, errs, err := l.Commit(t.Context(), Proposal{Edits: []Edit{e}}, who("alice").signer(), day, s.nonce)
		s.ok(err)
		if !errors.Is(errs[0], want) {
			t.Fatalf("for list %d: %v, want %v", list, errs[0], want)
		}
	}
}
