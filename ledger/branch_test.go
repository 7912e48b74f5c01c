package ledger

import (
	"slices"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/mem"
)

// forked is a keyring that alice went on with in one store, and bob in another.
func forked(t *testing.T) (s, other *story, alice, bob, common *Ledger) {
	s = newStory(t)
	common = s.commit(s.found("alice", "bob"), "alice", newKey("db"))
	other = s.in(s.copy())
	alice = s.commit(common, "alice", newKey("db"))
	bob = other.opened(Trust{Pins: []Pin{common.Pin()}, Write: true})
	bob = other.commit(bob, "bob", newKey("db"), newKey("web"))
	return s, other, alice, other.change(bob, "bob", "alice", "bob", "carol"), common
}

// differences are the names that differ between the branch and where it comes from.
func (s *story) differences(b *Branch) (all []string) {
	s.Helper()
	for d, err := range Diff(s.Context(), b.Source(), b.From, b.Trie()) {
		s.ok(err)
		all = append(all, d.New.Name)
	}
	slices.Sort(all)
	return all
}

func TestABranchInAnotherStore(t *testing.T) {
	s, other, alice, bob, common := forked(t)
	b, err := alice.Branch(t.Context(), other.store, nil)
	s.ok(err)
	if b.At() != bob.At() || b.Common != common.At() || b.From != common.Trie() || b.Members().List().Number != 2 {
		t.Fatalf("%v, from %v", b.At(), b.Common)
	}
	if got := s.differences(b); !slices.Equal(got, []string{"db", "web"}) {
		t.Fatal(got)
	}
}

func TestABranchInTheSameStore(t *testing.T) {
	s, other, alice, bob, common := forked(t)
	s.unite(s.store, other.store)
	at := bob.At()
	b, err := alice.Branch(t.Context(), s.store, &at)
	s.ok(err)
	if b.At() != at || b.Common != common.At() {
		t.Fatalf("%v, from %v", b.At(), b.Common)
	}
	s.has(b.Ledger, "db@2", "web@1")

	// What we have already is a branch that goes nowhere.
	at = common.At()
	b, err = alice.Branch(t.Context(), s.store, &at)
	s.ok(err)
	if b.At() != at || b.Common != at || len(s.differences(b)) > 0 {
		t.Fatalf("%v, from %v", b.At(), b.Common)
	}
}

func TestBranchesThatAreRefused(t *testing.T) {
	s, other, alice, bob, _ := forked(t)
	_, err := alice.Branch(t.Context(), &mem.Store{}, nil)
	s.refused(err, blob.ErrNotFound)

	stranger := newStory(t)
	stranger.count = 5
	stranger.found("alice")
	_, err = alice.Branch(t.Context(), stranger.store, nil)
	s.refused(err, ErrFork)

	at := other.forge(bob, forgery{by: "mallory", p: Proposal{Edits: []Edit{newKey("db")}}})
	_, err = alice.Branch(t.Context(), other.store, &at)
	s.refused(err, blob.ErrUntrusted)
	_, err = alice.Branch(t.Context(), other.store, nil)
	s.refused(err, blob.ErrUntrusted)

	far := Point{9, Digest{9}}
	_, err = alice.Branch(t.Context(), other.store, &far)
	s.refused(err, ErrIncomplete)
}
