package ledger

import (
	"container/list"
	"context"
	"fmt"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A rangeReader is the part of a store of objects that nodes are read from. Less than
// length bytes are an error.
type rangeReader interface {
	GetRange(ctx context.Context, path string, offset int64, length int) ([]byte, error)
}

// packPath returns the path of a pack.
func packPath(id blob.PackID) string { return fmt.Sprintf("packs/%x.pack", id) }

// newStoreSource returns a source of the nodes in the packs of a store. It is safe for
// concurrent use, and keeps at most about 16 MiB.
//
// It reads pages of 8 KiB and keeps those that were used last. In a walk, where one page
// after the other is near the one before, as the nodes of a subtree that were written at
// once lie together, it reads 512 KiB ahead.
func newStoreSource(store rangeReader) Source {
	return &storeSource{store: store, pages: map[pageID]*list.Element{}, extents: map[blob.PackID]extent{}}
}

const (
	pageSize     = 8 << 10
	ahead        = 64 // pages
	near         = 4  // pages
	walking      = 3  // pages near each other; a look-up reads at most the last two nodes so
	cacheSize    = 16 << 20
	pageOverhead = 256     // what a page takes beside its bytes
	maxExtents   = 1 << 14 // packs of which an extent is known
)

type storeSource struct {
	store rangeReader

	mu      sync.Mutex
	pages   map[pageID]*list.Element // of *page
	used    list.List                // the page used last is the first
	bytes   int
	extents map[blob.PackID]extent
}

// An extent is what is known of a pack.
type extent struct {
	end  int // bytes that it has at least. A node comes after those below it, so that this is enough to read ahead
	last int // the page that was read last
	near int // pages in a row that were read near the one before
}

// read notes that a page is read, and returns how many to read.
func (x *extent) read(index int) int {
	if x.end > 0 && index-near <= x.last && x.last <= index+near {
		x.near++
	} else {
		x.near = 0
	}
	if x.last = index; x.near < walking {
		return 1
	}
	return ahead
}

// A forgetter is a source that keeps what it has read.
type forgetter interface{ forget() }

// forget makes a source read everything again after a node did not have its digest: a store that
// was wrong for a while must not stay wrong. Hints and the lengths of packs that were read before,
// which no digest covers, may be wrong as well.
func forget(src Source) {
	if f, ok := src.(forgetter); ok {
		f.forget()
	}
}

func (s *storeSource) forget() {
	if f, ok := s.store.(blob.Forgetter); ok {
		f.Forget()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.pages)
	clear(s.extents)
	s.used.Init()
	s.bytes = 0
}

// sideBySide returns the number of nodes to read concurrently from a source.
func sideBySide(src Source) int {
	if s, ok := src.(*storeSource); ok {
		if far, ok := s.store.(blob.Remote); ok {
			return far.Requests()
		}
	}
	return 1
}

type pageID struct {
	pack  blob.PackID
	index int
}

type page struct {
	pageID
	data []byte
}

// Node returns what lies at a hint.
func (s *storeSource) Node(ctx context.Context, _ Digest, at blob.Hint) ([]byte, error) {
	end := at.Offset + at.Length
	first, last := at.Offset/pageSize, (end-1)/pageSize
	var out []byte
	for i := first; i <= last; i++ {
		from := i * pageSize
		p, err := s.page(ctx, pageID{at.Pack, i}, min(end, from+pageSize))
		if err != nil {
			return nil, err
		}
		p = p[max(at.Offset-from, 0):min(end-from, pageSize)]
		if first == last {
			return p[:len(p):len(p)], nil
		}
		out = append(out, p...)
	}
	return out, nil
}

// page returns a page that reaches up to end.
func (s *storeSource) page(ctx context.Context, id pageID, end int) ([]byte, error) {
	data, to := s.cached(id, end)
	if data != nil {
		return data, nil
	}
	from := id.index * pageSize
	data, err := s.store.GetRange(ctx, packPath(id.pack), int64(from), to-from)
	if err != nil {
		return nil, missing(err)
	}
	if len(data) != to-from {
		return nil, fmt.Errorf("pack %x: %d bytes from %d, not %d: %w", id.pack, len(data), from, to-from, blob.ErrMisplaced)
	}
	return s.keep(id, data), nil
}

// cached returns a page that reaches up to end, or else how far to read from its start.
func (s *storeSource) cached(id pageID, end int) (data []byte, to int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := id.index * pageSize
	if el := s.pages[id]; el != nil {
		if p := el.Value.(*page); from+len(p.data) >= end {
			s.used.MoveToFront(el)
			return p.data, 0
		}
	}
	if len(s.extents) >= maxExtents {
		clear(s.extents)
	}
	x := s.extents[id.pack]
	to = max(end, min(x.end, from+x.read(id.index)*pageSize))
	s.extents[id.pack] = x
	return nil, to
}

// keep stores what was read as pages in the cache, and returns the first.
func (s *storeSource) keep(id pageID, data []byte) (first []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.extents[id.pack]
	x.end = max(x.end, id.index*pageSize+len(data))
	for len(data) > 0 {
		n := min(len(data), pageSize)
		p := data[:n]
		if n < len(data) || first != nil { // a page of many goes without the others
			p = append([]byte(nil), p...)
		}
		if first == nil {
			first = p
		}
		s.add(&page{id, p})
		x.last = id.index
		data, id.index = data[n:], id.index+1
	}
	s.extents[id.pack] = x
	return first
}

func (s *storeSource) add(p *page) {
	if el := s.pages[p.pageID]; el != nil {
		s.drop(el)
	}
	s.pages[p.pageID] = s.used.PushFront(p)
	s.bytes += len(p.data) + pageOverhead
	for s.bytes > cacheSize {
		s.drop(s.used.Back())
	}
}

func (s *storeSource) drop(el *list.Element) {
	p := s.used.Remove(el).(*page)
	delete(s.pages, p.pageID)
	s.bytes -= len(p.data) + pageOverhead
}
