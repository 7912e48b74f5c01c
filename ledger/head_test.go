package ledger

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/mem"
	"github.com/hsmkeys/hsmkeys/blob/store/storetest"
)

// slots returns a store in which slots are filled, and what they have is of no account.
func slots(t *testing.T, runs ...[2]int) *mem.Store {
	t.Helper()
	s := &mem.Store{}
	for _, r := range runs {
		for n := r[0]; n <= r[1]; n++ {
			if err := s.Put(t.Context(), blob.SlotPath(n), []byte{1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

func TestTheHeadIsBeforeTheFirstHole(t *testing.T) {
	const most = blob.MaxNumber
	for _, tt := range []struct {
		name           string
		filled         [][2]int
		from           int
		reader, writer int // 0: incomplete
	}{
		{"nothing new", [][2]int{{1, 5}}, 5, 5, 5},
		{"some new", [][2]int{{1, 9}}, 5, 9, 9},
		{"from the start", [][2]int{{1, 9}}, 0, 9, 9},
		{"none", nil, 0, 0, 0},
		{"across a thousand", [][2]int{{1, 1003}}, 998, 1003, 1003},
		{"across several", [][2]int{{1, 3100}}, 5, 3100, 3100},
		{"to the end of a thousand", [][2]int{{1, 999}}, 5, 999, 999},
		{"at the end of a thousand", [][2]int{{1, 999}}, 999, 999, 999},
		{"at the start of a thousand", [][2]int{{1, 1000}}, 999, 1000, 1000},
		{"the one after the pin is missing", [][2]int{{1, 5}, {7, 7}}, 5, 5, -1},
		{"a hole", [][2]int{{1, 7}, {9, 9}}, 5, -1, -1},
		{"a hole below the pin", [][2]int{{1, 2}, {4, 7}}, 5, 7, 7},
		{"a hole, and the next thousand", [][2]int{{1, 7}, {1500, 1500}}, 5, 7, -1},
		{"a hole at the start of a thousand", [][2]int{{1, 999}, {1001, 1001}}, 5, -1, -1},
		{"a thousand is missing", [][2]int{{1, 999}, {2000, 2000}}, 5, 999, -1},
		{"far beyond", [][2]int{{1, 7}, {2000, 2000}}, 5, 7, 7}, // nobody looks there
		{"the last number", [][2]int{{most - 3, most}}, most - 3, most, most},
		{"at the last number", [][2]int{{most, most}}, most, most, most},
		{"near the last number", [][2]int{{most - 3, most - 1}}, most - 3, most - 1, most - 1},
	} {
		for _, write := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, write %v", tt.name, write), func(t *testing.T) {
				want := tt.reader
				if write {
					want = tt.writer
				}
				got, err := newObjects(storetest.Shuffle(slots(t, tt.filled...), 7)).head(t.Context(), tt.from, write)
				switch {
				case want < 0 && !errors.Is(err, ErrIncomplete):
					t.Fatalf("head %d, %v; want an incomplete copy", got, err)
				case want >= 0 && (err != nil || got != want):
					t.Fatalf("head %d, %v; want %d", got, err, want)
				}
			})
		}
	}
}

// While the slots are listed others fill two, of which only the later one is in the list.
func TestAListingThatMissesASlotIsNoHole(t *testing.T) {
	s := slots(t, [2]int{1, 6}, [2]int{8, 8})
	busy := storetest.Fault(s, func(op, path string) error {
		if op == "get" && path == blob.SlotPath(7) {
			s.Put(t.Context(), path, []byte{1})
		}
		return nil
	})
	if got, err := newObjects(busy).head(t.Context(), 5, true); err != nil || got != 8 {
		t.Fatalf("head %d, %v", got, err)
	}
}

// Somebody fills slots for ever: the search ends.
func TestTheSearchForTheHeadEnds(t *testing.T) {
	s := slots(t, [2]int{1, 6})
	busy := storetest.Fault(s, func(op, path string) error {
		if op == "get" {
			s.Put(t.Context(), path, []byte{1})
		}
		return nil
	})
	if _, err := newObjects(busy).head(t.Context(), 6, false); !errors.Is(err, ErrRace) {
		t.Fatal(err)
	}
}

func TestSlotsThatAreMissingOrOthers(t *testing.T) {
	type world struct {
		*story
		at [6]*Ledger // by number
	}
	for _, tt := range []struct {
		name           string
		do             func(w world)
		reader, writer error // of who has pinned checkpoint 3
	}{
		{"nothing is wrong", func(world) {}, nil, nil},
		{"the newest is missing", func(w world) { w.ok(w.store.Delete(w.Context(), blob.SlotPath(5))) }, nil, nil},
		{"the pinned one is missing, and all after it", func(w world) {
			for n := 3; n <= 5; n++ {
				w.ok(w.store.Delete(w.Context(), blob.SlotPath(n)))
			}
		}, ErrRollback, ErrRollback},
		{"the pinned one is missing, and later ones are there", func(w world) { w.ok(w.store.Delete(w.Context(), blob.SlotPath(3))) }, ErrIncomplete, ErrIncomplete},
		{"the one after it is missing", func(w world) { w.ok(w.store.Delete(w.Context(), blob.SlotPath(4))) }, nil, ErrIncomplete},
		{"the first is missing", func(w world) { w.ok(w.store.Delete(w.Context(), blob.SlotPath(1))) }, ErrIncomplete, ErrIncomplete},
		{"one before it is missing", func(w world) { w.ok(w.store.Delete(w.Context(), blob.SlotPath(2))) }, nil, nil},
		{"there is nothing", func(w world) { *w.store = mem.Store{} }, blob.ErrNotFound, blob.ErrNotFound},
		{"the pinned one was exchanged", func(w world) { w.replace(blob.SlotPath(3), w.slot(2)) }, blob.ErrMisplaced, blob.ErrMisplaced},
		{"the newest was exchanged", func(w world) { w.replace(blob.SlotPath(5), w.slot(4)) }, blob.ErrMisplaced, blob.ErrMisplaced},
		{"the one between is another one", func(w world) {
			w.count += 1000
			p := w.forgeDraft(*w.at[3].state, &draft{trie: w.at[3].Trie(), now: day}, forgery{by: "bob", nowhere: true})
			der, err := w.store.Get(w.Context(), blob.CheckpointPath(p.Digest))
			w.ok(err)
			w.replace(blob.SlotPath(4), der)
		}, nil, nil}, // the chain goes through what the head names
		{"one is garbage", func(w world) { w.replace(blob.SlotPath(5), []byte{0x30}) }, blob.ErrMalformed, blob.ErrMalformed},
		{"one has a bit flipped", func(w world) {
			der := w.slot(5)
			der[len(der)-1] ^= 1
			w.replace(blob.SlotPath(5), der)
		}, blob.ErrIntegrity, blob.ErrIntegrity},
		{"another keyring is in its place", func(w world) {
			other := newStory(w.T)
			l, err := Init(w.Context(), other.store, blob.MemberList{KeyringID: blob.ID{9}, Members: members("alice", "bob")}, who("alice").signer(), day, w.nonce)
			w.ok(err)
			other.commit(l, "alice", newKey("db"))
			*w.store = mem.Store{}
			w.unite(w.store, other.store)
		}, ErrUnpinned, ErrUnpinned},
		{"another keyring with the same identifier is in its place", func(w world) {
			other := newStory(w.T)
			other.count = 77
			l := other.found("alice", "bob")
			for range 4 {
				l = other.commit(l, "alice", newKey("db"))
			}
			*w.store = mem.Store{}
			w.unite(w.store, other.store)
		}, ErrRollback, ErrRollback},
		{"the state is from before", func(w world) {
			for n := 3; n <= 5; n++ {
				c := must(w.store.Get(w.Context(), blob.SlotPath(n)))
				w.ok(w.store.Delete(w.Context(), blob.CheckpointPath(must(parseStored(c)).at.Digest)))
				w.ok(w.store.Delete(w.Context(), blob.SlotPath(n)))
			}
		}, ErrRollback, ErrRollback},
		{"the changes of the log are missing", func(w world) {
			w.ok(w.store.Delete(w.Context(), blob.ChangesPath(w.at[4].head.Changes)))
		}, nil, ErrIncomplete},
		{"the list of members is missing", func(w world) {
			w.ok(w.store.Delete(w.Context(), blob.MembersPath(w.at[1].head.List.Digest)))
		}, ErrIncomplete, ErrIncomplete},
		{"the list of members is another one", func(w world) {
			w.replace(blob.MembersPath(w.at[1].head.List.Digest), []byte{0x30, 0})
		}, blob.ErrMisplaced, blob.ErrMisplaced},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := world{story: newStory(t)}
			w.at[1] = w.found("alice", "bob")
			for n := 2; n <= 5; n++ {
				w.at[n] = w.commit(w.at[n-1], "alice", newKey("db"))
			}
			pin := w.at[3].Pin()
			tt.do(w)
			if _, _, err := w.open(pin); !errors.Is(err, tt.reader) {
				t.Errorf("reader: %v, want %v", err, tt.reader)
			}
			if _, _, err := Open(t.Context(), w.store, Trust{Pins: []Pin{pin}, Write: true}); !errors.Is(err, tt.writer) {
				t.Errorf("writer: %v, want %v", err, tt.writer)
			}
		})
	}
}

