package ledger

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// approve returns the approval of a list that is to follow the one in force.
func (s *story) approve(l *Ledger, next blob.MemberList, by string, edit func(*blob.Approval)) []byte {
	s.Helper()
	a := blob.Approval{KeyringID: keyringID, Created: s.now, Expires: s.now.Add(time.Hour), List: l.head.List.Digest, Proposed: must(blob.ProposedDigest(next))}
	if next.Recovery != nil {
		a.Quorum = &blob.Approved{Certificate: certificateDigest(who("board").Member)}
	}
	if edit != nil {
		edit(&a)
	}
	return must(blob.SignApproval(a, who(by).signer(), s.now)).Bytes()
}

// next is the list that is to follow the one in force.
func (s *story) next(l *Ledger, recovery *blob.Recovery, labels ...string) blob.MemberList {
	next := l.NextList()
	next.Number, next.Previous, next.Created = next.Number+1, bytes.Clone(l.head.List.Digest[:]), s.now
	next.Members = members(labels...)
	if recovery != nil {
		recovery.List = next.Number
		next.Recovery = recovery
	}
	return next
}

// introduce records a list with approvals.
func (s *story) introduce(l *Ledger, by string, next blob.MemberList, approvals ...[]byte) (*Ledger, error) {
	next.Approvals = approvals
	slices.SortFunc(next.Approvals, bytes.Compare)
	return s.try(l, by, Proposal{List: func(*Ledger) (*blob.MemberList, error) { return &next, nil }})
}

// In a keyring with a quorum of three of five, any three recover, and no two.
func TestARecoveryByAQuorumNeedsItsCustodians(t *testing.T) {
	all := []string{"c1", "c2", "c3", "c4", "c5"}
	for bits := range 1 << len(all) {
		s := newStory(t)
		l := s.commit(s.found("alice", "bob", "board"), "alice", newKey("db"))
		pin := l.Pin()
		next := s.next(l, from("bob"), "alice", "carol", "board")
		var approvals [][]byte
		var names []string
		for i, c := range all {
			if bits&(1<<i) != 0 {
				approvals, names = append(approvals, s.approve(l, next, c, nil)), append(names, c)
			}
		}
		l = s.commit(l, "alice", newKey("web")) // meanwhile, which voids nothing
		got, err := s.introduce(l, "board", next, approvals...)
		if len(names) < 3 {
			s.refused(err, ErrApproval)
			continue
		}
		s.ok(err)
		_, report, err := s.open(pin)
		s.ok(err)
		var approved []string
		for _, m := range report.Recoveries[0].Approved {
			approved = append(approved, m.Label)
		}
		if slices.Sort(approved); !slices.Equal(approved, names) || report.Recoveries[0].Authority.Label != "board" {
			t.Fatalf("%v approved, want %v", approved, names)
		}
		if got.Members().QuorumUsed(who("board").Member) != 2 || l.Members().QuorumUsed(who("board").Member) != 0 {
			t.Fatal("the quorum was used by list 2")
		}
	}
}

