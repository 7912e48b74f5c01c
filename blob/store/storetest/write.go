package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hsmkeys/hsmkeys/blob"
)

// writers is how many act at a time on one object.
const writers = 8

func notReplaced(ctx context.Context, s blob.Store) error {
	var all error
	for _, path := range everyKind {
		if err := s.Put(ctx, path, []byte("one")); err != nil {
			return err
		}
		for _, data := range []string{"two", "one", ""} {
			err := s.Put(ctx, path, []byte(data))
			all = errors.Join(all, fails("put where an object is", err, blob.ErrExists), holds(ctx, s, path, "one"))
		}
	}
	return all
}

// together runs f for each of the writers, all at once.
func together(f func(writer int) error) error {
	var all sync.WaitGroup
	var errs [writers]error
	start := make(chan struct{})
	for w := range writers {
		all.Go(func() {
			<-start
			errs[w] = f(w)
		})
	}
	close(start)
	all.Wait()
	return errors.Join(errs[:]...)
}

func oneWins(ctx context.Context, s blob.Store) error {
	for round := range 20 {
		path := everyKind[round%len(everyKind)]
		var won atomic.Pointer[string]
		err := together(func(w int) error {
			data := strings.Repeat(fmt.Sprintf("writer %d in round %d ", w, round), 500)
			err := s.Put(ctx, path, []byte(data))
			if err == nil {
				if other := won.Swap(&data); other != nil {
					return fmt.Errorf("round %d: two writers have put %s", round, path)
				}
				return holds(ctx, s, path, data)
			}
			// The loser can build on what the winner has stored.
			_, get := s.Get(ctx, path)
			return errors.Join(fails("put of eight writers", err, blob.ErrExists), get)
		})
		if err != nil {
			return err
		}
		if won.Load() == nil {
			return fmt.Errorf("round %d: none of %d writers has put %s", round, writers, path)
		}
		if err := errors.Join(holds(ctx, s, path, *won.Load()), s.Delete(ctx, path)); err != nil {
			return err
		}
	}
	return nil
}

func neverHalf(ctx context.Context, s blob.Store) error {
	data := strings.Repeat("0123456789abcdef", 1<<16)
	for round := range 5 {
		path := blob.PackPath(blob.PackID{byte(round)})
		var stored atomic.Bool
		err := together(func(w int) error {
			if w == 0 {
				defer stored.Store(true)
				return s.Put(ctx, path, []byte(data))
			}
			for last := false; ; last = stored.Load() {
				got, err := s.Get(ctx, path)
				end, errEnd := s.GetRange(ctx, path, int64(len(data)-1), 1)
				switch {
				case err == nil && string(got) != data, errEnd == nil && string(end) != "f":
					return fmt.Errorf("got %d bytes, and %q at the end, of an object of %d", len(got), end, len(data))
				case err == nil && errEnd == nil:
					return nil
				case err != nil && !errors.Is(err, blob.ErrNotFound), errEnd != nil && !errors.Is(errEnd, blob.ErrNotFound):
					return fmt.Errorf("while an object is stored: %w", errors.Join(err, errEnd))
				case last:
					return fmt.Errorf("after an object is stored: %w", errors.Join(err, errEnd))
				}
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func deletes(ctx context.Context, s blob.Store) error {
	var all error
	for _, path := range everyKind {
		if err := s.Delete(ctx, path); err != nil {
			all = errors.Join(all, fmt.Errorf("delete of nothing: %w", err))
		}
	}
	if err := put(ctx, s, everyKind...); err != nil {
		return err
	}
	for i, path := range everyKind {
		for range 2 {
			if err := s.Delete(ctx, path); err != nil {
				all = errors.Join(all, fmt.Errorf("delete: %w", err))
			}
		}
		_, err := s.Get(ctx, path)
		_, errRange := s.GetRange(ctx, path, 0, 1)
		all = errors.Join(all, fails("get of what was deleted", err, blob.ErrNotFound), fails("range of what was deleted", errRange, blob.ErrNotFound),
			listIs(ctx, s, "", everyKind[i+1:]...))
	}
	for _, path := range everyKind {
		if err := s.Put(ctx, path, []byte("another")); err != nil {
			all = errors.Join(all, fmt.Errorf("put after a delete: %w", err))
		}
		all = errors.Join(all, holds(ctx, s, path, "another"))
	}
	return errors.Join(all, listIs(ctx, s, "", everyKind...))
}

func putsAndDeletes(ctx context.Context, s blob.Store) error {
	err := together(func(w int) error {
		for range 20 {
			err := s.Put(ctx, object(1), []byte("x"))
			if err != nil && !errors.Is(err, blob.ErrExists) {
				return err
			}
			if w%2 == 0 {
				continue
			}
			if err := s.Delete(ctx, object(1)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, s.Delete(ctx, object(1)), listIs(ctx, s, "")); err != nil {
		return err
	}
	return errors.Join(put(ctx, s, object(1)), listIs(ctx, s, "", object(1)))
}