// lagging has lists as they were a while ago.
type lagging struct {
	blob.Store
	paths []string
}

func (l *lagging) List(_ context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, path := range l.paths {
			if strings.HasPrefix(path, prefix) && !yield(path, nil) {
				return
			}
		}
	}
}

// A list that lags by many checkpoints delays nothing and hides nothing: readers and writers find the newest.
func TestAListThatLags(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice", "bob"), "alice", newKey("db"))
	pin := l.Pin()
	store := &lagging{Store: s.store}
	for path, err := range s.store.List(t.Context(), "") {
		s.ok(err)
		store.paths = append(store.paths, path)
	}
	for i := range 40 {
		l = s.commit(l, "alice", newKey(fmt.Sprint("key", i)))
	}
	for _, write := range []bool{false, true} {
		got, _, err := Open(t.Context(), store, Trust{Pins: []Pin{pin}, Write: write})
		s.ok(err)
		if got.At() != l.At() {
			t.Errorf("found %v, the newest is %v", got.At(), l.At())
		}
	}
	got, _, err := Open(t.Context(), store, Trust{Pins: []Pin{pin}, Write: true})
	s.ok(err)
	next, errs, err := got.Commit(t.Context(), Proposal{Edits: []Edit{newKey("one-more")}}, who("bob").signer(), s.tick(), s.nonce)
	s.ok(errors.Join(append(errs, err)...))
	if next.At().Number != l.At().Number+1 {
		t.Errorf("recorded as %v after %v", next.At(), l.At())
	}
}
