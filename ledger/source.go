package ledger

import (
	"container/list"
	"context"
	"fmt"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A RangeReader is the part of a store of objects that nodes are read from. Less than
// length bytes are an error.
type RangeReader interface {
	GetRange(ctx context.Context, path string, offset int64, length int) ([]byte, error)
}

// packPath returns the path of a pack.
func packPath(id blob.PackID) string { return fmt.Sprintf("packs/%x.pack", id) }

// StoreSource returns a source of the nodes in the packs of a store. It is safe for
// concurrent use, and keeps at most about 16 MiB.
//
// It reads pages of 64 KiB, as the nodes of a subtree that were written at once lie
// together, and keeps those that were used last.
func StoreSource(store RangeReader) Source {
	return &storeSource{store: store, pages: map[pageID]*list.Element{}, ends: map[blob.PackID]int{}}
}

const (
	pageSize     = 64 << 10
	cacheSize    = 16 << 20
	pageOverhead = 256     // what a page takes beside its bytes
	maxEnds      = 1 << 14 // packs whose size is remembered
)

type storeSource struct {
	store RangeReader

	mu    sync.Mutex
	pages map[pageID]*list.Element // of *page
	used  list.List                // the page used last is the first
	bytes int

	// ends is how many bytes a pack has at least, as far as hints say: a node comes after
	// those below it, so that pages below a subtree are read whole.
	ends map[blob.PackID]int
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
	data, err := s.read(ctx, at)
	if err == nil {
		s.extend(at.Pack, at.Offset+at.Length)
	}
	return data, err
}

func (s *storeSource) read(ctx context.Context, at blob.Hint) ([]byte, error) {
	end := at.Offset + at.Length
	first, last := at.Offset/pageSize, (end-1)/pageSize
	if first == last {
		p, err := s.page(ctx, pageID{at.Pack, first}, end)
		if err != nil {
			return nil, err
		}
		return p[at.Offset%pageSize : end-first*pageSize : end-first*pageSize], nil
	}
	out := make([]byte, 0, at.Length)
	for i := first; i <= last; i++ {
		p, err := s.page(ctx, pageID{at.Pack, i}, min(end, (i+1)*pageSize))
		if err != nil {
			return nil, err
		}
		out = append(out, p[max(at.Offset-i*pageSize, 0):min(end-i*pageSize, pageSize)]...)
	}
	return out, nil
}

func (s *storeSource) extend(pack blob.PackID, end int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ends) >= maxEnds {
		clear(s.ends)
	}
	s.ends[pack] = max(s.ends[pack], end)
}

// page returns a page that reaches up to end.
func (s *storeSource) page(ctx context.Context, id pageID, end int) ([]byte, error) {
	from := id.index * pageSize
	data, to := s.cached(id, end)
	if data != nil {
		return data, nil
	}
	data, err := s.store.GetRange(ctx, packPath(id.pack), int64(from), to-from)
	if err != nil {
		return nil, err
	}
	if len(data) != to-from {
		return nil, fmt.Errorf("pack %x: %d bytes from %d, not %d: %w", id.pack, len(data), from, to-from, blob.ErrMisplaced)
	}
	s.keep(&page{id, data})
	return data, nil
}

// cached returns a page that reaches up to end, or else how far it is to be read.
func (s *storeSource) cached(id pageID, end int) (data []byte, to int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if el := s.pages[id]; el != nil {
		if p := el.Value.(*page); id.index*pageSize+len(p.data) >= end {
			s.used.MoveToFront(el)
			return p.data, 0
		}
	}
	return nil, min(max(end, s.ends[id.pack]), (id.index+1)*pageSize)
}

func (s *storeSource) keep(p *page) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
