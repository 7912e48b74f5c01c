package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/storetest"
)

// A site is a place where a keyring is stored. What lies there can be exchanged under the
// hands of those who read and write: a site is a [blob.Store] of whatever it has by now.
type site struct {
	mu      sync.Mutex
	objects map[string][]byte
	lies    map[string]lie // by path
}

// Put implements [blob.Store].
func (s *site) Put(_ context.Context, path string, data []byte) error {
	if err := blob.ValidPath(path); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[path]; ok {
		return fmt.Errorf("store %s: %w", path, blob.ErrExists)
	}
	s.objects[path] = bytes.Clone(data)
	return nil
}

// Get implements [blob.Store].
func (s *site) Get(_ context.Context, path string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.objects[path]
	if !ok {
		return nil, fmt.Errorf("read %s: %w", path, blob.ErrNotFound)
	}
	return bytes.Clone(data), nil
}

// GetRange implements [blob.Store].
func (s *site) GetRange(ctx context.Context, path string, offset int64, length int) ([]byte, error) {
	data, err := s.Get(ctx, path)
	if err != nil {
		return nil, err
	}
	if offset+int64(length) > int64(len(data)) {
		return nil, fmt.Errorf("read %s: %w", path, blob.ErrShort)
	}
	return data[offset:][:length], nil
}

// List implements [blob.Store]. It lists the last path first.
func (s *site) List(_ context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, path := range slices.Backward(s.paths(prefix)) {
			if !yield(path, nil) {
				return
			}
		}
	}
}

// Delete implements [blob.Store].
func (s *site) Delete(_ context.Context, path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, path)
	return nil
}

// paths returns the paths that start with prefix, sorted.
func (s *site) paths(prefix string) (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for path := range s.objects {
		if strings.HasPrefix(path, prefix) {
			all = append(all, path)
		}
	}
	slices.Sort(all)
	return all
}

// copy returns a copy of an honest site, as cp -a makes it.
func (s *site) copy() *site {
	return &site{objects: maps.Clone(s.objects), lies: map[string]lie{}}
}

// take copies what another site has and this one has not; with slots also theirs in the
// place of ours.
func (s *site) take(from *site, slots bool) {
	for path, data := range from.objects {
		if _, ok := s.objects[path]; !ok || slots && strings.HasPrefix(path, blob.SlotsPrefix) {
			s.objects[path] = data
		}
	}
}

// A lie is what a dishonest storage has put in the place of an object; nil is nothing.
type lie struct{ truth, told []byte }

// set is what a dishonest storage does: it puts data in the place of an object, or nil.
func (s *site) set(path string, data []byte) {
	l, ok := s.lies[path]
	if !ok {
		l.truth = s.objects[path]
	}
	l.told = data
	s.lies[path] = l
	s.be(path, data)
}

func (s *site) be(path string, data []byte) {
	if s.objects[path] = data; data == nil {
		delete(s.objects, path)
	}
}

// heal makes the storage honest again. What others have written meanwhile stays.
func (s *site) heal() {
	for path, l := range s.lies {
		if bytes.Equal(s.objects[path], l.told) {
			s.be(path, l.truth)
		}
	}
	clear(s.lies)
}

// A fault is what goes wrong at one call of a store.
type fault struct {
	op, prefix string // of the path
	lost       bool   // the call is made, and its answer is lost
	lasting    bool   // no call works after it
	death      bool   // nor does the program: it was killed
	before     func() // is done before the call, by others; then nothing goes wrong

	happened bool
}

var errFault = errors.New("the store failed")

// at is what happens at a call, for [storetest.Fault].
func (f *fault) at(op, path string) error {
	switch {
	case f.happened && f.lasting:
		return errFault
	case f.happened || op != f.op || !strings.HasPrefix(path, f.prefix):
		return nil
	}
	f.happened = true
	switch {
	case f.before != nil:
		f.before()
		return nil
	case f.lost:
		return storetest.Lost(errFault)
	}
	return errFault
}
