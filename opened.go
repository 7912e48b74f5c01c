package hsmkeys

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
)

// opened remembers the blobs that were verified to be opened, by the SHA-256 of their
// bytes: a program that opens the same keys again and again verifies each once. What is
// read from the storage is hashed every time, and what is remembered was verified under
// this very list of members, which a Keyring never changes, for this very place.
type opened struct {
	mu    sync.Mutex
	blobs map[[sha256.Size]byte]*blob.Blob
}

// maxOpened is how many are remembered. When there are more all are forgotten: that costs
// one verification for each, and no thought.
const maxOpened = 1024

func (o *opened) load(ctx context.Context, k *Keyring, name string, at revision) (*blob.Blob, error) {
	der, err := k.store.Get(ctx, blob.KeyPath(name, at.version, at.revision))
	if err != nil {
		return nil, inKey(name, at, err)
	}
	digest := sha256.Sum256(der)
	o.mu.Lock()
	b := o.blobs[digest]
	o.mu.Unlock()
	place := blob.Place{KeyringID: k.ID(), Name: name, Version: at.version, Revision: at.revision}
	if b != nil && b.Descriptor().Place() == place {
		return b, nil
	}
	if b, err = k.check(ctx, der, place); err != nil {
		return nil, inKey(name, at, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.blobs == nil || len(o.blobs) >= maxOpened {
		o.blobs = map[[sha256.Size]byte]*blob.Blob{}
	}
	o.blobs[digest] = b
	return b, nil
}

func inKey(name string, at revision, err error) error {
	return fmt.Errorf("key %q, version %d, revision %d: %w", name, at.version, at.revision, err)
}
