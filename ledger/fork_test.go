package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/mem"
)

func TestAnOldBackupIsRestored(t *testing.T) {
	for _, tt := range []struct {
		name   string
		copies bool // the checkpoints under their digests are still there
		older  []string
	}{
		{"without the newer objects", false, []string{"db@1"}},
		{"beside the newer objects", true, []string{"db@1", "web@1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStory(t)
			l := s.commit(s.found("alice", "bob"), "bob", newKey("db"))
			backup := s.copy()
			was := l.At()
			l = s.commit(l, "alice", newKey("web"))
			pin := l.Pin()
			if tt.copies {
				s.ok(s.store.Delete(t.Context(), blob.SlotPath(3)))
			} else {
				s = s.in(backup)
			}
			_, _, err := s.open(pin)
			s.refused(err, ErrRollback)
			var facts *Rollback
			if !errors.As(err, &facts) || facts.Accepted != pin.At || facts.Found.At != was || !facts.Found.Created.Equal(day.Add(2*minute)) {
				t.Fatalf("%+v", facts)
			}
			if tt.copies && facts.Signer != "bob" {
				t.Fatalf("signed by %q", facts.Signer)
			}
			old, report, err := Open(t.Context(), s.store, Trust{Pins: []Pin{pin}, OlderState: true, Write: true})
			s.ok(err)
			s.has(old, tt.older...)
			if !errors.Is(report.Older, ErrRollback) {
				t.Fatal(report.Older)
			}
			_, err = s.try(old, "alice", Proposal{Edits: []Edit{newKey("mail")}})
			s.refused(err, ErrRollback)
		})
	}
}

func TestTheLeakedKeyIsPutBackAfterItsRotation(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice", "bob"), "alice", newKey("db"))
	before := s.copy()
	l = s.commit(l, "alice", newKey("db"))
	_, _, err := s.in(before).open(l.Pin())
	s.refused(err, ErrRollback)
}

// Two copies are written to, and one is put over the other: its objects are added, but the
// slots that are filled stay.
func TestTwoCopiesAreWrittenToAndUnited(t *testing.T) {
	for a := 1; a <= 3; a++ {
		for b := 1; b <= 3; b++ {
			t.Run(fmt.Sprintf("alice %d, bob %d", a, b), func(t *testing.T) {
				s := newStory(t)
				common := s.commit(s.found("alice", "bob"), "alice", newKey("db"))
				other := s.in(s.copy())
				alice, bob := common, other.opened(Trust{Pins: []Pin{common.Pin()}, Write: true})
				for range a {
					alice = s.commit(alice, "alice", newKey("db"))
				}
				for range b {
					bob = other.commit(bob, "bob", newKey("web"))
				}
				s.unite(s.store, other.store)
				checkSide(s, alice, bob, common, a >= b)
				checkSide(s, bob, alice, common, b > a)
			})
		}
	}
}

// checkSide opens a united store as one of its writers. Where the last slot is theirs nothing
// is amiss, and they can go on.
func checkSide(s *story, ours, theirs, common *Ledger, last bool) {
	s.Helper()
	pin := ours.Pin()
	if last {
		l := s.opened(Trust{Pins: []Pin{pin}, Write: true})
		next := s.commit(l, "alice", newKey("mail"))
		s.has(s.opened(Trust{Pins: []Pin{common.Pin()}, Write: true}), s.names(next)...)
		s.ok(s.store.Delete(s.Context(), blob.SlotPath(next.head.Number)))
		return
	}
	_, _, err := s.open(pin)
	s.refused(err, ErrFork)
	var fork *Fork
	if !errors.As(err, &fork) || fork.Common != common.At() {
		s.Fatalf("%+v", fork)
	}
	for _, side := range []struct {
		sides []Side
		head  *Ledger
	}{{fork.Ours, ours}, {fork.Theirs, theirs}} {
		n := side.head.head.Number - common.head.Number
		newest := side.sides[len(side.sides)-1]
		m, _ := side.head.HeadSigner()
		if len(side.sides) != n || newest.At != side.head.At() || newest.Signer != m.Label || newest.Created.IsZero() {
			s.Fatalf("%+v", side.sides)
		}
	}
	l, _, err := Open(s.Context(), s.store, Trust{Pins: []Pin{pin}, OlderState: true})
	s.ok(err)
	if l.At() != ours.At() {
		s.Fatalf("opened at %v", l.At())
	}
	s.has(l, s.names(ours)...)
	at, err := shared(s.Context(), s.store, ours.At(), s.store, theirs.At())
	s.ok(err)
	if at != common.At() {
		s.Fatalf("common: %v", at)
	}
}

