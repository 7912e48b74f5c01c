package ledger

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

func (s *story) packs() (all []blob.PackID) {
	s.Helper()
	for path, err := range s.store.List(s.Context(), blob.PacksPrefix) {
		s.ok(err)
		id, ok := blob.ParsePackPath(path)
		if !ok {
			s.Fatalf("%s is no pack", path)
		}
		all = append(all, id)
	}
	return all
}

// purge deletes at most n packs that the last keep checkpoints do not need.
func (s *story) purge(l *Ledger, keep, n int) int {
	s.Helper()
	l = s.opened(Trust{Pins: []Pin{l.Pin()}}) // without nodes that the one before has kept
	packs, err := l.OutdatedPacks(s.Context(), keep)
	s.ok(err)
	n = min(n, len(packs))
	for _, id := range packs[:n] {
		s.ok(s.store.Delete(s.Context(), blob.PackPath(id)))
	}
	return n
}

// grown is a keyring with many checkpoints, each with packs of its own.
func (s *story) grown() *Ledger {
	s.Helper()
	l := s.found("alice", "bob")
	var first []Edit
	for i := range 100 {
		first = append(first, newKey(fmt.Sprintf("key-%d", i)))
	}
	l = s.commit(l, "alice", first...)
	for i := range 40 { // more versions than an entry holds
		l = s.commit(l, "alice", newKey("db"), newKey(fmt.Sprintf("key-%d", i)))
	}
	return l
}

// whole reads every node of a ledger's trie.
func (s *story) whole(l *Ledger) {
	s.Helper()
	l = s.opened(Trust{Pins: []Pin{l.Pin()}})
	for e, err := range l.Entries(s.Context(), "") {
		s.ok(err)
		n := 0
		for _, err := range l.Versions(s.Context(), e) {
			s.ok(err)
			n++
		}
		if n != e.Total() {
			s.Fatalf("%d versions of %s, want %d", n, e.Name, e.Total())
		}
	}
}

const all = 1 << 30

func TestACompactedKeyringNeedsOnePack(t *testing.T) {
	s := newStory(t)
	l := s.grown()
	before := len(s.packs())
	pin := l.Pin()
	l = s.propose(l, "alice", Proposal{Compact: true})
	if n := s.purge(l, all, all); n != 0 {
		t.Fatalf("%d packs are outdated while all checkpoints are kept", n)
	}
	if n := s.purge(l, 1, all); n != before || len(s.packs()) != 1 {
		t.Fatalf("%d of %d packs were outdated, %d are left", n, before, len(s.packs()))
	}
	s.whole(l)

	// Nothing is gained a second time.
	if again := s.propose(l, "alice", Proposal{Compact: true}); again.At() != l.At() {
		t.Fatal("compacted twice")
	}
	// Work goes on, also for a writer who was at the checkpoint before.
	bob := s.opened(Trust{Pins: []Pin{pin}, Write: true})
	bob = s.commit(bob, "bob", newKey("db"), newKey("web"))
	s.whole(bob)
}

func TestAnInterruptedCompactionIsTakenUpAgain(t *testing.T) {
	for step := 1; step < 60; step += 7 {
		s := newStory(t)
		l := s.propose(s.grown(), "alice", Proposal{Compact: true})
		for i := 0; s.purge(l, 1, step) > 0; i++ {
			if i > 100 {
				t.Fatal("it does not end")
			}
		}
		if n := len(s.packs()); n != 1 {
			t.Fatalf("%d at a time: %d packs are left", step, n)
		}
		s.whole(l)
	}
}

