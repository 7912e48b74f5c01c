package hsmkeys

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
)

// storing keeps track of the blobs that are being stored while the checkpoint that names them is
// made and signed, so that disk and token work at the same time. No checkpoint is recorded before
// all of them are durable.
type storing struct {
	mu  sync.Mutex
	all map[[sha256.Size]byte]*stored
}

type stored struct {
	done chan struct{}
	err  error
}

// begin stores a blob.
func (s *storing) begin(ctx context.Context, store blob.Store, b *blob.Blob) {
	one := &stored{done: make(chan struct{})}
	s.mu.Lock()
	if s.all == nil {
		s.all = map[[sha256.Size]byte]*stored{}
	}
	s.all[b.Digest()] = one
	s.mu.Unlock()
	ctx = context.WithoutCancel(ctx) // what was begun is finished, and recorded with what was done before
	go func() {
		defer close(one.done)
		if err := store.Put(ctx, blobPath(b), b.Bytes()); !errors.Is(err, blob.ErrExists) { // else it is this very blob
			one.err = err
		}
	}()
}

// end waits until a blob is stored, and no longer keeps track of it.
func (s *storing) end(b *blob.Blob) error {
	s.mu.Lock()
	one := s.all[b.Digest()]
	delete(s.all, b.Digest())
	s.mu.Unlock()
	if one == nil {
		return nil
	}
	<-one.done
	return one.err
}

// wait waits until all blobs that begin has seen are stored.
func (s *storing) wait() error {
	s.mu.Lock()
	var all []*stored
	for _, one := range s.all {
		all = append(all, one)
	}
	s.mu.Unlock()
	for _, one := range all {
		if <-one.done; one.err != nil {
			return one.err
		}
	}
	return nil
}

// discard removes a blob that was stored and is not in the state.
func (k *Keyring) discard(ctx context.Context, b *blob.Blob) error {
	_ = k.storing.end(b) // whether it came to that or not
	return k.store.Delete(context.WithoutCancel(ctx), blobPath(b))
}

func blobPath(b *blob.Blob) string {
	d := b.Descriptor()
	return blob.KeyPath(d.Name, d.Version, d.Revision, b.Digest())
}
