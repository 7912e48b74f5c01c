package hsmkeys

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
)

// inventories are the blobs that were there when somebody left the keyring, by the
// number of the list of members that tells of it. A signature has no date that
// can be believed, so what a former owner has signed counts only when it stands
// there: signed by somebody who stayed, before the former owner was gone.
type inventories struct {
	store blob.Store
	lists []*blob.VerifiedMembers

	mu   sync.Mutex
	read map[int]inventory
}

// inventory is the blobs of one inventory, by their digests and by the names of their
// keys.
type inventory struct {
	digests map[[sha256.Size]byte]bool
	names   map[string]revisions
}

func newInventories(store blob.Store, lists []*blob.VerifiedMembers) *inventories {
	return &inventories{store: store, lists: lists, read: map[int]inventory{}}
}

// of reads the inventory of a list. It is read when somebody asks for it, once.
func (i *inventories) of(ctx context.Context, number int) (inventory, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if all, ok := i.read[number]; ok {
		return all, nil
	}
	all := inventory{map[[sha256.Size]byte]bool{}, map[string]revisions{}}
	for _, digest := range i.lists[number-1].List().Inventory {
		if err := i.add(ctx, all, digest); err != nil {
			return inventory{}, hint(fmt.Errorf("inventory %x of list of members %d: %w", digest[:4], number, err),
				"it says what former members have signed; put it back from a copy of the store")
		}
	}
	i.read[number] = all
	return all, nil
}

func (i *inventories) add(ctx context.Context, all inventory, digest [sha256.Size]byte) error {
	part, err := i.store.Get(ctx, blob.InventoryPath(digest))
	if errors.Is(err, blob.ErrNotFound) { // a signed list names it, so it was there
		return fmt.Errorf("%w: %w", err, blob.ErrMisplaced)
	}
	if err != nil {
		return err
	}
	if got := sha256.Sum256(part); subtle.ConstantTimeCompare(got[:], digest[:]) != 1 {
		return fmt.Errorf("its digest is %x: %w", got[:4], blob.ErrMisplaced)
	}
	entries, err := blob.ParseInventory(part)
	if err != nil {
		return err
	}
	for _, e := range entries {
		all.digests[e.Digest] = true
		name, version, rev, _ := blob.ParseKeyPath(e.Path) // ParseInventory has seen that it is one
		all.names[name] = append(all.names[name], revision{version, rev})
	}
	return nil
}

// hold says whether any list's inventory has a blob.
func (i *inventories) hold(ctx context.Context, digest [sha256.Size]byte) (bool, error) {
	for number := len(i.lists); number >= 1; number-- {
		all, err := i.of(ctx, number)
		if err != nil {
			return false, err
		}
		if all.digests[digest] {
			return true, nil
		}
	}
	return false, nil
}

// missing gives the blobs of a key that an inventory names and the store does not
// have: they were there once, and blobs are never deleted.
func (i *inventories) missing(ctx context.Context, name string, there revisions) (revisions, error) {
	var missing revisions
	for number := range i.lists {
		all, err := i.of(ctx, number+1)
		if err != nil {
			return nil, err
		}
		for _, at := range all.names[name] {
			if !slices.Contains(there, at) {
				missing = append(missing, at)
			}
		}
	}
	missing.sort()
	return missing, nil
}

// gone gives the keys that inventories name and the store does not have, each with the
// error that it is.
func (i *inventories) gone(ctx context.Context, k *Keyring) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		told := map[string]bool{}
		for number := range i.lists {
			all, err := i.of(ctx, number+1)
			if err != nil {
				yield("", err)
				return
			}
			for _, name := range slices.Sorted(maps.Keys(all.names)) {
				there, err := k.list(ctx, name)
				if err == nil && (len(there) > 0 || told[name]) {
					continue
				}
				told[name] = true
				if err == nil {
					err = k.verifyHistory(ctx, name, nil)
				}
				if !yield(name, err) {
					return
				}
			}
		}
	}
}

// takeInventory reads and verifies the blobs of the store, stores the inventory of
// those that wanted picks, and gives the digests of its parts. A blob that does
// not verify is told of and left out: whoever can write to the storage could
// otherwise keep an owner from being removed.
func (k *Keyring) takeInventory(ctx context.Context, wanted func(*blob.Blob) bool, skipped func(error)) ([][sha256.Size]byte, error) {
	type verified struct {
		entries []blob.Inventoried
		failed  []error
		err     error
	}
	var entries []blob.Inventoried
	for v := range inOrder(ctx, k.keys(ctx), func(key stored, err error) verified {
		v := verified{err: err}
		if err != nil && key.name != "" {
			v = verified{failed: []error{err}}
		}
		for _, at := range key.all {
			b, err := k.load(ctx, key.name, at)
			switch {
			case err != nil:
				v.failed = append(v.failed, err)
			case wanted(b):
				v.entries = append(v.entries, blob.Inventoried{Path: blob.KeyPath(key.name, at.version, at.revision), Digest: b.Digest()})
			}
		}
		return v
	}) {
		if v.err != nil {
			return nil, v.err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, err := range v.failed {
			skipped(err)
		}
		entries = append(entries, v.entries...)
	}
	parts, err := blob.MarshalInventory(entries)
	if err != nil {
		return nil, err
	}
	var digests [][sha256.Size]byte
	for _, part := range parts {
		digest := sha256.Sum256(part)
		if err := k.store.Put(ctx, blob.InventoryPath(digest), part); err != nil && !errors.Is(err, blob.ErrExists) {
			return nil, fmt.Errorf("store an inventory: %w", err)
		}
		digests = append(digests, digest)
	}
	return digests, nil
}
