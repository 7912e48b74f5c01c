package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
)

const (
	// racers is how many writers race for one object when the bucket is tried.
	racers = 16

	// triedPrefix is what the paths of the objects begin with that are left when that is cut off. No
	// object of a store has such a path.
	triedPrefix = ".tmp-"
)

// TryWrite tries what a store needs of the bucket, and leaves nothing in it: many writers race for
// one object, of which exactly one must win; its bytes are read, it is listed, and deleted, which not
// everybody is allowed to: see [Denied.Deletes].
// A service that would let one writer replace what another has stored is a [blob.ErrNotExclusive].
func (s *Store) TryWrite(ctx context.Context) (err error) {
	path := triedPrefix + rand.Text()
	defer func() {
		if left := s.removeTried(context.WithoutCancel(ctx), path); err == nil {
			err = left
		}
		if err != nil {
			err = fmt.Errorf("try the bucket: %w", err)
		}
	}()
	winners, err := s.race(ctx, path)
	if err != nil {
		return err
	}
	if len(winners) != 1 {
		return fmt.Errorf("%w: of %d writers of one object, %d were told that they have stored it", blob.ErrNotExclusive, racers, len(winners))
	}
	switch err := s.put(ctx, s.key(path), []byte("a late writer")); {
	case err == nil:
		return fmt.Errorf("%w: an object that was there was replaced", blob.ErrNotExclusive)
	case !errors.Is(err, blob.ErrExists):
		return err
	}
	there, err := s.get(ctx, s.key(path), blob.MaxSize)
	if err != nil {
		return err
	}
	if string(there) != winners[0] {
		return fmt.Errorf("%w: the object is not that of the writer that was told so", blob.ErrNotExclusive)
	}
	return s.listed(ctx, path)
}

// race has many writers put different bytes under one path, and returns those of the ones that won.
func (s *Store) race(ctx context.Context, path string) ([]string, error) {
	data, errs := make([]string, racers), make([]error, racers)
	var all sync.WaitGroup
	for i := range racers {
		data[i] = rand.Text()
		all.Go(func() { errs[i] = s.put(ctx, s.key(path), []byte(data[i])) })
	}
	all.Wait()
	var winners []string
	for i, err := range errs {
		switch {
		case err == nil:
			winners = append(winners, data[i])
		case !errors.Is(err, blob.ErrExists):
			return nil, err
		}
	}
	return winners, nil
}

// listed returns an error unless lists can be read. Whether they have what was just stored is not
// asked of a service.
func (s *Store) listed(ctx context.Context, path string) error {
	for _, err := range s.List(ctx, path) {
		if err != nil {
			return err
		}
	}
	return nil
}

// removeTried deletes what TryWrite has stored, and not more than that can be done.
func (s *Store) removeTried(ctx context.Context, path string) error {
	err := s.purge(ctx, s.key(path))
	if errors.Is(err, ErrVersionsKept) {
		return s.delete(ctx, s.key(path))
	}
	return err
}
