package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/mem"
	"github.com/hsmkeys/hsmkeys/blob/store/storetest"
)

// vouched is a keyring that alice founded, who signed checkpoint 2 too, and bob checkpoints 3
// and 4.
func vouched(t *testing.T) (*story, [5]*Ledger) {
	s := newStory(t)
	var at [5]*Ledger
	at[1] = s.found("alice", "bob", "vault")
	at[2] = s.commit(at[1], "alice", newKey("db"))
	at[3] = s.commit(at[2], "bob", newKey("db"))
	at[4] = s.commit(at[3], "bob", newKey("db"))
	return s, at
}

func TestWhereTrustStarts(t *testing.T) {
	s, at := vouched(t)
	point := func(n int) *Point {
		p := at[n].At()
		return &p
	}
	wrong, far := Point{2, Digest{1}}, Point{9, Digest{1}}
	for _, tt := range []struct {
		name  string
		trust Trust
		want  int // Report.Before
		err   error
	}{
		{"nowhere", Trust{}, 0, ErrUnpinned},
		{"at a pin", Trust{Pins: []Pin{at[2].Pin()}}, 2, nil},
		{"at the highest pin", Trust{Pins: []Pin{at[2].Pin(), at[3].Pin(), at[1].Pin()}}, 3, nil},
		{"at a pin of another keyring", Trust{Pins: []Pin{{Keyring: blob.ID{1}, At: far}}}, 0, ErrUnpinned},
		{"at a pin of a keyring that is there no more", Trust{Pins: []Pin{{Keyring: blob.ID{1}, First: Digest{7}, At: at[2].At()}}}, 0, ErrRollback},
		{"at a checkpoint", Trust{Checkpoint: point(2)}, 2, nil},
		{"at the head", Trust{Checkpoint: point(4)}, 4, nil},
		{"at a pin and a later checkpoint", Trust{Pins: []Pin{at[2].Pin()}, Checkpoint: point(3)}, 2, nil},
		{"at a pin and an earlier checkpoint", Trust{Pins: []Pin{at[3].Pin()}, Checkpoint: point(2)}, 3, nil},
		{"at a pin and a checkpoint that was never there", Trust{Pins: []Pin{at[3].Pin()}, Checkpoint: &wrong}, 3, ErrRollback},
		{"at a checkpoint that was never there", Trust{Checkpoint: &wrong}, 2, ErrRollback},
		{"at a checkpoint that is not there yet", Trust{Checkpoint: &far}, 9, ErrRollback},
		{"at the founder's signature", Trust{Voucher: who("alice").key.Public()}, 2, nil},
		{"at an owner's signature", Trust{Voucher: who("bob").key.Public()}, 4, nil},
		{"at the signature of who has signed nothing", Trust{Voucher: who("vault").key.Public()}, 0, blob.ErrUntrusted},
		{"at a stranger's signature", Trust{Voucher: who("mallory").key.Public()}, 0, blob.ErrUntrusted},
		{"at a pin, whatever the voucher", Trust{Pins: []Pin{at[2].Pin()}, Voucher: who("mallory").key.Public()}, 2, nil},
	} {
		for _, write := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, write %v", tt.name, write), func(t *testing.T) {
				s := &story{T: t, store: s.store}
				tt.trust.Write = write
				l, report, err := Open(t.Context(), s.store, tt.trust)
				s.refused(err, tt.err)
				if report.Before.Number != tt.want {
					t.Fatalf("starts at %v, want %d", report.Before, tt.want)
				}
				if err == nil && (l.At() != at[4].At() || report.Unpinned != (tt.trust.Voucher != nil && tt.trust.Pins == nil)) {
					t.Fatalf("opened at %v, %+v", l.At(), report)
				}
			})
		}
	}
}

// What a pin says was checked is not checked again, and all else is.
func TestWritersCheckFromWhereTheyWere(t *testing.T) {
	s, at := vouched(t)
	bad := s.forge(at[4], forgery{by: "bob", p: Proposal{Edits: []Edit{newKey("db")}}, draft: func(d *draft) { d.changes = nil }})
	pin := at[4].Pin()
	for _, tt := range []struct {
		name    string
		checked Point
		err     error
	}{
		{"nothing was checked", Point{}, ErrIllegal},
		{"some was checked", at[2].At(), ErrIllegal},
		{"all was checked but the head", at[4].At(), ErrIllegal},
		{"the head was checked", bad, nil},
		{"what was never there was checked", Point{3, Digest{1}}, blob.ErrIntegrity},
	} {
		pin.Checked = tt.checked
		if tt.checked.Number == 5 {
			pin.At = bad
		}
		l, _, err := Open(t.Context(), s.store, Trust{Pins: []Pin{pin}, Write: true})
		t.Run(tt.name, func(t *testing.T) {
			(&story{T: t}).refused(err, tt.err)
			if err == nil && l.Pin().Checked != bad {
				t.Fatalf("checked up to %v", l.Pin().Checked)
			}
		})
	}
}

