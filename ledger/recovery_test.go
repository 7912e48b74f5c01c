package ledger

import (
	"errors"
	"slices"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

// bobIsLost is a keyring in which vault puts carol in the place of bob, who has last signed
// checkpoint 3, as alice, who has accepted checkpoint 2, finds it.
func bobIsLost(t *testing.T) (s *story, pinned Pin, vault *Ledger) {
	s = newStory(t)
	l := s.commit(s.found("alice", "bob", "vault"), "alice", newKey("db"))
	pinned = l.Pin()
	l = s.commit(l, "bob", newKey("web"))
	l = s.commit(l, "alice", newKey("mail"))
	vault = s.opened(Trust{Pins: []Pin{l.Pin()}, Write: true})
	return s, pinned, s.propose(vault, "vault", Proposal{List: listOf(from("bob"), "alice", "carol", "vault")})
}

func TestARecoveryIsAnnouncedAndHasToBeAccepted(t *testing.T) {
	s, pinned, vault := bobIsLost(t)
	alice, report, err := Open(t.Context(), s.store, Trust{Pins: []Pin{pinned}, Write: true})
	s.ok(err)
	if len(report.Recoveries) != 1 {
		t.Fatalf("%+v", report)
	}
	e := report.Recoveries[0]
	if e.At != vault.At() || e.Authority.Label != "vault" || e.From.Label != "bob" || e.To.Label != "carol" ||
		e.Reason != "token drowned" || e.LastSigned.Number != 3 || !e.LastTime.Equal(day.Add(3*minute)) || !e.Created.Equal(day.Add(5*minute)) {
		t.Fatalf("%+v", e)
	}
	s.has(alice, "db@1", "mail@1", "web@1")
	_, err = s.try(alice, "alice", Proposal{Edits: []Edit{newKey("db")}})
	s.refused(err, ErrUnaccepted)
	_, err = s.try(alice.Accept(Point{4, Digest{}}), "alice", Proposal{Edits: []Edit{newKey("db")}})
	s.refused(err, ErrUnaccepted)
	s.has(s.commit(alice.Accept(e.At), "alice", newKey("db")), "db@2", "mail@1", "web@1")
	pinned.At = e.At
	_, report, err = s.open(pinned)
	s.ok(err)
	if len(report.Recoveries) != 0 {
		t.Fatalf("%+v", report)
	}
}

func TestWhoIsInARecoveryGoesOn(t *testing.T) {
	s, _, vault := bobIsLost(t)
	carol, report, err := Open(t.Context(), s.store, Trust{Voucher: who("vault").key.Public()})
	s.ok(err)
	if len(report.Recoveries) != 0 || !report.Unpinned {
		t.Fatalf("%+v", report)
	}
	carol = s.commit(carol, "carol", newKey("db"), rewrap("web", 1))
	s.has(carol, "db@2", "mail@1", "web@1")
	vault, err = vault.Refresh(t.Context(), true)
	s.ok(err)
	_, err = s.try(vault, "vault", Proposal{Edits: []Edit{newKey("db")}})
	s.refused(err, blob.ErrUntrusted)
	_, err = s.try(carol, "bob", Proposal{Edits: []Edit{newKey("db")}})
	s.refused(err, blob.ErrUntrusted)
	if to := carol.Members().RecoveredTo(2); to.Label != "carol" {
		t.Fatalf("recovered to %q", to.Label)
	}
}

func TestARecoveryWhileAliceHasItOpen(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob", "vault")
	alice := s.opened(Trust{Pins: []Pin{l.Pin()}, Write: true})
	s.propose(l, "vault", Proposal{List: listOf(from("bob"), "alice", "carol", "vault")})
	_, err := alice.Refresh(t.Context(), false)
	s.refused(err, ErrUnaccepted)
	var facts *Unaccepted
	if !errors.As(err, &facts) || facts.Recoveries[0].To.Label != "carol" {
		t.Fatal(err)
	}
	_, err = s.try(alice, "alice", Proposal{Edits: []Edit{newKey("db")}})
	s.refused(err, ErrUnaccepted)
}

func TestSeveralRecoveriesAreToldOldestFirst(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob", "vault")
	pin := l.Pin()
	l = s.propose(l, "vault", Proposal{List: listOf(from("bob"), "alice", "carol", "vault")})
	l = s.commit(l, "carol", newKey("db"))
	l = s.change(l, "carol", "alice", "carol", "vault", "safe")
	l = s.propose(l, "safe", Proposal{List: listOf(from("alice"), "mallory", "carol", "vault", "safe")})
	s.commit(l, "mallory", newKey("db"))
	_, report, err := s.open(pin)
	s.ok(err)
	var to []string
	for _, e := range report.Recoveries {
		to = append(to, e.Authority.Label+" "+e.From.Label+" "+e.To.Label)
	}
	if !slices.Equal(to, []string{"vault bob carol", "safe alice mallory"}) {
		t.Fatal(to)
	}
	if report.Recoveries[0].LastSigned != (Point{}) || report.Recoveries[1].LastSigned != pin.At {
		t.Fatalf("%+v", report.Recoveries)
	}
}

// An authority, with a friend, makes up the state from which it recovers: a checkpoint that
// no owner has signed, and after it the recovery that keeps its root.
func TestAnAuthorityMakesUpWhatItRecoversFrom(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice", "bob", "vault"), "alice", newKey("db"))
	pin := l.Pin()
	fake := s.in(s.copy())
	made := fake.forge(l, forgery{by: "vault", p: Proposal{Edits: []Edit{newKey("db")}}})

	// vault goes on from there as if it had been signed by an owner.
	r := newObjects(fake.store)
	c, err := r.checkpoint(t.Context(), made)
	s.ok(err)
	after := *l.state
	after.log, _ = after.log.add(after.At.Digest)
	after.At, after.Trie = made, c.trie()
	list, err := l.nextList(listOf(from("bob"), "alice", "mallory", "vault"), day)
	s.ok(err)
	fake.forgeDraft(after, &draft{trie: after.Trie, list: list, now: day}, forgery{by: "vault"})
	_, _, err = fake.open(pin)
	s.refused(err, blob.ErrUntrusted)

	// A head by the friend on top of it hides it no better.
	r = newObjects(fake.store)
	c, err = r.slot(t.Context(), 4)
	s.ok(err)
	after.log, _ = after.log.add(after.At.Digest)
	after.At, after.List, after.ListRef = c.at, *list, c.List
	fake.forgeDraft(after, &draft{trie: after.Trie, now: day}, forgery{by: "mallory"})
	_, _, err = fake.open(pin)
	s.refused(err, blob.ErrUntrusted)
}

func TestLastSigned(t *testing.T) {
	s, _, vault := bobIsLost(t)
	for label, want := range map[string]int{"bob": 3, "alice": 4, "vault": 5, "carol": 0} {
		got, err := vault.LastSigned(t.Context(), who(label).Member)
		s.ok(err)
		if got.At.Number != want {
			t.Errorf("%s has last signed %v, want %d", label, got, want)
		}
	}
}
