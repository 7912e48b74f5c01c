package ledger

import (
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A store has a bad block for a while. Whoever has read that reads well once it is mended.
func TestWhatWasReadWrongIsReadAnew(t *testing.T) {
	for _, tt := range []struct {
		name string
		src  func(*Ledger) Source
	}{
		{"from a store", (*Ledger).Source},
		{"from two", func(l *Ledger) Source { return Sources(l.Source(), newStoreSource(l.Store())) }},
		{"beside packs that are not stored yet", func(l *Ledger) Source { return withPacks(l.Source(), []Pack{{}}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStory(t)
			l := s.commit(s.found("alice", "bob"), "alice", newKey("db"))
			l = s.opened(Trust{Pins: []Pin{l.Pin()}})
			path := blob.PackPath(l.Trie().At.Pack)
			good := must(s.store.Get(t.Context(), path))
			bad := append([]byte{}, good...)
			bad[len(bad)-1] ^= 1
			src := tt.src(l)

			s.replace(path, bad)
			_, _, err := l.Trie().Get(t.Context(), src, "db")
			s.refused(err, blob.ErrIntegrity)
			s.replace(path, good)
			if _, ok, err := l.Trie().Get(t.Context(), src, "db"); !ok || err != nil {
				t.Fatal(err)
			}
		})
	}
}
