package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Copied is what [Copy] has done.
type Copied struct {
	Keyring blob.ID
	Head    Point // the newest checkpoint that both stores have now
	Objects int   // that were copied
	Bytes   int64
	There   int // that the other store had already
}

// copiers is how many objects are copied at a time.
const copiers = 32

// Copy copies the keyring in one store to another, which has none, or an older or newer state of the same
// keyring. It can be interrupted and called again; nothing in the other store is replaced.
//
// Every object is compared with the digest in its name, and the checkpoints are verified: from the newest that
// the other store has, or from the first. Whether that one is to be believed, Copy does not know. Slots come
// last, each once all that its checkpoint refers to is there, so that the other store is a copy of some state at
// any time. A key's blob or a proof that does not have its digest is not copied, and is an error; anything else
// that is wrong leaves the slots as they are.
//
// If the stores have different keyrings the error is an [ErrOtherKeyring], and if both were written to, an
// [ErrFork]. Done, unless nil, is called for each object that was copied or is there already, by several goroutines
// at once.
func Copy(ctx context.Context, from, to blob.Store, done func()) (Copied, error) {
	c := &copying{from: from, to: to, done: done}
	l, err := c.open(ctx)
	if err != nil {
		return c.Copied, err
	}
	c.Keyring = l.ID()
	damaged, err := c.objects(ctx)
	if err != nil {
		return c.Copied, err
	}
	if c.has < l.At().Number { // a list may have lacked something
		if err := newPackWalk(ctx, newStoreSource(to)).trie(l.Trie()); err != nil {
			return c.Copied, fmt.Errorf("the copy: %w", err)
		}
	}
	if err := c.slots(ctx, l.At()); err != nil {
		return c.Copied, err
	}
	return c.Copied, damaged
}

type copying struct {
	Copied
	from, to blob.Store
	done     func()
	has      int // the newest slot of the other store; 0 for none

	mu sync.Mutex
}

