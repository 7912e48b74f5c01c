package ledger

import (
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

func TestWhatLiesInAStoreUnverified(t *testing.T) {
	s := newStory(t)
	_, _, err := Peek(t.Context(), s.store)
	s.refused(err, blob.ErrNotFound)
	l := s.change(s.found("alice", "bob"), "alice", "alice", "carol")
	id, first, err := Peek(t.Context(), s.store)
	s.ok(err)
	list, err := PeekMembers(t.Context(), s.store)
	s.ok(err)
	if id != keyringID || first != l.Pin().First || list.Number != 2 || list.Members[1].Label != "carol" {
		t.Fatalf("keyring %v, checkpoint 1 %x, list %+v", id, first, list)
	}
	s.ok(s.store.Delete(t.Context(), blob.MembersPath(l.head.List.Digest)))
	_, err = PeekMembers(t.Context(), s.store)
	s.refused(err, ErrIncomplete)
}

func TestWhichCheckpointIntroducedAList(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob", "vault")
	l = s.commit(l, "alice", newKey("db"))
	l = s.change(l, "alice", "alice", "bob", "carol", "vault")
	l = s.commit(l, "carol", newKey("db"))
	l = s.propose(l, "vault", Proposal{List: listOf(from("bob"), "alice", "mallory", "carol", "vault")})
	l = s.commit(l, "mallory", newKey("web"))
	for list, want := range map[int]struct {
		number int
		by     string
	}{1: {1, "alice"}, 2: {3, "alice"}, 3: {5, "vault"}} {
		c, err := l.Introduced(t.Context(), list)
		s.ok(err)
		if c.Checkpoint().Number != want.number || string(c.SignerKeyID()) != SignerID(who(want.by).Member) {
			t.Errorf("list %d: checkpoint %d, want %d by %s", list, c.Checkpoint().Number, want.number, want.by)
		}
	}
	for _, list := range []int{0, 4} {
		_, err := l.Introduced(t.Context(), list)
		s.refused(err, blob.ErrNotFound)
	}
	s.ok(s.store.Delete(t.Context(), blob.CheckpointPath(must(l.Introduced(t.Context(), 1)).Digest())))
	s.ok(s.store.Delete(t.Context(), blob.SlotPath(1)))
	_, err := l.Introduced(t.Context(), 1)
	s.refused(err, ErrIncomplete)
}
