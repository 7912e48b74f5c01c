package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/hsmkeys/hsmkeys/blob"
)

func lists(ctx context.Context, s blob.Store) error {
	all := slices.Concat(everyKind, []string{
		blob.KeyPath("pay", 1, 1, [32]byte{}), blob.KeyPath("payroll", 1, 1, [32]byte{}), blob.KeyPath("payroll", 1, 2, [32]byte{}), blob.KeyPath("payroll", 10, 1, [32]byte{}),
		blob.KeyPath("payroll/eu/x", 1, 1, [32]byte{}), blob.KeyPath("a.b-c_d", 1, 1, [32]byte{}),
		blob.SlotPath(999), blob.SlotPath(1000), blob.ProofPath(make([]byte, 20), [32]byte{7}), blob.ProofPath([]byte("01234567890123456789"), [32]byte{8}),
	})
	prefixes := []string{"", "/", "x", "keys/x/", "key", "keys//", "keys/pay", "keys/payroll/1.", "keys/payroll/1.1", "./keys/", "../", "keys/../keys/", "/keys/", "%", "*"}
	for _, path := range all {
		prefixes = append(prefixes, path, path+"/", path+"x", path[:len(path)-1])
		for i, c := range path {
			if c == '/' {
				prefixes = append(prefixes, path[:i], path[:i+1], path[:i+2])
			}
		}
	}
	slices.Sort(prefixes)
	prefixes = slices.Compact(prefixes)

	err := errors.Join(listIs(ctx, s, ""), listIs(ctx, s, "keys/payroll/"))
	if err := errors.Join(err, put(ctx, s, all...)); err != nil {
		return err
	}
	for _, prefix := range prefixes {
		var want []string
		for _, path := range all {
			if strings.HasPrefix(path, prefix) {
				want = append(want, path)
			}
		}
		err = errors.Join(err, listIs(ctx, s, prefix, want...))
	}
	return err
}

// putMany puts objects first to last-1, many at a time, as each may take its while.
func putMany(ctx context.Context, s blob.Store, first, last int) ([]string, error) {
	var next atomic.Int64
	paths := make([]string, last-first)
	err := together(func(int) error {
		for {
			n := int(next.Add(1)) - 1
			if n >= len(paths) {
				return nil
			}
			paths[n] = object(first + n)
			if err := put(ctx, s, paths[n]); err != nil {
				return err
			}
		}
	})
	return paths, err
}

// longList has more objects than fit in one page of any store's list.
func longList(ctx context.Context, s blob.Store) error {
	paths, err := putMany(ctx, s, 1, 1102)
	if err != nil {
		return err
	}
	seen := 0
	for _, err := range s.List(ctx, "keys/") {
		if err != nil {
			return err
		}
		if seen++; seen == 10 {
			break // who has seen enough is not called again
		}
	}
	return errors.Join(listIs(ctx, s, "keys/payroll/", paths...), listIs(ctx, s, "", paths...))
}

// A list has all that was stored before it, each once, and of what is stored meanwhile
// what it likes.
func listWhileWriting(ctx context.Context, s blob.Store) error {
	const before, after = 50, 150
	old, err := putMany(ctx, s, 1, before+1)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		_, err := putMany(ctx, s, before+1, after+1)
		done <- err
	}()
	for writing := true; writing; {
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			writing = false
		default:
		}
		got, err := listed(ctx, s, "")
		if err != nil {
			return err
		}
		if unique := slices.Compact(slices.Clone(got)); len(unique) != len(got) {
			return fmt.Errorf("list has %d of %d paths twice", len(got)-len(unique), len(got))
		}
		for _, path := range old {
			if _, ok := slices.BinarySearch(got, path); !ok {
				return fmt.Errorf("list leaves out %s while others are stored", path)
			}
		}
		for _, path := range got {
			if err := holds(ctx, s, path, path); err != nil {
				return fmt.Errorf("listed while others are stored: %w", err)
			}
		}
	}
	return nil
}

// Who reads a list may change the store.
func listAndDelete(ctx context.Context, s blob.Store) error {
	const objects = 100
	if _, err := putMany(ctx, s, 1, objects+1); err != nil {
		return err
	}
	seen := map[string]bool{}
	for path, err := range s.List(ctx, "") {
		if err != nil {
			return err
		}
		if seen[path] {
			return fmt.Errorf("%s is listed twice", path)
		}
		seen[path] = true
		if err := s.Delete(ctx, path); err != nil {
			return err
		}
		if n := len(seen); n <= objects {
			if err := put(ctx, s, blob.SlotPath(n)); err != nil {
				return err
			}
		}
	}
	var left error
	for n := range objects {
		if !seen[object(n+1)] {
			left = errors.Join(left, fmt.Errorf("%s was there all the time and is not listed", object(n+1)))
		}
	}
	return errors.Join(left, listIs(ctx, s, blob.KeysPrefix))
}
