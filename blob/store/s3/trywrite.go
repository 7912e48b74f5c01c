package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// cleanUp is the time limit for deleting the object that TryWrite created.
const cleanUp = 3 * time.Second

const (
	// racers is the number of concurrent writers in TryWrite.
	racers = 16

	// triedPrefix is the prefix of the keys that TryWrite uses, which are not valid paths of objects.
	triedPrefix = ".tmp-"
)

// TryWrite checks that the bucket supports what a store needs. Sixteen concurrent writers try to create one object,
// and exactly one must succeed; then the object is read, listed and deleted. If a writer could overwrite another's
// object, the error is a [blob.ErrNotExclusive]. If only the deletion is denied, it is a [*Denied] for which
// [Denied.Deletes] reports true, and the object remains.
func (s *Store) TryWrite(ctx context.Context) (err error) {
	path := triedPrefix + rand.Text()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
		if left := s.removeTried(ctx, path); err == nil {
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
	switch kept, err := s.head(ctx, s.key(path)); {
	case err != nil:
		return err
	case kept.Metadata[writerKey] == "":
		return fmt.Errorf("%w: the service does not keep metadata, which tell who has stored an object", blob.ErrNotExclusive)
	}
	return s.listed(ctx, path)
}

// race runs concurrent writers of different bytes and returns the bytes of those that were told they succeeded.
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

// listed checks that objects can be listed. The list need not contain the new object: services may lag.
func (s *Store) listed(ctx context.Context, path string) error {
	for _, err := range s.List(ctx, path) {
		if err != nil {
			return err
		}
	}
	return nil
}

// removeTried deletes the object that TryWrite created. Versions that cannot be deleted are left.
func (s *Store) removeTried(ctx context.Context, path string) error {
	err := s.purge(ctx, s.key(path))
	if errors.Is(err, ErrVersionsKept) {
		return s.delete(ctx, s.key(path))
	}
	return err
}