func TestApprovalsThatAreNotForTheRecovery(t *testing.T) {
	for name, approval := range map[string]func(s *story, l *Ledger, next blob.MemberList) []byte{
		"twice":                func(s *story, l *Ledger, next blob.MemberList) []byte { return s.approve(l, next, "c2", nil) },
		"by an owner":          func(s *story, l *Ledger, next blob.MemberList) []byte { return s.approve(l, next, "alice", nil) },
		"by a stranger":        func(s *story, l *Ledger, next blob.MemberList) []byte { return s.approve(l, next, "mallory", nil) },
		"by the quorum itself": func(s *story, l *Ledger, next blob.MemberList) []byte { return s.approve(l, next, "board", nil) },
		"for another change": func(s *story, l *Ledger, next blob.MemberList) []byte {
			return s.approve(l, s.next(l, from("bob"), "alice", "mallory", "board"), "c3", nil)
		},
		"for another keyring":       edited(func(a *blob.Approval) { a.KeyringID[0]++ }),
		"for another list in force": edited(func(a *blob.Approval) { a.List[0]++ }),
		"for another quorum":        edited(func(a *blob.Approval) { a.Quorum.Certificate[0]++ }),
		"as an owner's":             edited(func(a *blob.Approval) { a.Quorum = nil }),
		"expired":                   edited(func(a *blob.Approval) { a.Expires = a.Created }),
		"with one bit changed": func(s *story, l *Ledger, next blob.MemberList) []byte {
			der := s.approve(l, next, "c3", nil)
			der[len(der)-5] ^= 1
			return der
		},
		"nothing that is an approval": func(*story, *Ledger, blob.MemberList) []byte { return []byte{1} },
	} {
		s := newStory(t)
		l := s.commit(s.found("alice", "bob", "board"), "alice", newKey("db"))
		next := s.next(l, from("bob"), "alice", "carol", "board")
		good := [][]byte{s.approve(l, next, "c1", nil), s.approve(l, next, "c2", nil)}
		_, err := s.introduce(l, "board", next, append(good, approval(s, l, next))...)
		if name == "with one bit changed" || name == "nothing that is an approval" {
			s.refused(err, blob.ErrIntegrity)
		} else {
			s.refused(err, ErrApproval)
		}
		if _, err = s.introduce(l, "board", next, append(good, s.approve(l, next, "c3", nil))...); err != nil {
			t.Errorf("%s: and without it: %v", name, err)
		}
	}
}

func edited(edit func(*blob.Approval)) func(s *story, l *Ledger, next blob.MemberList) []byte {
	return func(s *story, l *Ledger, next blob.MemberList) []byte { return s.approve(l, next, "c3", edit) }
}

// An approval of a recovery that was made does not serve for another one.
func TestAnApprovalIsNotReplayed(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob", "board")
	next := s.next(l, from("bob"), "alice", "carol", "board")
	approvals := [][]byte{s.approve(l, next, "c1", nil), s.approve(l, next, "c2", nil), s.approve(l, next, "c3", nil)}
	l, err := s.introduce(l, "board", next, approvals...)
	s.ok(err)
	l = s.change(l, "alice", "alice", "bob", "board")
	_, err = s.introduce(l, "board", s.next(l, from("bob"), "alice", "carol", "board"), approvals...)
	s.refused(err, ErrApproval)
}

// What a recovery may not change, it may not change with approvals either.
func TestAQuorumChangesNothingElse(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob", "vault", "board")
	for name, edit := range map[string]func(*blob.MemberList){
		"another member": func(next *blob.MemberList) { next.Members = members("alice", "carol", "safe", "board") },
		"the policy":     func(next *blob.MemberList) { next.Policy.QuorumOnly = true },
		"the custodians": func(next *blob.MemberList) {
			board := who("board").Member
			q := *board.Quorum
			q.Threshold = 2
			board.Quorum = &q
			next.Members = append(members("alice", "carol", "vault"), board)
		},
	} {
		next := s.next(l, from("bob"), "alice", "carol", "vault", "board")
		edit(&next)
		var approvals [][]byte
		for _, c := range []string{"c1", "c2", "c3"} {
			approvals = append(approvals, s.approve(l, next, c, nil))
		}
		if _, err := s.introduce(l, "board", next, approvals...); err == nil {
			t.Errorf("%s was changed", name)
		} else {
			s.refused(err, ErrIllegal)
		}
	}
}

// policy puts a policy in force.
func (s *story) policy(l *Ledger, p blob.Policy) *Ledger {
	s.Helper()
	return s.propose(l, "alice", Proposal{List: func(l *Ledger) (*blob.MemberList, error) {
		next := l.NextList()
		next.Policy = p
		return &next, nil
	}})
}

