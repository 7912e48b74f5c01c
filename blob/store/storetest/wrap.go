package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Shuffle returns the store with lists in another order, which depends on the seed and on
// what is listed, and on nothing else. A list is held in memory.
func Shuffle(store blob.Store, seed uint64) blob.Store { return &shuffled{forward{store}, seed} }

type shuffled struct {
	forward
	seed uint64
}

type entry struct {
	path string
	err  error
}

func (s *shuffled) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var all []entry
		var end error // has an empty path, and stays the last
		for path, err := range s.Store.List(ctx, prefix) {
			if path == "" {
				end = err
				break
			}
			all = append(all, entry{path, err})
		}
		slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.path, b.path) })
		order := rand.New(rand.NewPCG(s.seed, 0))
		order.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, e := range all {
			if !yield(e.path, e.err) {
				return
			}
		}
		if end != nil {
			yield("", end)
		}
	}
}

// Fault returns the store with errors in its calls. Before each call fault is told which it
// is, "put", "get", "range", "list", "delete" or "sync", and its path or prefix. If it
// returns nil the call is made. If it returns an error made by [Lost] the call is made, and
// its answer is that error, as when a connection breaks. Otherwise the answer is the error,
// and no call is made. Fault is called by several goroutines if the store is.
func Fault(store blob.Store, fault func(op, path string) error) blob.Store {
	return &faulty{forward{store}, fault}
}

// Lost returns an error for [Fault] that comes in place of the answer of a call that is
// made. [errors.Is] finds err in it. A list that is lost ends with the error when all of it
// has come.
func Lost(err error) error { return &lostError{err} }

type lostError struct{ error }

func (e *lostError) Error() string { return fmt.Sprintf("answer lost: %v", e.error) }
func (e *lostError) Unwrap() error { return e.error }

type faulty struct {
	forward
	fault func(op, path string) error
}

// call makes a call, or not.
func (f *faulty) call(op, path string, call func() error) error {
	err := f.fault(op, path)
	if lost := (*lostError)(nil); err == nil || errors.As(err, &lost) {
		if answer := call(); err == nil {
			return answer
		}
	}
	return err
}

func (f *faulty) Put(ctx context.Context, path string, data []byte) error {
	return f.call("put", path, func() error { return f.Store.Put(ctx, path, data) })
}

func (f *faulty) Get(ctx context.Context, path string) (data []byte, err error) {
	err = f.call("get", path, func() (err error) { data, err = f.Store.Get(ctx, path); return err })
	return onlyWithout(err, data)
}

func (f *faulty) GetRange(ctx context.Context, path string, offset int64, length int) (data []byte, err error) {
	err = f.call("range", path, func() (err error) { data, err = f.Store.GetRange(ctx, path, offset, length); return err })
	return onlyWithout(err, data)
}

func (f *faulty) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		more := true
		err := f.call("list", prefix, func() error {
			for path, err := range f.Store.List(ctx, prefix) {
				if more = yield(path, err) && path != ""; !more {
					break
				}
			}
			return nil
		})
		if err != nil && more {
			yield("", err)
		}
	}
}

func (f *faulty) Delete(ctx context.Context, path string) error {
	return f.call("delete", path, func() error { return f.Store.Delete(ctx, path) })
}

func (f *faulty) Sync(ctx context.Context, path string) error {
	return f.call("sync", path, func() error { return f.forward.Sync(ctx, path) })
}

// onlyWithout returns data if there is no error.
func onlyWithout(err error, data []byte) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return data, nil
}

// forward is a [blob.Syncer] too: what can be read from a store that is none is durable.
type forward struct{ blob.Store }

func (f forward) Sync(ctx context.Context, path string) error {
	if syncer, ok := f.Store.(blob.Syncer); ok {
		return syncer.Sync(ctx, path)
	}
	_, err := f.Get(ctx, path)
	return err
}