// In a store whose slots are those of two chains what leads back is found all the same, by a
// chain that is long enough for proofs.
func TestMixedSlotsDoNotBreakTheChain(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob")
	for range 4 {
		l = s.commit(l, "alice", newKey("db"))
	}
	common := l
	other := s.in(s.copy())
	for range 3 {
		l = s.commit(l, "alice", newKey("db"))
	}
	bob := other.opened(Trust{Pins: []Pin{common.Pin()}, Write: true})
	pinned := []*Ledger{common}
	for range 9 {
		bob = other.commit(bob, "bob", newKey("web"))
		pinned = append(pinned, bob)
	}
	s.unite(s.store, other.store) // slots 6 to 8 are alice's
	for _, from := range pinned {
		for _, write := range []bool{false, true} {
			pin := from.Pin()
			got := s.opened(Trust{Pins: []Pin{pin}, Write: write})
			if got.At() != bob.At() {
				t.Fatalf("opened at %v", got.At())
			}
		}
	}
}

func TestAVoucherInMixedSlots(t *testing.T) {
	s, other, _, bob, _ := forked(t)
	other.unite(other.store, s.store)
	s.unite(s.store, other.store) // slot 3 is alice's, slot 4 bob's
	got := s.opened(Trust{Voucher: who("bob").key.Public()})
	if got.At() != bob.At() {
		t.Fatal(got.At())
	}
	_, report, err := Open(t.Context(), s.store, Trust{Voucher: who("alice").key.Public()})
	s.ok(err)
	if report.Before.Number != 2 { // what she has signed on the other side is not in this one
		t.Fatal(report.Before)
	}
}

func TestTwoPinsThatAreNotConsistentAreAFork(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob")
	other := s.in(s.copy())
	bob := other.opened(Trust{Pins: []Pin{l.Pin()}, Write: true})
	for range 2 {
		bob = other.commit(bob, "bob", newKey("web"))
	}
	l = s.commit(l, "alice", newKey("db"))
	s.unite(s.store, other.store)
	for _, pins := range [][]Pin{{l.Pin(), bob.Pin()}, {bob.Pin(), l.Pin()}} {
		_, _, err := s.open(pins...)
		s.refused(err, ErrFork)
	}
	late := l.Pin()
	late.At.Number, late.At.Digest = bob.head.Number, Digest{1}
	_, _, err := s.open(bob.Pin(), late)
	s.refused(err, ErrFork)
}

// A reader that has not seen the removal of an owner can be held on that owner's fork: this
// is as far as it goes.
func TestARemovedOwnerGoesOnFromBeforeItsRemoval(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice", "bob", "carol"), "alice", newKey("db"))
	fork := s.in(s.copy())
	evil := fork.opened(Trust{Pins: []Pin{l.Pin()}, Write: true})
	before := l.Pin()
	l = s.change(l, "alice", "alice", "bob")
	evil = fork.commit(evil, "carol", newKey("db"))
	evil = fork.commit(evil, "carol", newKey("db"))

	_, _, err := fork.open(l.Pin()) // has seen it
	s.refused(err, ErrRollback)
	fork.unite(fork.store, s.store)
	_, _, err = fork.open(l.Pin())
	s.refused(err, ErrFork)
	got := fork.opened(Trust{Pins: []Pin{before}}) // has not
	if got.At() != evil.At() {
		t.Fatal(got.At())
	}
}

func TestCommonOfDifferentKeyrings(t *testing.T) {
	s := newStory(t)
	l := s.found("alice")
	other := s.in(&mem.Store{})
	m := other.found("alice")
	_, err := shared(t.Context(), s.store, l.At(), other.store, m.At())
	s.refused(err, ErrFork)
	_, err = shared(t.Context(), s.store, l.At(), other.store, l.At())
	s.ok(err) // the same point
	far := Point{4, Digest{4}}
	_, err = shared(t.Context(), s.store, far, other.store, m.At())
	s.refused(err, ErrIncomplete)
}

