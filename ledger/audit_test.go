package ledger

import (
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

func TestAnAuditChecksEveryCheckpoint(t *testing.T) {
	s := newStory(t)
	l := s.grown()
	audit := func(want error, unchecked bool) {
		t.Helper()
		n, err := s.opened(Trust{Pins: []Pin{l.Pin()}}).Audit(t.Context())
		if want == nil {
			s.ok(err)
		} else {
			s.refused(err, want)
		}
		if n > 0 != unchecked {
			t.Fatalf("%d checkpoints were not checked", n)
		}
	}
	audit(nil, false)

	// Nodes that are gone without a compaction are missing.
	packs := s.packs()
	kept, err := s.store.Get(t.Context(), blob.PackPath(packs[0]))
	s.ok(err)
	s.ok(s.store.Delete(t.Context(), blob.PackPath(packs[0])))
	audit(ErrIncomplete, true)
	s.ok(s.store.Put(t.Context(), blob.PackPath(packs[0]), kept))
	audit(nil, false)

	// After one they are not, and what follows is checked.
	l = s.propose(l, "alice", Proposal{Compact: true})
	s.purge(l, 1, all)
	l = s.commit(l, "alice", newKey("after"))
	audit(nil, true)

	// No checkpoint is passed over for that.
	record := blob.ChangesPath(s.opened(Trust{Pins: []Pin{l.Pin()}}).Head().Checkpoint().Changes)
	data, err := s.store.Get(t.Context(), record)
	s.ok(err)
	s.replace(record, append(data, 0))
	audit(blob.ErrIntegrity, true)
}
