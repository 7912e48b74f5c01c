// Package mem keeps the objects of a [blob.Store] in memory, for tests and for programs
// that read a store whole before they use it.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Store is a [blob.Store] in memory. Its zero value is empty and ready for use. It lasts
// as long as the process, and durable means no more than that.
type Store struct {
	mu      sync.RWMutex
	objects map[string][]byte // never changed once they are here
}

var _ blob.Store = (*Store)(nil)

// Put implements [blob.Store].
func (s *Store) Put(ctx context.Context, path string, data []byte) error {
	if err := check(ctx, "store", path); err != nil {
		return err
	}
	if err := blob.ValidSize(path, int64(len(data))); err != nil {
		return fmt.Errorf("store %s: %w", path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[path]; ok {
		return fmt.Errorf("store %s: %w", path, blob.ErrExists)
	}
	if s.objects == nil {
		s.objects = map[string][]byte{}
	}
	s.objects[path] = bytes.Clone(data)
	return nil
}

// Get implements [blob.Store].
func (s *Store) Get(ctx context.Context, path string) ([]byte, error) {
	data, err := s.get(ctx, path)
	return bytes.Clone(data), err
}

// GetRange implements [blob.Store].
func (s *Store) GetRange(ctx context.Context, path string, offset int64, length int) ([]byte, error) {
	if err := check(ctx, "read", path); err != nil {
		return nil, err
	}
	if err := blob.ValidRange(path, offset, length); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	data, err := s.get(ctx, path)
	if err != nil {
		return nil, err
	}
	if offset+int64(length) > int64(len(data)) {
		return nil, fmt.Errorf("read %s: %w: %d bytes from %d of %d", path, blob.ErrShort, length, offset, len(data))
	}
	return bytes.Clone(data[offset:][:length]), nil
}

// List implements [blob.Store]. It lists what is there when it begins.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		s.mu.RLock()
		paths := slices.Collect(maps.Keys(s.objects))
		s.mu.RUnlock()
		for _, path := range paths {
			if ctx.Err() != nil {
				break
			}
			if strings.HasPrefix(path, prefix) && !yield(path, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield("", fmt.Errorf("list %q: %w", prefix, err))
		}
	}
}

// Delete implements [blob.Store].
func (s *Store) Delete(ctx context.Context, path string) error {
	if err := check(ctx, "delete", path); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, path)
	return nil
}

// get returns an object that must not be changed.
func (s *Store) get(ctx context.Context, path string) ([]byte, error) {
	if err := check(ctx, "read", path); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	data, ok := s.objects[path]
	if !ok {
		return nil, fmt.Errorf("read %s: %w", path, blob.ErrNotFound)
	}
	return data, nil
}

func check(ctx context.Context, doing, path string) error {
	if err := blob.ValidPath(path); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", doing, path, err)
	}
	return nil
}