func TestSlotsOfTheLosingSideAreNamedOldestFirst(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob")
	other := s.in(s.copy())
	bob := other.opened(Trust{Pins: []Pin{l.Pin()}, Write: true})
	for range 3 {
		bob = other.commit(bob, "bob", newKey("web"))
		l = s.commit(l, "alice", newKey("db"))
	}
	s.unite(s.store, other.store)
	_, _, err := s.open(bob.Pin())
	var fork *Fork
	if !errors.As(err, &fork) {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(fork.Ours, func(a, b Side) int { return a.At.Number - b.At.Number }) || fork.Ours[0].At.Number != 2 {
		t.Fatalf("%+v", fork.Ours)
	}
}

// Without a pin nothing tells which checkpoint 1 is ours: there is no older state to go back to.
func TestAnOlderStateNeedsAPin(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice"), "alice", newKey("db"))
	backup := s.in(s.copy())
	l = s.commit(l, "alice", newKey("db"))
	at := l.At()
	_, _, err := Open(t.Context(), backup.store, Trust{Checkpoint: &at, OlderState: true})
	s.refused(err, ErrRollback)
	s.ok(s.store.Delete(t.Context(), blob.SlotPath(3)))
	if got := s.opened(Trust{Checkpoint: &at, OlderState: true}); got.At() != at {
		t.Fatal(got.At())
	}
}

// A slot in the middle is missing: what was accepted can still be read.
func TestAnIncompleteCopyCanBeRead(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice"), "alice", newKey("db"))
	pin := l.Pin()
	s.commit(l, "alice", newKey("db"))
	s.ok(s.store.Delete(t.Context(), blob.SlotPath(2)))
	_, _, err := s.open(pin)
	s.refused(err, ErrIncomplete)
	old := s.opened(Trust{Pins: []Pin{pin}, OlderState: true})
	s.has(old, "db@1")
}

// Checkpoint 1 is exchanged, so that the store seems to be another keyring's, for which a
// signature would have to do.
func TestAnotherFirstCheckpointDoesNotPutThePinAside(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice"), "alice", newKey("db"))
	other := newStory(t)
	_, err := Init(t.Context(), other.store, blob.MemberList{KeyringID: blob.ID{7}, Members: members("alice")}, who("alice").signer(), day, s.nonce)
	s.ok(err)
	s.replace(blob.SlotPath(1), other.slot(1))
	_, _, err = Open(t.Context(), s.store, Trust{Pins: []Pin{l.Pin()}, Voucher: who("alice").key.Public()})
	s.refused(err, ErrRollback)
	at := l.At()
	for _, trust := range []Trust{{Voucher: who("alice").key.Public()}, {Checkpoint: &at}} {
		_, _, err = Open(t.Context(), s.store, trust)
		s.refused(err, ErrFork)
	}
}

// The slot of the checkpoint that introduced a list of members has one of another copy.
func TestAListThatWasIntroducedBesideItsSlot(t *testing.T) {
	s, other, alice, bob, common := forked(t)
	alice = s.commit(alice, "alice", newKey("db"))
	bob = other.commit(bob, "carol", newKey("db"))
	s.unite(s.store, other.store) // slot 4 is alice's, and bob's checkpoint 4 introduces list 2
	for _, write := range []bool{false, true} {
		got := s.opened(Trust{Pins: []Pin{common.Pin()}, Write: write})
		if got.At() != bob.At() || got.Members().List().Number != 2 {
			t.Fatal(got.At())
		}
	}
	_, _, err := s.open(alice.Pin())
	s.refused(err, ErrFork)
}

// shared returns the last checkpoint that two chains share, each read from its own store.
func shared(ctx context.Context, a blob.Store, atA Point, b blob.Store, atB Point) (Point, error) {
	pass := func(*stored) {}
	return common(ctx, backward{newObjects(a), atA, pass}, backward{newObjects(b), atB, pass})
}
