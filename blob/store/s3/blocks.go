package s3

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
)

const (
	// blockSize is what is read of a pack at once: to ask costs more than to be sent so much, and the
	// nodes of a subtree lie together, so that the next ones are often in it.
	blockSize = 512 << 10

	// overlap is how much of the next block a block has as well, lest a node that lies in both cost two
	// requests.
	overlap = 32 << 10

	// mostBlocks bounds the memory that blocks take, to 68 MiB.
	mostBlocks = 128

	// mostAhead is how many blocks are read ahead at a time.
	mostAhead = 16
)

// blocks keeps parts of packs in memory, and in a cache on disk if there is one.
type blocks struct {
	store *Store
	disk  *cache        // nil for none
	ahead chan struct{} // one for each block that is read ahead

	ctx   context.Context // of reading ahead
	stop  context.CancelFunc
	going sync.WaitGroup

	mu     sync.Mutex
	blocks map[blockID]*list.Element // of *block
	used   list.List                 // the block used last is the first
}

type blockID struct {
	path  string
	index int64
}

// A block is being read until done is closed.
type block struct {
	blockID
	done chan struct{}
	data []byte // shorter than blockSize and overlap where the pack ends
	err  error
}

func newBlocks(s *Store) *blocks {
	b := &blocks{store: s, ahead: make(chan struct{}, mostAhead), blocks: map[blockID]*list.Element{}}
	b.ctx, b.stop = context.WithCancel(context.Background())
	if s.options.Cache != "" {
		b.disk = &cache{dir: s.options.Cache, of: s.place.String()}
	}
	return b
}

// close ends what is read ahead.
func (b *blocks) close() error {
	b.stop()
	b.going.Wait()
	return nil
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
	s.prefetch(path, first+1, last)
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

func (s *Store) prefetch(path string, first, last int64) {
	for i := first; i <= last; i++ {
		s.blocks.readAhead(blockID{path, i})
	}
}

// get returns a block, and reads it unless that was done or somebody else is about to.
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
		if one.err == nil {
			return one.data, nil
		}
		// It may have failed because of what was to be done for somebody else.
	}
}

// readAhead begins to read a block that nobody has asked for yet, if there is time for that.
func (b *blocks) readAhead(id blockID) {
	select {
	case b.ahead <- struct{}{}:
	default:
		return
	}
	one, mine := b.claim(id)
	if !mine || b.ctx.Err() != nil {
		<-b.ahead
		return
	}
	b.going.Go(func() {
		defer func() { <-b.ahead }()
		b.read(b.ctx, one)
	})
}

// tail returns a block if it was read, and else nothing.
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

// claim returns a block, and whether the caller has to read it.
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

// read reads a block. One that could not be read is not kept.
func (b *blocks) read(ctx context.Context, one *block) {
	defer close(one.done)
	name := fmt.Sprintf("%s#%d", one.path, one.index)
	if b.disk != nil {
		if data, ok := b.disk.get(name); ok {
			one.data = data
			return
		}
	}
	one.data, one.err = b.store.getPart(ctx, one.path, one.index*blockSize, blockSize+overlap)
	if one.err == nil {
		if b.disk != nil {
			b.disk.put(name, one.data)
		}
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if el := b.blocks[one.blockID]; el != nil && el.Value == one {
		b.remove(el)
	}
}

func (b *blocks) remove(el *list.Element) {
	delete(b.blocks, b.used.Remove(el).(*block).blockID)
}

// drop forgets an object.
func (b *blocks) drop(path string) {
	if b.disk != nil {
		b.disk.drop(path)
	}
	b.forget(func(id blockID) bool { return id.path == path })
}

func (b *blocks) forget(which func(blockID) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
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

// Forget implements [blob.Forgetter]: what was read of packs is read again.
func (s *Store) Forget() { s.blocks.forget(func(blockID) bool { return true }) }

// object returns an object from the cache, if it has one with the digest that the path says.
func (b *blocks) object(path string) ([]byte, bool) {
	if b.disk == nil || !kept(path) {
		return nil, false
	}
	data, ok := b.disk.get(path)
	return data, ok && blob.HasDigest(path, data)
}

// keepObject puts an object into the cache, if it is one of those that are kept and has the digest
// that its path says.
func (b *blocks) keepObject(path string, data []byte) {
	if b.disk != nil && kept(path) && blob.HasDigest(path, data) {
		b.disk.put(path, data)
	}
}

// kept reports whether objects like that at a path are kept on disk: lists of members and records of changes.
// Which checkpoints the store has says what was done to it, slots say which is the newest, and that a key's
// blob is gone must not be found out last by who has a copy.
func kept(path string) bool {
	return strings.HasPrefix(path, blob.MembersPrefix) || strings.HasPrefix(path, blob.ChangesPrefix)
}
