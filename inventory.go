package hsmkeys

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
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

// inventory gives the paths of blobs by their digests.
type inventory map[[sha256.Size]byte]string

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
	all := inventory{}
	for _, digest := range i.lists[number-1].List().Inventory {
		if err := i.add(ctx, all, digest); err != nil {
			return nil, hint(fmt.Errorf("inventory %x of list of members %d: %w", digest[:4], number, err),
				"it says what former members have signed; put it back from a copy of the store")
		}
	}
	i.read[number] = all
	return all, nil
}

func (i *inventories) add(ctx context.Context, all inventory, digest [sha256.Size]byte) error {
	part, err := i.store.Get(ctx, blob.InventoryPath(digest))
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
		all[e.Digest] = e.Path
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
		if _, ok := all[digest]; ok {
			return true, nil
		}
	}
	return false, nil
}

// takeInventory reads and verifies the blobs of the store, stores the inventory of
// those that wanted picks, and gives the digests of its parts. A blob that does
// not verify is told of and left out: whoever can write to the storage could
// otherwise keep an owner from being removed.
func (k *Keyring) takeInventory(ctx context.Context, wanted func(*blob.Blob) bool, skipped func(error)) ([][sha256.Size]byte, error) {
	keys, err := k.all(ctx)
	if err != nil {
		return nil, err
	}
	var entries []blob.Inventoried
	for name, revisions := range keys {
		for _, at := range revisions {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			b, err := k.load(ctx, name, at)
			if err != nil {
				skipped(err)
				continue
			}
			if wanted(b) {
				entries = append(entries, blob.Inventoried{Path: blob.KeyPath(name, at.version, at.revision), Digest: b.Digest()})
			}
		}
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
