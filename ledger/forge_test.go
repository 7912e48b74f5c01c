package ledger

import (
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A forgery is a checkpoint that somebody makes without asking this package.
type forgery struct {
	by         string
	p          Proposal
	draft      func(*draft)
	checkpoint func(*blob.Checkpoint)
	step       func(*transition)
	nowhere    bool // not put into its slot
}

// forge puts a forgery on top of a head, and everything that it refers to, and returns its
// point.
func (s *story) forge(l *Ledger, f forgery) Point {
	s.Helper()
	l, err := l.Refresh(s.Context(), true)
	s.ok(err)
	d, _, err := l.draft(s.Context(), f.p, s.tick())
	s.ok(err)
	if d == nil {
		d = &draft{trie: l.Trie(), now: s.now}
	}
	if f.draft != nil {
		f.draft(d)
	}
	return s.forgeDraft(*l.state, d, f)
}

func (s *story) forgeDraft(after ledgerState, d *draft, f forgery) Point {
	s.Helper()
	c, step, err := d.step(after)
	s.ok(err)
	c.Nonce, _ = s.nonce()
	if f.step != nil {
		f.step(&step)
	}
	if f.checkpoint != nil {
		f.checkpoint(&c)
	}
	v, err := blob.SignCheckpoint(c, who(f.by).signer(), s.now)
	s.ok(err)
	objects := []object{{blob.ChangesPath(c.Changes), step.Changes}, {blob.CheckpointPath(v.Digest()), v.Bytes()}}
	if step.Members != nil {
		objects = append(objects, object{blob.MembersPath(c.List.Digest), step.Members})
	}
	for _, p := range d.packs {
		objects = append(objects, object{blob.PackPath(p.ID), p.Data})
	}
	if !f.nowhere {
		objects = append(objects, object{blob.SlotPath(c.Number), v.Bytes()})
	}
	for _, o := range objects {
		if err := s.store.Put(s.Context(), o.path, o.data); err != nil && !errors.Is(err, blob.ErrExists) {
			s.Fatal(err)
		}
	}
	return Point{c.Number, v.Digest()}
}

// TestWhoMaySignWhat has a keyring of the owners alice and bob, with the authority vault,
// from which alice has removed carol; on top of that comes one checkpoint. Readers know what
// a signature and the lists of members tell them, writers check everything.
func TestWhoMaySignWhat(t *testing.T) {
	anyKey := Proposal{Edits: []Edit{newKey("web")}}
	twice := func(c *blob.Checkpoint) { c.List.Number++ }
	for _, tt := range []struct {
		name           string
		f              forgery
		reader, writer error
	}{
		{"an owner changes a key", forgery{by: "bob", p: anyKey}, nil, nil},
		{"an owner changes nothing", forgery{by: "bob"}, nil, nil},
		{"a stranger changes a key", forgery{by: "mallory", p: anyKey}, blob.ErrUntrusted, blob.ErrUntrusted},
		{"a former owner changes a key", forgery{by: "carol", p: anyKey}, blob.ErrUntrusted, blob.ErrUntrusted},
		{"a former owner goes by the list that had it", forgery{by: "carol", p: anyKey, checkpoint: func(c *blob.Checkpoint) {
			c.List = listOne
		}}, ErrIllegal, ErrIllegal},
		{"an authority changes a key", forgery{by: "vault", p: anyKey}, blob.ErrUntrusted, blob.ErrUntrusted},
		{"an authority changes nothing", forgery{by: "vault"}, blob.ErrUntrusted, blob.ErrUntrusted},

		{"an owner adds a member", forgery{by: "bob", p: Proposal{List: listOf(nil, "alice", "bob", "vault", "carol")}}, nil, nil},
		{"an owner removes itself", forgery{by: "bob", p: Proposal{List: listOf(nil, "alice", "vault")}}, nil, nil},
		{"a stranger adds itself", forgery{by: "mallory", p: Proposal{List: listOf(nil, "alice", "bob", "vault", "mallory")}}, blob.ErrUntrusted, blob.ErrUntrusted},
		{"a former owner adds itself again", forgery{by: "carol", p: Proposal{List: listOf(nil, "alice", "bob", "vault", "carol")}}, blob.ErrUntrusted, blob.ErrUntrusted},
		{"an authority adds an owner", forgery{by: "vault", p: Proposal{List: listOf(nil, "alice", "bob", "vault", "mallory")}}, blob.ErrUntrusted, blob.ErrUntrusted},

		{"an authority recovers", forgery{by: "vault", p: Proposal{List: listOf(from("bob"), "alice", "carol", "vault")}}, nil, nil},
		{"an owner recovers", forgery{by: "alice", p: Proposal{List: listOf(from("bob"), "alice", "carol", "vault")}}, blob.ErrUntrusted, blob.ErrUntrusted},
		{"a stranger recovers", forgery{by: "mallory", p: Proposal{List: listOf(from("bob"), "alice", "mallory", "vault")}}, blob.ErrUntrusted, blob.ErrUntrusted},
		{"an authority recovers and changes a key", forgery{by: "vault", p: Proposal{Edits: anyKey.Edits, List: listOf(from("bob"), "alice", "carol", "vault")}}, ErrIllegal, ErrIllegal},
		{"an authority recovers with a root of its own, and does not say so", forgery{by: "vault", p: Proposal{Edits: anyKey.Edits, List: listOf(from("bob"), "alice", "carol", "vault")},
			draft: func(d *draft) { d.changes = nil }}, ErrIllegal, ErrIllegal},
		{"an authority recovers and moves the root", forgery{by: "vault", p: Proposal{List: listOf(from("bob"), "alice", "carol", "vault")},
			checkpoint: func(c *blob.Checkpoint) { c.RootAt.Offset++ }}, ErrIllegal, ErrIllegal},
		{"an authority recovers and records what did not happen", forgery{by: "vault", p: Proposal{List: listOf(from("bob"), "alice", "carol", "vault")},
			draft: func(d *draft) { d.changes = []Change{{Op: Compact}} }}, nil, ErrIllegal},
		{"an authority recovers from a stranger", forgery{by: "vault", p: Proposal{List: listOf(from("mallory"), "alice", "bob", "carol", "vault")}}, ErrIllegal, ErrIllegal},
		{"an authority recovers to two", forgery{by: "vault", p: Proposal{List: listOf(from("bob"), "alice", "carol", "mallory", "vault")}}, ErrIllegal, ErrIllegal},
		{"an authority recovers to none", forgery{by: "vault", p: Proposal{List: listOf(from("bob"), "alice", "vault")}}, ErrIllegal, ErrIllegal},
		{"an authority recovers and removes another owner", forgery{by: "vault", p: Proposal{List: listOf(from("bob"), "carol", "vault")}}, ErrIllegal, ErrIllegal},
		{"an authority recovers and brings in an authority", forgery{by: "vault", p: Proposal{List: listOf(from("bob"), "alice", "safe", "vault")}}, ErrIllegal, ErrIllegal},
		{"an authority recovers from itself", forgery{by: "vault", p: Proposal{List: listOf(from("vault"), "alice", "bob", "carol")}}, ErrIllegal, ErrIllegal},

		{"the list is skipped", forgery{by: "bob", p: Proposal{List: listOf(nil, "alice", "bob", "vault")}, draft: func(d *draft) { d.list.Number++ }}, blob.ErrIntegrity, ErrIllegal},
		{"the list follows another", forgery{by: "bob", p: Proposal{List: listOf(nil, "alice", "bob", "vault")}, draft: func(d *draft) { d.list.Previous[0] ^= 1 }}, blob.ErrIntegrity, ErrIllegal},
		{"the list is of another keyring", forgery{by: "bob", p: Proposal{List: listOf(nil, "alice", "bob", "vault")}, draft: func(d *draft) { d.list.KeyringID[0] ^= 1 },
			checkpoint: func(c *blob.Checkpoint) { c.KeyringID = keyringID }}, blob.ErrIntegrity, ErrIllegal},
		{"the list has another number", forgery{by: "bob", p: Proposal{List: listOf(nil, "alice", "bob", "vault")}, checkpoint: twice}, blob.ErrIntegrity, ErrIllegal},
		{"the list is another one, which nobody introduces", forgery{by: "bob", p: Proposal{List: listOf(nil, "alice", "bob", "vault")}, checkpoint: func(c *blob.Checkpoint) {
			c.List.Introduced--
		}}, ErrIllegal, ErrIllegal},
		{"the list is the same one, introduced again", forgery{by: "bob", checkpoint: func(c *blob.Checkpoint) { c.List.Introduced = c.Number }}, ErrIllegal, blob.ErrIntegrity},
		{"the list was introduced by another", forgery{by: "bob", p: Proposal{List: listOf(nil, "alice", "bob", "vault")}, checkpoint: func(c *blob.Checkpoint) {
			c.List.Introduced = 2
		}}, ErrIllegal, ErrIllegal},
		{"the list was introduced earlier", forgery{by: "bob", checkpoint: func(c *blob.Checkpoint) { c.List.Introduced-- }}, ErrIllegal, ErrIllegal},
		{"the list is from before", forgery{by: "bob", checkpoint: func(c *blob.Checkpoint) { c.List = listOne }}, ErrIllegal, ErrIllegal},

		{"of another keyring", forgery{by: "bob", p: anyKey, checkpoint: func(c *blob.Checkpoint) { c.KeyringID[0] ^= 1 }}, blob.ErrMisplaced, blob.ErrMisplaced},
		{"with another number", forgery{by: "bob", p: anyKey, checkpoint: func(c *blob.Checkpoint) { c.Number++ }}, nil, blob.ErrMisplaced}, // slot 5 stays empty
		{"after another one", forgery{by: "bob", p: anyKey, checkpoint: func(c *blob.Checkpoint) { c.Previous[0] ^= 1 }}, ErrFork, blob.ErrIntegrity},
		{"with another log", forgery{by: "bob", p: anyKey, checkpoint: func(c *blob.Checkpoint) { c.Log[0] ^= 1 }}, nil, ErrIllegal},
		{"adds other hashes to the log", otherLog(func(r *Record) { r.Log[0][0] ^= 1 }), nil, ErrIllegal},
		{"adds more hashes to the log", otherLog(func(r *Record) { r.Log = append(r.Log, Digest{1}) }), nil, ErrIllegal},
		{"adds no hashes to the log", otherLog(func(r *Record) { r.Log = nil }), nil, ErrIllegal},
		{"years ahead", forgery{by: "bob", draft: func(d *draft) { d.now = d.now.AddDate(9, 0, 0) }}, nil, nil},

		{"changes a key and does not say so", forgery{by: "bob", p: anyKey, draft: func(d *draft) { d.changes = nil }}, nil, ErrIllegal},
		{"says what it does not do", forgery{by: "bob", draft: func(d *draft) { d.changes = []Change{{Op: Create, Name: "web", Version: 1}} }}, nil, ErrIllegal},
		{"says another thing", forgery{by: "bob", p: anyKey, draft: func(d *draft) { d.changes[0].Op = Rotate }}, nil, ErrIllegal},
		{"has another root", forgery{by: "bob", p: anyKey, checkpoint: func(c *blob.Checkpoint) { c.Root[0] ^= 1 }}, nil, blob.ErrIntegrity},
		{"has another count", forgery{by: "bob", p: anyKey, checkpoint: func(c *blob.Checkpoint) { c.Keys++ }}, nil, blob.ErrIntegrity},
		{"has no keys any more", forgery{by: "bob", checkpoint: func(c *blob.Checkpoint) { c.Root, c.RootAt, c.Keys = emptyTrie().Root, emptyTrie().At, 0 }}, nil, ErrIllegal},
		{"has another record", forgery{by: "bob", p: anyKey, step: func(step *transition) { step.Changes = must(MarshalRecord(Record{})) }}, nil, blob.ErrIntegrity},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, l := fourSteps(t)
			listOne = l.members.refOne()
			at := s.forge(l, tt.f)
			if _, _, err := s.open(l.Pin()); !errors.Is(err, tt.reader) {
				t.Errorf("reader: %v, want %v", err, tt.reader)
			}
			r := newObjects(s.store)
			c, err := r.checkpoint(s.Context(), at)
			s.ok(err)
			step, err := r.step(s.Context(), c, l.source)
			if err == nil {
				_, err = l.state.apply(s.Context(), step)
			}
			if !errors.Is(err, tt.writer) {
				t.Errorf("step: %v, want %v", err, tt.writer)
			}
			_, _, err = Open(s.Context(), s.store, Trust{Pins: []Pin{l.Pin()}, Write: true})
			if (err != nil) != (tt.writer != nil) || err != nil && !errors.Is(err, blob.ErrIntegrity) {
				t.Errorf("writer: %v, want %v", err, tt.writer)
			}
		})
	}
}

// otherLog changes the record of a checkpoint before that is signed.
func otherLog(f func(*Record)) forgery {
	var changes []byte
	return forgery{by: "bob", step: func(step *transition) {
		r := must(ParseRecord(step.Changes))
		f(&r)
		step.Changes = must(MarshalRecord(r))
		changes = step.Changes
	}, checkpoint: func(c *blob.Checkpoint) { c.Changes = sha256.Sum256(changes) }}
}

// listOne is what checkpoints 1 and 2 of fourSteps say of their list.
var listOne blob.ListRef

func (m *Members) refOne() (r blob.ListRef) {
	copy(r.Digest[:], m.lists[1].Previous)
	r.Number, r.Introduced = 1, 1
	return r
}

// fourSteps is a keyring at checkpoint 4: carol was an owner until checkpoint 3.
func fourSteps(t *testing.T) (*story, *Ledger) {
	s := newStory(t)
	l := s.found("alice", "bob", "carol", "vault")
	l = s.commit(l, "carol", newKey("db"))
	l = s.change(l, "alice", "alice", "bob", "vault")
	return s, s.commit(l, "bob", newKey("db"))
}