// From every checkpoint to every later one, with lists of members that change on the way.
func TestEveryHeadDescendsFromEveryPin(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob", "vault")
	all := []*Ledger{l}
	for n := 2; n <= 40; n++ {
		switch n % 7 {
		case 3:
			l = s.change(l, "bob", "alice", "bob", "carol", "vault")
		case 5:
			l = s.change(l, "carol", "alice", "bob", "vault")
		default:
			l = s.commit(l, "alice", newKey(fmt.Sprint("key", n%5)))
		}
		all = append(all, l)
	}
	for _, from := range all {
		for _, write := range []bool{false, true} {
			pin := from.Pin()
			got := s.opened(Trust{Pins: []Pin{pin}, Write: write})
			if got.At() != l.At() || !slices.Equal(s.names(got), s.names(l)) {
				t.Fatalf("from %v: opened at %v", pin.At, got.At())
			}
		}
		for _, to := range all {
			if from.head.Number > to.head.Number {
				continue
			}
			r := newObjects(s.store)
			if err := r.descends(t.Context(), to.head, from.At()); err != nil {
				t.Fatal(err)
			}
			wrong := from.At()
			wrong.Digest[0] ^= 1
			s.refused(r.descends(t.Context(), to.head, wrong), ErrFork)
		}
		e, err := newObjects(s.store).edgeOf(t.Context(), from.head)
		s.ok(err)
		if e.hash() != from.head.Log || e.size != from.head.Number-1 {
			t.Fatalf("edge of %v: %+v", from.At(), e)
		}
	}
}

// A pin far behind costs reads in the logarithm of the distance.
func TestDescentReadsLittle(t *testing.T) {
	s := newStory(t)
	l := s.found("alice")
	pin := l.Pin()
	for range 300 {
		l = s.commit(l, "alice", newKey("db"))
	}
	c := &countGets{Store: s.store}
	_, _, err := Open(t.Context(), c, Trust{Pins: []Pin{pin}})
	s.ok(err)
	if c.gets > 40 {
		t.Fatalf("%d objects read", c.gets)
	}
}

type countGets struct {
	blob.Store
	gets int
}

func (c *countGets) Get(ctx context.Context, path string) ([]byte, error) {
	c.gets++
	return c.Store.Get(ctx, path)
}

// Where the pinned checkpoint is the newest, opening quickly reads it, the next slot and the lists of members, and
// nothing else. Whatever is not so is found as always.
func TestOpenQuickly(t *testing.T) {
	s := newStory(t)
	old := s.commit(s.found("alice", "bob"), "alice", newKey("db"))
	l := s.change(s.commit(old, "alice", newKey("web")), "alice", "alice", "bob", "vault")
	pin := l.Pin()
	var mu sync.Mutex
	reads := map[string]int{}
	counted := storetest.Fault(s.store, func(op, path string) error {
		mu.Lock()
		defer mu.Unlock()
		reads[op+" "+path]++
		return nil
	})
	got, report, err := Open(t.Context(), counted, Trust{Pins: []Pin{pin}, Quick: true})
	s.ok(err)
	if got.At() != l.At() || got.Pin() != pin || report.Before != pin.At || report.Older != nil || len(report.Recoveries) > 0 {
		t.Errorf("%+v, %+v", got.Pin(), report)
	}
	if len(reads) != 4 || reads["get "+blob.SlotPath(1)] != 0 { // the head, the next slot, two lists
		t.Errorf("%v", reads)
	}
	s.has(got, s.names(l)...)
	s.commit(got, "bob", newKey("more")) // and can be written to
	s.ok(s.store.Delete(t.Context(), blob.SlotPath(l.At().Number+1)))

	other := pin
	other.Keyring[0] ^= 1
	lower := old.Pin()
	for name, test := range map[string]struct {
		damage func(*mem.Store)
		trust  Trust
	}{
		"a newer one": {func(m *mem.Store) {
			in := s.in(m)
			in.commit(in.opened(Trust{Pins: []Pin{pin}, Write: true}), "bob", newKey("mail"))
		}, Trust{Pins: []Pin{pin}}},
		"an older one": {func(m *mem.Store) { s.ok(m.Delete(t.Context(), blob.SlotPath(l.At().Number))) }, Trust{Pins: []Pin{pin}}},
		"another one": {func(m *mem.Store) {
			s.ok(errors.Join(m.Delete(t.Context(), blob.SlotPath(l.At().Number)), m.Put(t.Context(), blob.SlotPath(l.At().Number), []byte("x"))))
		}, Trust{Pins: []Pin{pin}}},
		"another keyring":     {func(*mem.Store) {}, Trust{Pins: []Pin{pin}, Keyring: other.Keyring}},
		"a pin of another":    {func(*mem.Store) {}, Trust{Pins: []Pin{other}}},
		"two pins":            {func(*mem.Store) {}, Trust{Pins: []Pin{lower, pin}}},
		"two that quarrel":    {func(*mem.Store) {}, Trust{Pins: []Pin{pin, {pin.Keyring, pin.First, Point{pin.At.Number, Digest{1}}, pin.Checked}}}},
		"no pin":              {func(*mem.Store) {}, Trust{}},
		"a list that is gone": {func(m *mem.Store) { s.ok(m.Delete(t.Context(), blob.MembersPath(l.head.List.Digest))) }, Trust{Pins: []Pin{pin}}},
	} {
		t.Run(name, func(t *testing.T) {
			store := s.copy()
			test.damage(store)
			slow, slowReport, slowErr := Open(t.Context(), store, test.trust)
			test.trust.Quick = true
			quick, quickReport, quickErr := Open(t.Context(), store, test.trust)
			if fmt.Sprint(slowErr) != fmt.Sprint(quickErr) || fmt.Sprint(slowReport) != fmt.Sprint(quickReport) {
				t.Errorf("%v, %+v\nquickly %v, %+v", slowErr, slowReport, quickErr, quickReport)
			}
			if slowErr == nil && (slow.Pin() != quick.Pin() || slow.members.List().Number != quick.members.List().Number) {
				t.Errorf("%+v, quickly %+v", slow.Pin(), quick.Pin())
			}
		})
	}
}
