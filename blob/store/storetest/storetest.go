// Package storetest tests implementations of [blob.Store], and has stores that reorder
// their lists and fail, for the tests of what uses a store.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Test tests that a store keeps the contract of [blob.Store], and of [blob.Syncer] if it
// is one. Open returns a store that is empty; it is called once for every test.
func Test(t *testing.T, open func(t *testing.T) blob.Store) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := c.run(t.Context(), open(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A check is one test. It returns what is wrong, in place of telling a [testing.T], so
// that it can be tested itself.
type check struct {
	name string
	run  func(ctx context.Context, s blob.Store) error
}

var checks = []check{
	{"what is put is there", putIsThere},
	{"what is there is not replaced", notReplaced},
	{"data is copied", copied},
	{"of eight writers one wins", oneWins},
	{"nobody sees half an object", neverHalf},
	{"sizes", sizes},
	{"ranges", ranges},
	{"paths", paths},
	{"lists", lists},
	{"a long list", longList},
	{"a list while others write", listWhileWriting},
	{"a list that changes what it lists", listAndDelete},
	{"delete", deletes},
	{"of eight that put and delete", putsAndDeletes},
	{"a context that is done", cancelled},
	{"sync", syncs},
}

// object returns the path of a key blob of payroll, of which no two are the same.
func object(n int) string { return blob.KeyPath("payroll", n, 1, [32]byte{byte(n), byte(n >> 8)}) }

// everyKind has a path of every kind of object.
var everyKind = []string{
	blob.KeyPath("payroll/eu", 12, 3, [32]byte{1}),
	blob.MembersPath([32]byte{2}),
	blob.CheckpointPath([32]byte{3}),
	blob.SlotPath(1),
	blob.SlotPath(blob.MaxNumber),
	blob.PackPath(blob.PackID{4}),
	blob.ChangesPath([32]byte{5}),
	blob.ProofPath(make([]byte, 20), [32]byte{6}),
}

// put stores objects that consist of their own paths.
func put(ctx context.Context, s blob.Store, paths ...string) error {
	for _, path := range paths {
		if err := s.Put(ctx, path, []byte(path)); err != nil {
			return fmt.Errorf("put: %w", err)
		}
	}
	return nil
}

// holds checks what is at a path.
func holds(ctx context.Context, s blob.Store, path, want string) error {
	if got, err := s.Get(ctx, path); err != nil || string(got) != want {
		return fmt.Errorf("%s holds %d bytes %.40q, %v; want %d bytes %.40q", path, len(got), got, err, len(want), want)
	}
	return nil
}

// fails checks that a call returns this error and, as it is no sign of an attack, not
// another kind of it.
func fails(what string, err, want error) error {
	if !errors.Is(err, want) || errors.Is(err, blob.ErrIntegrity) != errors.Is(want, blob.ErrIntegrity) {
		return fmt.Errorf("%s: error is %v, want %v", what, err, want)
	}
	return nil
}

// listed returns a list, sorted.
func listed(ctx context.Context, s blob.Store, prefix string) ([]string, error) {
	var paths []string
	for path, err := range s.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("list %q: at %q: %w", prefix, path, err)
		}
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths, nil
}

// listIs checks a list, and that nothing is in it twice.
func listIs(ctx context.Context, s blob.Store, prefix string, want ...string) error {
	got, err := listed(ctx, s, prefix)
	want = slices.Sorted(slices.Values(want))
	if err == nil && !slices.Equal(got, want) {
		err = fmt.Errorf("list of %q is %.2000q, want %.2000q", prefix, got, want)
	}
	return err
}
