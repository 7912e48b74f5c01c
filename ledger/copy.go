package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Copied is the result of [Copy].
type Copied struct {
	Keyring blob.ID
	Head    Point // the newest checkpoint of the source; zero if the slots were not copied
	Objects int   // number of objects copied
	Bytes   int64
	There   int // number of objects that the destination already had

	// Destroyed is the number of blobs that were left out because the newer of the two states says that their
	// keys are destroyed.
	Destroyed int
	Newer     Point // the newest checkpoint of the destination, if that is the newer one
}

// copiers is the number of objects copied concurrently.
const copiers = 32

// Copy copies the keyring in store from to store to, which must be empty or contain an older or newer state of the
// same keyring. It overwrites nothing, and can be repeated after an interruption.
//
// Copy compares every object with the digest in its path. It verifies the checkpoints that follow the newest one in
// the destination, or all of them if there is none; it does not know whether the one that it starts from is
// trustworthy. Slots are copied last, in order, after everything that their checkpoints refer to, so the
// destination is consistent at all times. A key blob or proof with the wrong digest is skipped, and reported as an
// error at the end. Any other error leaves the slots of the destination unchanged. Blobs of keys that are destroyed
// in the newer of the two states are not copied, so that an old copy does not bring them back.
//
// The error is an [ErrOtherKeyring] if the stores contain different keyrings, and an [ErrFork] or [ErrRollback] if
// both were written to. If done is not nil, Copy calls it for each object that was copied or is already there,
// from several goroutines.
func Copy(ctx context.Context, from, to blob.Store, done func()) (Copied, error) {
	c := &copying{from: from, to: to, done: done}
	l, err := c.open(ctx)
	if err != nil {
		return c.Copied, err
	}
	c.Keyring = l.ID()
	if c.gone, err = c.newer.destroyed(ctx); err != nil {
		return c.Copied, err
	}
	if err := c.objects(ctx); err != nil {
		return c.Copied, err
	}
	chain, err := newObjects(from).down(ctx, l.head, c.has)
	if err == nil {
		err = c.complete(ctx, l, chain)
	}
	if err == nil {
		err = c.slots(ctx, chain)
	}
	if err != nil {
		return c.Copied, err
	}
	c.Head = l.At()
	return c.Copied, c.damaged
}

type copying struct {
	Copied
	from, to blob.Store
	done     func()
	newer    *Ledger             // the newer of the two states
	gone     map[keyVersion]bool // versions that it says are destroyed, under every name of their keys
	has      int                 // number of the newest slot in the destination; 0 for none

	mu      sync.Mutex
	there   map[[16]byte]bool // what the destination has, by digest of the path to save memory: there may be millions
	damaged error             // of key blobs and proofs
}

// open verifies the keyring in the source, and that the stores contain states of the same chain.
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
	if newest.Number < trusted.Number { // the destination is newer
		newer, _, err := Open(ctx, c.to, Trust{Checkpoint: &trusted})
		if err != nil {
			return nil, fmt.Errorf("the other store: %w", err)
		}
		if err := newer.Consistent(ctx, newest); err != nil {
			return nil, err
		}
		trusted, c.newer, c.Newer = newest, newer, newer.At()
	}
	l, _, err := Open(ctx, c.from, Trust{Checkpoint: &trusted, Write: true})
	if errors.Is(err, ErrCompacted) { // then only the descent can be verified
		l, _, err = Open(ctx, c.from, Trust{Checkpoint: &trusted})
	}
	if c.newer == nil {
		c.newer = l
	}
	return l, err
}

// A keyVersion is a version of a key under one of its names.
type keyVersion struct {
	name    string
	version int
}

// destroyed returns the versions that are destroyed, under the present and all former names of their keys.
func (l *Ledger) destroyed(ctx context.Context) (map[keyVersion]bool, error) {
	all := map[keyVersion]bool{}
	for e, err := range l.Trie().All(ctx, l.source) {
		if err != nil {
			return nil, err
		}
		for v, err := range l.Versions(ctx, e) {
			if err != nil {
				return nil, err
			}
			if v.Status != Destroyed {
				continue
			}
			for _, name := range append([]string{e.Name}, e.Earlier...) {
				all[keyVersion{name, v.Number}] = true
			}
		}
	}
	return all, nil
}

// newest returns the point in the newest slot.
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