func TestWhatKeptCheckpointsNeedStays(t *testing.T) {
	s := newStory(t)
	l := s.grown()
	var pins []Pin
	for range 5 {
		pins = append(pins, l.Pin())
		l = s.commit(l, "alice", newKey("db"), newKey("key-7"))
	}
	l = s.propose(l, "alice", Proposal{Compact: true})
	if n := s.purge(l, 4, all); n == 0 {
		t.Fatal("nothing was outdated")
	}
	s.whole(l)
	// The head and the three before it: a writer who was at the oldest of these goes on.
	s.opened(Trust{Pins: []Pin{pins[3]}, Write: true})
	_, _, err := Open(s.Context(), s.store, Trust{Pins: []Pin{pins[0]}, Write: true})
	s.refused(err, ErrCompacted)
	s.refused(err, blob.ErrIntegrity)
	s.opened(Trust{Pins: []Pin{pins[0]}}) // a reader needs none of it
}

func TestMoreCheckpointsAreKeptThanAnEarlierCompactionKept(t *testing.T) {
	s := newStory(t)
	l := s.propose(s.grown(), "alice", Proposal{Compact: true})
	s.purge(l, 2, all)
	for _, keep := range []int{all, 20, 3} {
		if n := s.purge(l, keep, all); n != 0 {
			t.Fatalf("%d packs are outdated while %d checkpoints are kept", n, keep)
		}
	}
	l = s.propose(s.commit(l, "alice", newKey("db")), "alice", Proposal{Compact: true})
	s.purge(l, 1, all)
	if n := len(s.packs()); n != 1 {
		t.Fatalf("%d packs are left", n)
	}
	s.whole(l)
}

// The packs of a checkpoint that is not in the chain yet, or in another one, are not
// touched.
func TestPacksOfWritersAtWorkStay(t *testing.T) {
	s := newStory(t)
	l := s.grown()
	at := s.in(s.copy())
	beside := at.commit(at.opened(Trust{Pins: []Pin{l.Pin()}}), "bob", newKey("web"))
	l = s.propose(l, "alice", Proposal{Compact: true})
	s.unite(s.store, at.store)
	s.purge(l, 1, all)
	left := s.packs()
	if len(left) != 2 {
		t.Fatalf("%d packs are left, want that of the head and the fresh one", len(left))
	}
	_, err := s.store.Get(s.Context(), blob.PackPath(beside.Trie().At.Pack))
	s.ok(err)
}

func TestCompactionPassesOverLostOldNodes(t *testing.T) {
	s := newStory(t)
	l := s.propose(s.grown(), "alice", Proposal{Compact: true})
	packs := s.packs()
	damaged := 0
	for _, id := range packs {
		if id != l.Trie().At.Pack && damaged < 5 {
			damaged++
			s.replace(blob.PackPath(id), []byte("noise"))
		}
	}
	s.purge(l, 1, all)
	s.whole(l)
	if n := len(s.packs()); n >= len(packs) { // those of patches of what is lost cannot be told from others
		t.Fatalf("%d packs are left", n)
	}
	// What is needed must be there.
	s.replace(blob.PackPath(l.Trie().At.Pack), []byte("noise"))
	l = s.opened(Trust{Pins: []Pin{l.Pin()}})
	if _, err := l.OutdatedPacks(s.Context(), 1); !errors.Is(err, blob.ErrIntegrity) {
		t.Fatalf("%v for a damaged head", err)
	}
	if _, err := l.OutdatedPacks(s.Context(), 0); err == nil {
		t.Fatal("kept no checkpoint")
	}
}

func TestAFreshCheckpointChangesNothing(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice"), "alice", newKey("db"))
	if same := s.propose(l, "alice", Proposal{}); same.At() != l.At() {
		t.Fatal("a checkpoint for nothing")
	}
	fresh := s.propose(l, "alice", Proposal{Fresh: true})
	if fresh.At().Number != l.At().Number+1 || fresh.Trie() != l.Trie() || !fresh.Head().Checkpoint().Created.After(l.Head().Checkpoint().Created) {
		t.Fatalf("%v after %v", fresh.At(), l.At())
	}
	s.opened(Trust{Pins: []Pin{{Keyring: keyringID, First: l.Pin().First, At: l.At(), Checked: l.At()}}, Write: true})
}
