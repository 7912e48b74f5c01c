package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

// told are the events since a checkpoint, a line each.
func (s *story) told(l *Ledger, since int) (all []string) {
	s.Helper()
	for e, err := range l.Log(s.Context(), since) {
		s.ok(err)
		line := fmt.Sprintf("%d %s", e.At.Number, e.Signer.Label)
		if e.List > 0 {
			line += fmt.Sprintf(" list %d", e.List)
			for _, m := range e.Joined {
				line += " +" + m.Label
			}
			for _, m := range e.Left {
				line += " -" + m.Label
			}
			if e.Recovery != nil {
				line += " " + e.Recovery.Reason
			}
		} else {
			line += strings.TrimRight(fmt.Sprintf(" %s %s@%d %s", e.Change.Op, e.Change.Name, e.Change.Version, e.Change.Reason), " ")
		}
		all = append(all, line)
	}
	return all
}

func TestTheLogTellsWhoDidWhat(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice", "bob", "vault"), "bob", newKey("web"), newKey("db"))
	l = s.propose(l, "alice", Proposal{Edits: []Edit{rewrap("db", 1)}, List: listOf(nil, "alice", "bob", "vault", "safe")})
	l = s.propose(l, "vault", Proposal{List: listOf(from("bob"), "alice", "carol", "vault", "safe")})
	l = s.propose(l, "carol", Proposal{Notes: []Change{{Op: ReplacePin, Reason: "was ahead"}}})
	want := []string{
		"1 alice list 1 +alice +bob +vault",
		"2 bob create db@1", "2 bob create web@1",
		"3 alice list 2 +safe", "3 alice rewrap db@1",
		"4 vault list 3 +carol -bob token drowned",
		"5 carol replace-pin @0 was ahead",
	}
	if got := s.told(l, 0); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := s.told(l, 3); !slices.Equal(got, want[5:]) {
		t.Errorf("%q", got)
	}
	if got := s.told(l, 5); got != nil {
		t.Errorf("%q", got)
	}
	for number, want := range map[int][]string{1: {""}, 2: {"create db@1", "create web@1"}, 3: {"", "rewrap db@1"}, 5: {"replace-pin @0"}} {
		events, err := l.EventsAt(t.Context(), number)
		s.ok(err)
		var got []string
		for _, e := range events {
			if e.At.Number != number {
				t.Errorf("checkpoint %d is number %d", number, e.At.Number)
			}
			if e.Change.Op == 0 {
				got = append(got, "")
			} else {
				got = append(got, fmt.Sprintf("%v %s@%d", e.Change.Op, e.Change.Name, e.Change.Version))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("checkpoint %d: %q, want %q", number, got, want)
		}
	}
	for _, number := range []int{-1, 0, 6} {
		if _, err := l.EventsAt(t.Context(), number); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("checkpoint %d: %v", number, err)
		}
	}
	for range l.Log(t.Context(), 0) {
		break
	}

	s.replace(blob.ChangesPath(l.head.Changes), []byte{0})
	for _, err := range l.Log(t.Context(), 4) {
		s.refused(err, blob.ErrMisplaced)
	}
	s.ok(s.store.Delete(t.Context(), blob.ChangesPath(l.head.Changes)))
	for _, err := range l.Log(t.Context(), 4) {
		s.refused(err, ErrIncomplete)
	}
}

func TestTheHashesAtTheEndOfARecord(t *testing.T) {
	var e edge
	for number := 2; number < 70; number++ {
		var r Record
		e, r.Log = e.add(Digest{byte(number)})
		data := must(MarshalRecord(r))
		added, err := logOf(data, number)
		if err != nil || !slices.Equal(added, r.Log) {
			t.Fatal(number, added, err)
		}
		if _, err := logOf(data[:len(data)-1], number); len(r.Log) == 1 && !errors.Is(err, blob.ErrMalformed) {
			t.Fatal(number, err)
		}
	}
	if _, err := logOf(nil, 2); !errors.Is(err, blob.ErrMalformed) {
		t.Fatal(err)
	}
}