// objects copies all objects except slots that a list of the source contains.
func (c *copying) objects(ctx context.Context) error {
	c.there = map[[16]byte]bool{}
	for path, err := range c.to.List(ctx, "") {
		if err != nil {
			return fmt.Errorf("the other store: %w", err)
		}
		c.there[pathSum(path)] = true
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	paths := make(chan string)
	var all sync.WaitGroup
	for range copiers {
		all.Go(func() {
			for path := range paths {
				if err := c.object(ctx, path); err != nil && !errors.Is(err, blob.ErrNotFound) { // deleted after it was listed
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
		if c.hasPath(path) {
			c.count(nil)
			continue
		}
		if name, version, _, _, ok := blob.ParseKeyPath(path); ok && c.gone[keyVersion{name, version}] {
			c.Destroyed++
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
	return context.Cause(ctx)
}

// count counts an object that was copied, or with nil one that was already there.
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

// maxDamaged limits the damaged objects in an error.
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

// errDamaged is the error for an object whose digest differs from the one in its path.
var errDamaged = fmt.Errorf("it is not what its name says: %w", blob.ErrMisplaced)

// incidental reports whether the state is complete without the object at path.
func incidental(path string) bool {
	_, _, _, _, isKey := blob.ParseKeyPath(path)
	_, _, isProof := blob.ParseProofPath(path)
	return isKey || isProof
}

// object copies one object. A damaged one without which the state is complete is noted and skipped.
func (c *copying) object(ctx context.Context, path string) error {
	data, err := c.from.Get(ctx, path)
	if err == nil && !blob.HasDigest(path, data) {
		err = errDamaged
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
		if errors.Is(err, errDamaged) && incidental(path) {
			c.skip(err)
			return nil
		}
		return err
	}
	_, err = c.put(ctx, path, data)
	return err
}

// skip notes an error that does not end the copy.
func (c *copying) skip(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.damaged = appendError(c.damaged, err)
}

func (c *copying) hasPath(path string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.there[pathSum(path)]
}

// put stores an object in the destination and reports true, unless it is already there.
func (c *copying) put(ctx context.Context, path string, data []byte) (bool, error) {
	err := c.to.Put(ctx, path, data)
	switch {
	case errors.Is(err, blob.ErrExists):
		c.count(nil)
		return false, nil
	case err != nil:
		return false, fmt.Errorf("the other store: %w", err)
	}
	c.mu.Lock()
	c.there[pathSum(path)] = true
	c.mu.Unlock()
	c.count(data)
	return true, nil
}

// complete checks that the destination has everything that the new checkpoints refer to, and copies what it lacks:
// the lists of the stores may have been incomplete. The chain contains the new checkpoints, newest first.
func (c *copying) complete(ctx context.Context, l *Ledger, chain []Point) error {
	var lists sync.Map // members paths that were checked
	for _, err := range inParallel(chain, copiers, func(at Point) (struct{}, error) {
		s, err := newObjects(c.from).checkpoint(ctx, at)
		if err != nil {
			return struct{}{}, missing(err)
		}
		needs := []string{blob.CheckpointPath(at.Digest), blob.ChangesPath(s.Changes)}
		if _, checked := lists.LoadOrStore(s.List.Digest, true); !checked {
			needs = append(needs, blob.MembersPath(s.List.Digest))
		}
		for _, path := range needs {
			if err := c.need(ctx, path); err != nil {
				return struct{}{}, inCheckpoint(at.Number, err)
			}
		}
		return struct{}{}, nil
	}) {
		if err != nil {
			return err
		}
	}
	if len(chain) > 0 {
		if err := newPackWalk(ctx, newStoreSource(c.to)).trie(l.Trie()); err != nil {
			return fmt.Errorf("the copy: %w", err)
		}
	}
	for e, err := range l.Trie().All(ctx, l.source) {
		if err != nil {
			return err
		}
		for v, err := range l.Versions(ctx, e) {
			if err == nil {
				err = c.blob(ctx, e, v)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// need checks that the destination has an object of the state, and copies it otherwise.
func (c *copying) need(ctx context.Context, path string) error {
	data, err := c.to.Get(ctx, path)
	if errors.Is(err, blob.ErrNotFound) {
		return missing(c.object(ctx, path))
	}
	if err == nil && !blob.HasDigest(path, data) {
		err = errDamaged
	}
	if err != nil {
		return fmt.Errorf("the other store: %s: %w", path, err)
	}
	return nil
}

// blob copies the blob of a version unless the destination has it or the version is destroyed. The blob is stored
// under one of the names of the key. A missing one is noted.
func (c *copying) blob(ctx context.Context, e Entry, v Version) error {
	var err error
	for _, name := range append([]string{e.Name}, e.Earlier...) {
		path := blob.KeyPath(name, v.Number, v.Revision, v.Blob)
		if v.Status == Destroyed || c.gone[keyVersion{name, v.Number}] || c.hasPath(path) {
			return nil
		}
	}
	for _, name := range append([]string{e.Name}, e.Earlier...) {
		err = c.object(ctx, blob.KeyPath(name, v.Number, v.Revision, v.Blob))
		if !errors.Is(err, blob.ErrNotFound) {
			return err
		}
	}
	c.skip(fmt.Errorf("key %q, version %d: its blob is gone: %w", e.Name, v.Number, missing(err)))
	return nil
}

// slots copies the slots of a chain of checkpoints, newest first, in the order of their numbers.
func (c *copying) slots(ctx context.Context, chain []Point) error {
	for _, at := range slices.Backward(chain) {
		s, err := newObjects(c.from).checkpoint(ctx, at)
		if err != nil {
			return missing(err)
		}
		path, der := blob.SlotPath(at.Number), s.verified.Bytes()
		if stored, err := c.put(ctx, path, der); err != nil {
			return err
		} else if stored {
			continue
		}
		there, err := c.to.Get(ctx, path)
		if err == nil && !bytes.Equal(there, der) {
			err = fmt.Errorf("the other store has another checkpoint: %w", ErrFork)
		}
		if err != nil {
			return inCheckpoint(at.Number, err)
		}
	}
	return nil
}
