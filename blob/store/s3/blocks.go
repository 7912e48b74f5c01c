package s3

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
)

const (
	// blockSize is the unit in which packs are read. A request costs more than the transfer of a
	// block, and the nodes of a subtree are stored together, so later reads often need the same one.
	blockSize = 512 << 10

	// overlap is how far each block extends into the next, so that a node on the boundary takes one
	// request, not two.
	overlap = 32 << 10

	// mostBlocks limits the memory for blocks to 68 MiB.
	mostBlocks = 128
)

// blocks caches blocks of packs in memory, and optionally on disk.
type blocks struct {
	store *Store
	disk  *cache // nil for none

	mu     sync.Mutex
	blocks map[blockID]*list.Element // of *block
	used   list.List                 // most recently used first
	forgot int                       // how often blocks were dropped
}

type blockID struct {
	path  string
	index int64
}

// A block holds part of a pack. Its data and err are valid once done is closed.
type block struct {
	blockID
	done chan struct{}
	data []byte // shorter than blockSize+overlap at the end of the pack
	err  error
}

func newBlocks(s *Store) *blocks {
	b := &blocks{store: s, blocks: map[blockID]*list.Element{}}
	if s.options.Cache != "" {
		b.disk = &cache{dir: s.options.Cache, of: s.place.String()}
	}
	return b
}

// GetRange implements [blob.Store].
func (s *Store) GetRange(ctx context.Context, path string, offset int64, length int) ([]byte, error) {
	if err := check(ctx, "read", path); err != nil {
		return nil, err
	}
	err := blob.ValidRange(path, offset, length)
	if err != nil {
		return nil, inPath("read", path, err)
	}
	end := offset + int64(length)
	first := offset / blockSize
	if data := s.blocks.tail(path, first-1); int64(len(data)) >= end-(first-1)*blockSize {
		return slices.Clone(data[offset-(first-1)*blockSize:][:length]), nil
	}
	last := first + max(end-first*blockSize-overlap-1, 0)/blockSize
	out := make([]byte, 0, length)
	for i := first; i <= last; i++ {
		data, err := s.blocks.get(ctx, blockID{path, i})
		if err != nil {
			return nil, inPath("read", path, err)
		}
		from, to := max(offset-i*blockSize, 0), end-i*blockSize
		if i < last {
			to = blockSize
		}
		if int64(len(data)) < to {
			return nil, inPath("read", path, fmt.Errorf("%w: it has %d bytes", blob.ErrShort, i*blockSize+int64(len(data))))
		}
		out = append(out, data[from:to]...)
	}
	return out, nil
}

// Requests implements [blob.Remote].
func (s *Store) Requests() int { return s.options.Requests }

// get returns a block. It reads the block unless it is cached or another goroutine is reading it.
func (b *blocks) get(ctx context.Context, id blockID) ([]byte, error) {
	for {
		one, mine := b.claim(id)
		if mine {
			b.read(ctx, one)
			return one.data, one.err
		}
		select {
		case <-one.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !errors.Is(one.err, context.Canceled) && !errors.Is(one.err, context.DeadlineExceeded) {
			return one.data, one.err
		}
		// The other goroutine's context was done: try again with this one.
	}
}

// tail returns the data of a block that has been read, or nil.
func (b *blocks) tail(path string, index int64) []byte {
	b.mu.Lock()
	el := b.blocks[blockID{path, index}]
	b.mu.Unlock()
	if el == nil {
		return nil
	}
	one := el.Value.(*block)
	select {
	case <-one.done:
		return one.data
	default:
		return nil
	}
}

// claim returns a block and reports whether the caller must read it.
func (b *blocks) claim(id blockID) (one *block, mine bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if el := b.blocks[id]; el != nil {
		b.used.MoveToFront(el)
		return el.Value.(*block), false
	}
	one = &block{blockID: id, done: make(chan struct{})}
	b.blocks[id] = b.used.PushFront(one)
	for len(b.blocks) > mostBlocks {
		b.remove(b.used.Back())
	}
	return one, true
}

// read reads a claimed block, and drops it from the cache if that fails.
func (b *blocks) read(ctx context.Context, one *block) {
	defer close(one.done)
	b.mu.Lock()
	forgot := b.forgot
	b.mu.Unlock()
	name := fmt.Sprintf("%s#%d", one.path, one.index)
	if b.disk != nil {
		if data, ok := b.disk.get(name); ok {
			one.data = data
			return
		}
	}
	one.data, one.err = b.store.getPart(ctx, one.path, one.index*blockSize, blockSize+overlap)
	b.mu.Lock()
	defer b.mu.Unlock()
	if one.err == nil && forgot == b.forgot {
		if b.disk != nil && len(one.data) > 0 {
			b.disk.put(name, one.data)
		}
		return
	}
	if el := b.blocks[one.blockID]; el != nil && el.Value == one {
		b.remove(el)
	}
}

func (b *blocks) remove(el *list.Element) {
	delete(b.blocks, b.used.Remove(el).(*block).blockID)
}

// drop removes an object from memory and from the disk cache.
func (b *blocks) drop(path string) {
	if b.disk != nil {
		b.disk.drop(path)
		for i := 0; i*blockSize < blob.MaxSizeOf(path); i++ {
			b.disk.drop(fmt.Sprintf("%s#%d", path, i))
		}
	}
	b.forget(func(id blockID) bool { return id.path == path })
}

func (b *blocks) forget(which func(blockID) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgot++ // also for what is being read
	for id, el := range b.blocks {
		if !which(id) {
			continue
		}
		b.remove(el)
		if b.disk != nil {
			b.disk.drop(fmt.Sprintf("%s#%d", id.path, id.index))
		}
	}
}

// Forget implements [blob.Forgetter]. It drops all cached blocks.
func (s *Store) Forget() { s.blocks.forget(func(blockID) bool { return true }) }

// object returns an object from the disk cache if its digest matches the path.
func (b *blocks) object(path string) ([]byte, bool) {
	if b.disk == nil || !kept(path) {
		return nil, false
	}
	data, ok := b.disk.get(path)
	return data, ok && blob.HasDigest(path, data)
}

// keepObject adds an object to the disk cache if it is of a cached kind and its digest matches the path.
func (b *blocks) keepObject(path string, data []byte) {
	if b.disk != nil && kept(path) && blob.HasDigest(path, data) {
		b.disk.put(path, data)
	}
}

// kept reports whether the object at a path may be cached on disk: lists of members and records of changes may.
// Slots, checkpoints and key blobs must always come from the store, because their absence is evidence: a cached
// copy would hide that the store was set back or that a blob was deleted.
func kept(path string) bool {
	return strings.HasPrefix(path, blob.MembersPrefix) || strings.HasPrefix(path, blob.ChangesPrefix)
}