// open verifies the keyring, and how the two stores belong together.
func (c *copying) open(ctx context.Context) (*Ledger, error) {
	from, to := newObjects(c.from), newObjects(c.to)
	first, err := from.slot(ctx, 1)
	if err != nil {
		return nil, err
	}
	trusted := first.at
	there, err := to.slot(ctx, 1)
	switch {
	case errors.Is(err, blob.ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("the other store: %w", err)
	case there.KeyringID != first.KeyringID:
		return nil, fmt.Errorf("the other store has keyring %s, not %s: %w", there.KeyringID, first.KeyringID, ErrOtherKeyring)
	default:
		if trusted, err = c.newest(ctx, to); err != nil {
			return nil, fmt.Errorf("the other store: %w", err)
		}
		c.has = trusted.Number
	}
	newest, err := c.newest(ctx, from)
	if err != nil {
		return nil, err
	}
	if newest.Number < trusted.Number { // the other store is the newer one
		newer, _, err := Open(ctx, c.to, Trust{Checkpoint: &trusted})
		if err != nil {
			return nil, fmt.Errorf("the other store: %w", err)
		}
		if err := newer.Consistent(ctx, newest); err != nil {
			return nil, err
		}
		trusted = newest
	}
	l, _, err := Open(ctx, c.from, Trust{Checkpoint: &trusted, Write: true})
	if errors.Is(err, ErrCompacted) { // what can be checked then is the descent
		l, _, err = Open(ctx, c.from, Trust{Checkpoint: &trusted})
	}
	return l, err
}

// newest returns the point of the newest slot.
func (c *copying) newest(ctx context.Context, r *objects) (Point, error) {
	number, err := r.head(ctx, 1, false)
	if err != nil {
		return Point{}, err
	}
	s, err := r.slot(ctx, number)
	if err != nil {
		return Point{}, err
	}
	return s.at, nil
}

// objects copies all objects but the slots. The first error is about key blobs and proofs that are damaged, of
// which there may be many.
func (c *copying) objects(ctx context.Context) (damaged, failed error) {
	there := map[[16]byte]bool{} // by a digest of their paths: there may be millions
	for path, err := range c.to.List(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("the other store: %w", err)
		}
		there[pathSum(path)] = true
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	paths := make(chan string)
	var all sync.WaitGroup
	for range copiers {
		all.Go(func() {
			for path := range paths {
				switch err := c.object(ctx, path); {
				case errors.Is(err, errDamaged) && incidental(path):
					c.mu.Lock()
					damaged = appendError(damaged, err)
					c.mu.Unlock()
				case err != nil:
					stop(err)
				}
			}
		})
	}
	for path, err := range c.from.List(ctx, "") {
		if err != nil {
			stop(err)
			break
		}
		if _, isSlot := blob.ParseSlotPath(path); isSlot {
			continue
		}
		if there[pathSum(path)] {
			c.count(nil)
			continue
		}
		select {
		case paths <- path:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(paths)
	all.Wait()
	return damaged, context.Cause(ctx)
}

// count counts an object that was copied, or with nil is there already.
func (c *copying) count(copied []byte) {
	c.mu.Lock()
	if copied == nil {
		c.There++
	} else {
		c.Objects++
		c.Bytes += int64(len(copied))
	}
	c.mu.Unlock()
	if c.done != nil {
		c.done()
	}
}

func pathSum(path string) [16]byte {
	sum := sha256.Sum256([]byte(path))
	return [16]byte(sum[:])
}

// maxDamaged is how many damaged objects an error names.
const maxDamaged = 100

func appendError(all, err error) error {
	if joined, ok := all.(interface{ Unwrap() []error }); ok {
		if len(joined.Unwrap()) >= maxDamaged {
			return all
		}
		return errors.Join(append(joined.Unwrap()[:len(joined.Unwrap()):len(joined.Unwrap())], err)...)
	}
	return errors.Join(err)
}

// errDamaged is for an object that has another digest than its name says.
var errDamaged = fmt.Errorf("it is not what its name says: %w", blob.ErrMisplaced)

// incidental reports whether a state is whole without the object at a path.
func incidental(path string) bool {
	_, _, _, _, isKey := blob.ParseKeyPath(path)
	_, _, isProof := blob.ParseProofPath(path)
	return isKey || isProof
}

// object copies one object.
func (c *copying) object(ctx context.Context, path string) error {
	data, err := c.from.Get(ctx, path)
	if errors.Is(err, blob.ErrNotFound) { // deleted since it was listed
		return nil
	}
	if err == nil && !blob.HasDigest(path, data) {
		err = errDamaged
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return c.put(ctx, path, data)
}

// put stores an object in the other store, where it may be already.
func (c *copying) put(ctx context.Context, path string, data []byte) error {
	err := c.to.Put(ctx, path, data)
	switch {
	case errors.Is(err, blob.ErrExists):
		c.count(nil)
	case err != nil:
		return fmt.Errorf("the other store: %w", err)
	default:
		c.count(data)
	}
	return nil
}

// slots fills the slots of the other store up to a checkpoint, one after the other.
func (c *copying) slots(ctx context.Context, head Point) error {
	c.Head = head
	before := Digest{}
	for n := c.has + 1; n <= head.Number; n++ {
		path := blob.SlotPath(n)
		der, err := c.from.Get(ctx, path)
		if err != nil {
			return inCheckpoint(n, missing(err))
		}
		s, err := parseStored(der)
		if err == nil && (s.Number != n || n > c.has+1 && s.previous().Digest != before || n == head.Number && s.at != head) {
			err = fmt.Errorf("%s was changed meanwhile: %w", path, ErrFork)
		}
		if err != nil {
			return inCheckpoint(n, err)
		}
		before = s.at.Digest
		if err := c.put(ctx, path, der); err != nil {
			return err
		}
		there, err := c.to.Get(ctx, path)
		if err == nil && !bytes.Equal(there, der) {
			err = fmt.Errorf("the other store has another checkpoint: %w", ErrFork)
		}
		if err != nil {
			return inCheckpoint(n, err)
		}
	}
	return nil
}
