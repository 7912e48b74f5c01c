package ledger

import (
	"iter"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

// The state machine trusts nothing that comes with a checkpoint.
func TestApplyTakesNothingOnTrust(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice", "bob"), "alice", newKey("db"))
	next := s.propose(l, "bob", Proposal{Edits: []Edit{newKey("db")}, List: listOf(nil, "alice", "bob", "carol")})
	after := s.commit(next, "carol", newKey("web"))
	r := newObjects(s.store)
	good, err := r.step(t.Context(), next.head, l.source)
	s.ok(err)
	later, err := r.step(t.Context(), after.head, l.source)
	s.ok(err)
	first, err := r.slot(t.Context(), 1)
	s.ok(err)
	founding, err := r.step(t.Context(), first, l.source)
	s.ok(err)
	for _, tt := range []struct {
		name string
		from ledgerState
		step func(*transition)
		want error
	}{
		{"the step that it is", *l.state, func(*transition) {}, nil},
		{"another record", *l.state, func(step *transition) { step.Changes = later.Changes }, blob.ErrMisplaced},
		{"no record", *l.state, func(step *transition) { step.Changes = nil }, blob.ErrMisplaced},
		{"another list", *l.state, func(step *transition) { step.Members = founding.Members }, blob.ErrMisplaced},
		{"no list", *l.state, func(step *transition) { step.Members = nil }, blob.ErrMisplaced},
		{"a list that nobody introduces", *next.state, func(step *transition) { *step = later; step.Members = good.Members }, nil}, // is not looked at
		{"no nodes", *l.state, func(step *transition) { step.Source = newStoreSource(newStory(t).store) }, ErrIncomplete},
		{"the step after", *l.state, func(step *transition) { *step = later }, blob.ErrMisplaced},
		{"the first step", *l.state, func(step *transition) { *step = founding }, blob.ErrMisplaced},
		{"a later step first", ledgerState{}, func(*transition) {}, blob.ErrMisplaced},
		{"the first step first", ledgerState{}, func(step *transition) { *step = founding }, nil},
		{"the same step again", *next.state, func(*transition) {}, blob.ErrMisplaced},
	} {
		t.Run(tt.name, func(t *testing.T) {
			step := good
			tt.step(&step)
			_, err := tt.from.apply(t.Context(), step)
			(&story{T: t}).refused(err, tt.want)
		})
	}
}

func TestTheFirstCheckpoint(t *testing.T) {
	list := blob.MemberList{KeyringID: keyringID, Number: 1, Created: day, Members: members("alice", "vault")}
	for _, tt := range []struct {
		name string
		by   string
		d    func(*draft)
		c    func(*blob.Checkpoint)
		want error
	}{
		{"by an owner in it", "alice", nil, nil, nil},
		{"by an authority in it", "vault", nil, nil, blob.ErrUntrusted},
		{"by a stranger", "mallory", nil, nil, blob.ErrUntrusted},
		{"with another log", "alice", nil, func(c *blob.Checkpoint) { c.Log[0] ^= 1 }, ErrIllegal},
		{"with a root", "alice", nil, func(c *blob.Checkpoint) { c.Root[0] ^= 1 }, ErrIllegal},
		{"with keys", "alice", nil, func(c *blob.Checkpoint) { c.Keys = 1 }, ErrIllegal},
		{"with changes", "alice", func(d *draft) { d.changes = []Change{{Op: Compact}} }, nil, ErrIllegal},
		{"with list 2", "alice", func(d *draft) { d.list.Number, d.list.Previous = 2, make([]byte, 32) }, nil, ErrIllegal},
		{"of another keyring than its list", "alice", nil, func(c *blob.Checkpoint) { c.KeyringID[0] ^= 1 }, ErrIllegal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			own := list
			s := newStory(t)
			d := &draft{trie: emptyTrie(), list: &own, now: day}
			if tt.d != nil {
				tt.d(d)
			}
			s.forgeDraft(ledgerState{}, d, forgery{by: tt.by, checkpoint: tt.c})
			r := newObjects(s.store)
			c, err := r.slot(t.Context(), 1)
			s.ok(err)
			step, err := r.step(t.Context(), c, newStoreSource(s.store))
			s.ok(err)
			_, err = ledgerState{}.apply(t.Context(), step)
			s.refused(err, tt.want)
		})
	}
}

// What no trie that this package writes will ever show.
func TestDifferencesThatNobodyWrites(t *testing.T) {
	v1, v2, v9 := version("db", 1), version("db", 2), version("db", 9)
	v2.Changed, v2.ChangedAt = 5, day
	entry := func(all ...Version) *Entry { return &Entry{Name: "db", Versions: all} }
	for name, d := range map[string]Difference{
		"a version is gone":                {entry(v1, v9), entry(v1), []VersionDifference{{&v9, nil}}},
		"a rotation below the newest":      {entry(v1, v9), entry(v1, v2, v9), []VersionDifference{{nil, &v2}}},
		"a name is gone":                   {entry(v1), nil, nil},
		"nothing differs":                  {entry(v1), entry(v1), nil},
		"a version has become another one": {entry(v1), entry(v2), []VersionDifference{{&v1, &v2}}},
	} {
		r := rules{number: 5, at: day, list: 1}
		all := func(yield func(Difference, error) bool) { yield(d, nil) }
		if err := r.check(iter.Seq2[Difference, error](all), []Change{{Op: Rotate, Name: "db", Version: 2}}); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
}
