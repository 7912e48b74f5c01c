package ledger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"iter"
	"slices"
	"strings"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Sorted returns the entries whose names start with prefix, sorted by name. It reads all
// of the trie before it returns the first, and keeps them in their encoded form, about
// 100 bytes each. An error ends it.
func (t Trie) Sorted(ctx context.Context, src Source, prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		s := sorter{skip: len(prefix)}
		if prefix == "" {
			s.index = make([]place, 0, min(t.Keys, 1<<20)) // the count is not checked yet
		}
		for e, err := range t.All(ctx, src) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if strings.HasPrefix(e.Name, prefix) {
				s.add(&e)
			}
		}
		s.sort()
		for _, at := range s.index {
			e, err := s.entry(at)
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// chunkSize is how many bytes of entries are allocated at once.
const chunkSize = 1 << 20

// A sorter keeps entries without pointers, of which the garbage collector would have to
// follow millions.
type sorter struct {
	skip   int // bytes that all names have in common
	chunks [][]byte
	index  []place
}

// A place is where an entry is: in a chunk, from an offset. It has the next bytes of the
// name, so that most comparisons need no more.
type place struct {
	head          uint64
	chunk, offset uint32
}

func (s *sorter) add(e *Entry) {
	if n := len(s.chunks); n == 0 || cap(s.chunks[n-1])-len(s.chunks[n-1]) < maxEntry+maxHint {
		s.chunks = append(s.chunks, make([]byte, 0, chunkSize))
	}
	last := len(s.chunks) - 1
	var head [8]byte
	copy(head[:], e.Name[s.skip:])
	s.index = append(s.index, place{binary.BigEndian.Uint64(head[:]), uint32(last), uint32(len(s.chunks[last]))})
	b := appendEntry(s.chunks[last], e)
	if e.Older.Count > 0 {
		b, _ = appendHint(b, nil, e.Older.At)
	}
	s.chunks[last] = b
}

func (s *sorter) name(at place) []byte {
	b := s.chunks[at.chunk][at.offset:]
	length, n := binary.Uvarint(b)
	return b[n : n+int(length)]
}

func (s *sorter) sort() {
	slices.SortFunc(s.index, func(a, b place) int {
		if a.head != b.head {
			return cmp.Compare(a.head, b.head)
		}
		return bytes.Compare(s.name(a), s.name(b))
	})
}

func (s *sorter) entry(at place) (Entry, error) {
	d := &decoder{in: s.chunks[at.chunk][at.offset:]}
	e := d.entry()
	if e.Older.Count > 0 {
		e.Older.At, _ = d.hint([]blob.PackID(nil))
	}
	return e, d.err
}
