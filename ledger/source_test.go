package ledger

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// counting counts the nodes that are read.
type counting struct {
	Source
	reads int
}

func (c *counting) Node(ctx context.Context, digest Digest, at blob.Hint) ([]byte, error) {
	c.reads++
	return c.Source.Node(ctx, digest, at)
}

// last returns the error that ends a sequence.
func last[T any](seq iter.Seq2[T, error]) (err error) {
	for _, err = range seq {
	}
	return err
}

// ranges counts what is read of a store.
type ranges struct {
	packs
	mu           sync.Mutex
	reads, bytes int
}

func (r *ranges) GetRange(ctx context.Context, path string, offset int64, length int) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	r.bytes += length
	return r.packs.GetRange(ctx, path, offset, length)
}

func TestAWalkReadsAhead(t *testing.T) {
	store := &ranges{packs: packs{}}
	tr := store.update(t, emptyTrie(), manyKeys(100_000)...)
	src := newStoreSource(store)
	if err := last(tr.All(t.Context(), src)); err != nil {
		t.Fatal(err)
	}
	if size := store.size(); store.bytes > size*11/10 || store.reads > size/(64<<10) {
		t.Errorf("a walk over %d bytes reads %d times, %d bytes", size, store.reads, store.bytes)
	}

	store.reads, store.bytes = 0, 0
	src = newStoreSource(store)
	for i := range 100 {
		if _, ok, err := tr.Get(t.Context(), src, fmt.Sprintf("key-%06d", i)); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if store.reads > 500 || store.bytes > 100*5*pageSize {
		t.Errorf("100 look-ups read %d times, %d bytes", store.reads, store.bytes)
	}
}

// checkBounded checks that a source keeps what it may, and not more.
func checkBounded(t *testing.T, src Source) {
	t.Helper()
	s := src.(*storeSource)
	kept := 0
	for _, el := range s.pages {
		kept += cap(el.Value.(*page).data) + pageOverhead
	}
	if kept > cacheSize*11/10 || kept < cacheSize/2 || len(s.pages) != s.used.Len() {
		t.Errorf("%d bytes are kept, in %d pages", kept, len(s.pages))
	}
}

func TestASourceIsReadByMany(t *testing.T) {
	store, tr := grown(t)
	src := newStoreSource(store)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := readAll(src, tr); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// A hint beyond the end of a pack finds nothing, and spoils nothing.
func TestAHintBeyondTheEnd(t *testing.T) {
	store := packs{}
	tr := store.update(t, emptyTrie(), manyKeys(100)...)
	src := newStoreSource(store)
	bad := tr
	for _, at := range []blob.Hint{
		{Pack: tr.At.Pack, Offset: tr.At.Offset, Length: tr.At.Length + 1},
		{Pack: tr.At.Pack, Offset: maxPack - maxNode, Length: maxNode},
		{Pack: tr.At.Pack, Offset: tr.At.Offset, Length: tr.At.Length - 1},
		{Pack: tr.At.Pack, Offset: tr.At.Offset - 1, Length: tr.At.Length},
		{Pack: tr.At.Pack, Offset: -1, Length: tr.At.Length},
		{Pack: tr.At.Pack, Offset: tr.At.Offset, Length: maxNode + 1},
		{Pack: tr.At.Pack},
	} {
		bad.At = at
		if err := last(bad.All(t.Context(), src)); !errors.Is(err, blob.ErrIntegrity) {
			t.Errorf("%v: %v", at, err)
		}
	}
	if err := last(tr.All(t.Context(), src)); err != nil {
		t.Error(err)
	}
}

// A hint that leads to a node of another trie, or to another node of the same, is of no use.
func TestAHintToAnotherNode(t *testing.T) {
	store := packs{}
	tr := store.update(t, emptyTrie(), manyKeys(20)...)
	other := store.update(t, emptyTrie(), key("other", 1))
	child := store.update(t, tr, manyKeys(100)...)
	for _, at := range []blob.Hint{other.At, child.At} {
		bad := tr
		bad.At = at
		if err := last(bad.All(t.Context(), newStoreSource(store))); !errors.Is(err, blob.ErrMisplaced) {
			t.Errorf("%v: %v", at, err)
		}
	}
}

func TestAWalkEndsWhenItsContextDoes(t *testing.T) {
	store, tr := grown(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for _, err := range tr.All(ctx, newStoreSource(store)) {
		if n++; n == 1 {
			cancel()
		}
		if n > 1+maxLeaf && err == nil {
			t.Fatal("goes on")
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// remote is a store that is far away, and counts how many read at a time.
type remote struct {
	packs
	now, most atomic.Int64
}

func (r *remote) Requests() int { return 8 }

func (r *remote) GetRange(ctx context.Context, path string, offset int64, length int) ([]byte, error) {
	if now := r.now.Add(1); now > r.most.Load() {
		r.most.Store(now)
	}
	defer r.now.Add(-1)
	time.Sleep(time.Millisecond)
	return r.packs.GetRange(ctx, path, offset, length)
}

// What is far away is read side by side: the same entries in the same order, and the first error.
func TestAWalkFarAway(t *testing.T) {
	store := &remote{packs: packs{}}
	for _, keys := range []int{0, 1, 20, 300, 5_000} {
		tr := store.update(t, emptyTrie(), manyKeys(keys)...)
		var near, far []string
		for src, names := range map[Source]*[]string{newStoreSource(store.packs): &near, newStoreSource(store): &far} {
			for e, err := range tr.All(t.Context(), src) {
				if err != nil {
					t.Fatal(err)
				}
				*names = append(*names, e.Name)
			}
		}
		if !slices.Equal(near, far) || len(far) != keys {
			t.Errorf("%d keys near, %d far away, of %d", len(near), len(far), keys)
		}
		n := 0
		for range tr.All(t.Context(), newStoreSource(store)) {
			if n++; n > keys/2 {
				break
			}
		}
		if store.now.Load() != 0 {
			t.Error("something is read when nobody waits for it")
		}
	}
	if most := store.most.Load(); most < 4 || most > 8 {
		t.Errorf("%d reads at a time", most)
	}
	tr := store.update(t, emptyTrie(), manyKeys(5_000)...)
	for path := range store.packs {
		delete(store.packs, path)
	}
	if err := last(tr.All(t.Context(), newStoreSource(store))); !errors.Is(err, ErrIncomplete) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := last(tr.All(ctx, newStoreSource(store))); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
