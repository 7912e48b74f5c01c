package ledger

import (
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/storetest"
)

func TestVersionsByNumber(t *testing.T) {
	s := newStory(t)
	l := s.found("alice")
	for range 40 { // more than are in the entry itself
		l = s.commit(l, "alice", newKey("db"))
	}
	l = s.commit(l, "alice", newKey("mail"))
	l = s.commit(l, "alice", alter("mail", func(e *Entry, v func(int) *Version) { v(1).Status, e.Current = Deactivated, 0 }, Change{Op: Deactivate, Name: "mail", Version: 1}))
	e, err := l.Entry(t.Context(), "db")
	s.ok(err)
	for number, want := range map[int]int{0: 40, 1: 1, 17: 17, 40: 40} {
		v, err := l.Version(t.Context(), e, number)
		s.ok(err)
		if v.Number != want {
			t.Errorf("version %d is %d", number, v.Number)
		}
	}
	_, err = l.Version(t.Context(), e, 41)
	s.refused(err, blob.ErrNotFound)
	if e, err = l.Entry(t.Context(), "mail"); err != nil {
		t.Fatal(err)
	}
	_, err = l.Version(t.Context(), e, 0)
	s.refused(err, blob.ErrNotFound)
	if l.Len() != 2 {
		t.Error(l.Len())
	}
	n := 41
	for v, err := range l.Versions(t.Context(), must(l.Entry(t.Context(), "db"))) {
		s.ok(err)
		if n--; v.Number != n {
			t.Fatalf("version %d after %d", v.Number, n+1)
		}
	}
}

// What is pinned must be durable: the slot that others have filled is synced.
func TestSyncIsOfTheHeadsSlot(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice"), "alice", newKey("db"))
	var synced []string
	broken := false
	store := storetest.Fault(s.store, func(op, path string) error {
		if op == "sync" {
			if synced = append(synced, path); broken {
				return errDisk
			}
		}
		return nil
	})
	mine, _, err := Open(t.Context(), store, Trust{Pins: []Pin{l.Pin()}})
	s.ok(err)
	s.ok(mine.Sync(t.Context()))
	if len(synced) != 1 || synced[0] != blob.SlotPath(2) {
		t.Fatal(synced)
	}
	broken = true
	s.refused(mine.Sync(t.Context()), errDisk)
}
