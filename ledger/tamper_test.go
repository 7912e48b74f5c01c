package ledger

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Whatever the storage changes in an object, what is opened is the state that was signed, or
// nothing.
func TestEveryObjectIsChanged(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice", "bob", "vault"), "bob", newKey("db"))
	pin := l.Pin()
	l = s.propose(l, "alice", Proposal{Edits: []Edit{rewrap("db", 1), newKey("web")}, List: listOf(nil, "alice", "carol", "vault")})
	l = s.propose(l, "vault", Proposal{List: listOf(from("alice"), "bob", "carol", "vault")})
	want := s.names(l)
	objects := map[string][]byte{}
	for path, err := range s.store.List(t.Context(), "") {
		s.ok(err)
		objects[path] = must(s.store.Get(t.Context(), path))
	}
	refused := 0
	for path, data := range objects {
		for i := 0; i < len(data); i += 3 {
			data[i] ^= 1 << (i % 8)
			s.replace(path, data)
			data[i] ^= 1 << (i % 8)
			got, _, err := Open(t.Context(), s.store, Trust{Pins: []Pin{pin}, Write: i%2 == 0})
			if err == nil && got.At() != l.At() {
				t.Fatalf("%s, byte %d: opened at %v", path, i, got.At())
			}
			if err == nil {
				err = s.reads(got, want)
			}
			if err != nil && !errors.Is(err, blob.ErrIntegrity) {
				t.Fatalf("%s, byte %d: %v", path, i, err)
			}
			if err != nil {
				refused++
			}
		}
		s.replace(path, data)
	}
	if refused < 1000 {
		t.Fatalf("only %d were refused", refused)
	}
}

// reads reads all names.
func (s *story) reads(l *Ledger, want []string) error {
	var got []string
	for e, err := range l.Entries(s.Context(), "") {
		if err != nil {
			return err
		}
		got = append(got, e.Name+"@"+string(rune('0'+e.Current)))
	}
	if !slices.Equal(got, want) {
		s.Fatalf("%v, want %v", got, want)
	}
	return nil
}

// Every object is exchanged for every other of its kind, and for those of another keyring.
func TestObjectsAreExchanged(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice", "bob"), "bob", newKey("db"))
	pin := l.Pin()
	l = s.commit(l, "alice", newKey("db"), newKey("web"))
	want := s.names(l)
	other := newStory(t)
	other.commit(other.commit(other.found("alice", "bob"), "alice", newKey("db")), "bob", newKey("web"))

	for path, err := range s.store.List(t.Context(), "") {
		s.ok(err)
		data := must(s.store.Get(t.Context(), path))
		for from, err := range other.store.List(t.Context(), "") {
			s.ok(err)
			if blob.MaxSizeOf(from) != blob.MaxSizeOf(path) {
				continue
			}
			s.replace(path, must(other.store.Get(t.Context(), from)))
			got, _, err := Open(t.Context(), s.store, Trust{Pins: []Pin{pin}, Write: true})
			if err == nil {
				if err = s.reads(got, want); err == nil && got.At() != l.At() {
					t.Fatalf("%s for %s: opened at %v", from, path, got.At())
				}
			}
			if err != nil && !errors.Is(err, blob.ErrIntegrity) {
				t.Fatalf("%s for %s: %v", from, path, err)
			}
		}
		s.replace(path, data)
	}
}

// An object that cannot be read is no integrity error, and is not passed over.
func TestFaultsInEveryCallOfOpen(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob", "vault")
	pin := l.Pin()
	l = s.propose(l, "vault", Proposal{List: listOf(from("bob"), "alice", "carol", "vault")})
	for range 6 {
		l = s.commit(l, "carol", newKey("db"))
	}
	for call := 0; ; call++ {
		f := &failing{Store: s.store, call: call}
		got, _, err := Open(t.Context(), f, Trust{Pins: []Pin{pin}, Write: true})
		if f.call >= 0 {
			break
		}
		if err == nil && got.At() != l.At() {
			t.Fatalf("call %d: opened at %v", call, got.At())
		}
		if err != nil && !errors.Is(err, errDisk) {
			t.Fatalf("call %d: %v", call, err)
		}
	}
}

// failing fails one read.
type failing struct {
	blob.Store
	call int
}

func (f *failing) Get(ctx context.Context, path string) ([]byte, error) {
	if f.call--; f.call == -1 {
		return nil, errDisk
	}
	return f.Store.Get(ctx, path)
}

// What is missing is not a key that there never was.
func TestAMissingNodeIsNotAMissingKey(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice"), "alice", newKey("db"))
	s.ok(s.store.Delete(t.Context(), blob.PackPath(l.Trie().At.Pack)))
	l = s.opened(Trust{Pins: []Pin{l.Pin()}})
	_, err := l.Entry(t.Context(), "db")
	s.refused(err, ErrIncomplete)
	if errors.Is(err, blob.ErrNotFound) {
		t.Fatal(err)
	}
	s.refused(s.reads(l, nil), ErrIncomplete)
}