func TestAKeyringThatOnlyAQuorumRecovers(t *testing.T) {
	s := newStory(t)
	l := s.policy(s.found("alice", "bob", "vault", "board"), blob.Policy{QuorumOnly: true})
	_, err := s.try(l, "vault", Proposal{List: listOf(from("bob"), "alice", "carol", "vault", "board")})
	s.refused(err, ErrApproval)
	next := s.next(l, from("bob"), "alice", "carol", "vault", "board")
	_, err = s.introduce(l, "board", next, s.approve(l, next, "c1", nil), s.approve(l, next, "c2", nil), s.approve(l, next, "c3", nil))
	s.ok(err)
}

func TestAKeyringThatTwoOwnersChange(t *testing.T) {
	s := newStory(t)
	l := s.policy(s.found("alice", "bob", "vault"), blob.Policy{SecondOwner: true})
	pin := l.Pin()
	for _, labels := range [][]string{{"alice", "bob"}, {"alice", "bob", "vault", "carol"}, {"alice", "carol", "vault"}} {
		_, err := s.try(l, "alice", Proposal{List: listOf(nil, labels...)})
		s.refused(err, ErrApproval)
	}
	_, err := s.try(l, "alice", Proposal{List: func(l *Ledger) (*blob.MemberList, error) { // the policy itself
		next := l.NextList()
		next.Policy = blob.Policy{}
		return &next, nil
	}})
	s.refused(err, ErrApproval)

	next := s.next(l, nil, "alice", "bob", "vault", "carol")
	for _, by := range []string{"alice", "vault", "carol", "mallory"} { // the signer, and who is no owner
		_, err = s.introduce(l, "alice", next, s.approve(l, next, by, nil))
		s.refused(err, ErrApproval)
	}
	l, err = s.introduce(l, "alice", next, s.approve(l, next, "bob", nil))
	s.ok(err)
	got, _, err := s.open(pin)
	s.ok(err)
	if approved := got.Members().Approved(3); len(approved) != 1 || approved[0].Label != "bob" {
		t.Fatalf("approved by %v", approved)
	}
	// Keys need no second owner, and a recovery has rules of its own.
	s.propose(s.commit(l, "alice", newKey("db")), "vault", Proposal{List: listOf(from("bob"), "alice", "mallory", "vault", "carol")})
}

// The first list has nobody who could have approved it.
func TestTheFirstListHasNoApprovals(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob")
	next := s.next(l, nil, "alice")
	list := blob.MemberList{KeyringID: keyringID, Members: members("alice"), Approvals: [][]byte{s.approve(l, next, "bob", nil)}}
	got, err := Init(t.Context(), newStory(t).store, list, who("alice").signer(), s.tick(), s.nonce)
	s.ok(err)
	if len(got.Members().List().Approvals) > 0 {
		t.Fatal("it has an approval")
	}
}

// Two custodians, the quorum's private key and the storage together make no recovery that a reader or a
// writer believes; nor does an owner alone make a change that two have to make.
func TestForgedApprovals(t *testing.T) {
	for _, write := range []bool{false, true} {
		s := newStory(t)
		l := s.policy(s.found("alice", "bob", "board"), blob.Policy{SecondOwner: true})
		next := s.next(l, from("bob"), "alice", "mallory", "board")
		next.Policy = l.NextList().Policy
		forged := next
		forged.Approvals = [][]byte{s.approve(l, next, "c1", nil), s.approve(l, next, "c2", nil)}
		slices.SortFunc(forged.Approvals, bytes.Compare)
		for _, f := range []forgery{
			{by: "board", p: Proposal{List: func(*Ledger) (*blob.MemberList, error) { return &forged, nil }}},
			{by: "alice", p: Proposal{List: listOf(nil, "alice", "bob", "mallory")}},
		} {
			other := s.in(s.copy())
			other.forge(l, f)
			_, _, err := Open(t.Context(), other.store, Trust{Pins: []Pin{l.Pin()}, Write: write})
			s.refused(err, ErrApproval)
		}
	}
}
