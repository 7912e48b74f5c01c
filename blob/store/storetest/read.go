package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/hsmkeys/hsmkeys/blob"
)

func putIsThere(ctx context.Context, s blob.Store) error {
	for _, path := range everyKind {
		if _, err := s.Get(ctx, path); fails("get of nothing", err, blob.ErrNotFound) != nil {
			return fails("get of nothing", err, blob.ErrNotFound)
		}
		if _, err := s.GetRange(ctx, path, 0, 1); fails("range of nothing", err, blob.ErrNotFound) != nil {
			return fails("range of nothing", err, blob.ErrNotFound)
		}
	}
	err := put(ctx, s, everyKind...)
	for _, path := range everyKind {
		err = errors.Join(err, holds(ctx, s, path, path))
	}
	return err
}

// Neither the caller of Put nor that of Get shares memory with the store.
func copied(ctx context.Context, s blob.Store) error {
	data := []byte("as it was")
	if err := s.Put(ctx, object(1), data); err != nil {
		return err
	}
	clear(data)
	for range 2 {
		got, err := s.Get(ctx, object(1))
		if err != nil || string(got) != "as it was" {
			return fmt.Errorf("got %q, %v", got, err)
		}
		clear(got)
		part, err := s.GetRange(ctx, object(1), 3, 2)
		if err != nil || string(part) != "it" {
			return fmt.Errorf("got the range %q, %v", part, err)
		}
		clear(part)
	}
	return nil
}

func sizes(ctx context.Context, s blob.Store) error {
	var all error
	for i, path := range everyKind {
		most := blob.MaxSizeOf(path)
		err := s.Put(ctx, path, make([]byte, most+1))
		all = errors.Join(all, fails(fmt.Sprintf("put %d bytes at %s", most+1, path), err, blob.ErrTooLarge))
		_, err = s.Get(ctx, path)
		all = errors.Join(all, fails("get what was too large", err, blob.ErrNotFound))

		size := most
		if i%2 == 1 {
			size = 0
		}
		data := strings.Repeat("x", size)
		if err := s.Put(ctx, path, []byte(data)); err != nil {
			return errors.Join(all, err)
		}
		all = errors.Join(all, holds(ctx, s, path, data))
	}
	return all
}

func ranges(ctx context.Context, s blob.Store) error {
	var all error
	small, pack := blob.PackPath(blob.PackID{1}), blob.PackPath(blob.PackID{2})
	large := make([]byte, blob.MaxPack)
	for i := range large {
		large[i] = byte(i >> 12)
	}
	if err := errors.Join(s.Put(ctx, small, []byte("0123456789")), s.Put(ctx, pack, large)); err != nil {
		return err
	}
	for _, test := range []struct {
		offset int64
		length int
		want   string // none: ErrShort
	}{
		{0, 10, "0123456789"}, {0, 1, "0"}, {4, 3, "456"}, {9, 1, "9"}, {7, 3, "789"},
		{0, 11, ""}, {9, 2, ""}, {10, 1, ""}, {11, 1, ""}, {0, blob.MaxPack, ""}, {blob.MaxPack - 1, 1, ""},
		{0, 0, ""}, {5, 0, ""}, {10, 0, ""}, {-1, 1, ""}, {-1, 0, ""}, {5, -1, ""}, {-5, 10, ""},
		{blob.MaxPack, 1, ""}, {0, blob.MaxPack + 1, ""}, {math.MaxInt64, math.MaxInt32, ""}, {math.MinInt64, 1, ""}, {1, math.MaxInt32, ""},
	} {
		got, err := s.GetRange(ctx, small, test.offset, test.length)
		what := fmt.Sprintf("%d bytes from %d of 10", test.length, test.offset)
		switch {
		case test.want == "":
			all = errors.Join(all, fails(what, err, blob.ErrShort))
		case err != nil || string(got) != test.want:
			all = errors.Join(all, fmt.Errorf("%s are %q, %v; want %q", what, got, err, test.want))
		}
	}
	for _, from := range []int{0, 1, 1 << 20, blob.MaxPack - 5000} {
		got, err := s.GetRange(ctx, pack, int64(from), 5000)
		if err != nil || !bytes.Equal(got, large[from:][:5000]) {
			all = errors.Join(all, fmt.Errorf("5000 bytes from %d of a pack are others: %d bytes, %v", from, len(got), err))
		}
	}
	return all
}

// badPaths are no paths of objects, and some would be a way out of a directory or a bucket.
var badPaths = []string{
	"", "/", ".", "..", "x", "../x", "keys", "keys/", "keys/payroll", "keys/../../x", "keys/payroll/../1.1.cms",
	blob.KeyPath("", 1, 1, [32]byte{}), blob.KeyPath("Payroll", 1, 1, [32]byte{}), blob.KeyPath("..", 1, 1, [32]byte{}), blob.KeyPath("a", 0, 1, [32]byte{}),
	"/" + blob.KeyPath("a", 1, 1, [32]byte{}), "./" + blob.KeyPath("a", 1, 1, [32]byte{}), blob.KeyPath("a", 1, 1, [32]byte{}) + "/", blob.KeyPath("a\x00", 1, 1, [32]byte{}),
	blob.SlotPath(0), blob.SlotPath(-1), "state/0000000/1", "packs/x.pack", "proofs/../1.cms", blob.ProofPath(nil, [32]byte{}),
	strings.Repeat("a", 100_000),
}

func paths(ctx context.Context, s blob.Store) error {
	var all error
	for _, path := range badPaths {
		_, get := s.Get(ctx, path)
		_, getRange := s.GetRange(ctx, path, 0, 1)
		for what, err := range map[string]error{"put": s.Put(ctx, path, []byte("x")), "get": get, "get a range": getRange, "delete": s.Delete(ctx, path)} {
			all = errors.Join(all, fails(fmt.Sprintf("%s %.100q", what, path), err, blob.ErrName))
		}
	}
	return errors.Join(all, listIs(ctx, s, ""))
}

func cancelled(ctx context.Context, s blob.Store) error {
	if err := put(ctx, s, object(1)); err != nil {
		return err
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	_, get := s.Get(done, object(1))
	_, getRange := s.GetRange(done, object(1), 0, 1)
	var all error
	for what, err := range map[string]error{"put": s.Put(done, object(2), nil), "get": get, "get a range": getRange, "delete": s.Delete(done, object(1))} {
		all = errors.Join(all, fails(what, err, context.Canceled))
	}
	for _, prefix := range []string{"", "keys/", "keys/none/"} {
		calls := 0
		for path, err := range s.List(done, prefix) {
			if calls++; path != "" || !errors.Is(err, context.Canceled) {
				all = errors.Join(all, fmt.Errorf("list %q: %q, %v; want %v", prefix, path, err, context.Canceled))
			}
		}
		if calls != 1 {
			all = errors.Join(all, fmt.Errorf("list %q returned %d times; want one error", prefix, calls))
		}
	}
	// And nothing was done.
	return errors.Join(all, listIs(ctx, s, "", object(1)), cancelledInTheMiddle(ctx, s))
}

// A list ends with an error when its context is done while it is read, or is whole.
func cancelledInTheMiddle(ctx context.Context, s blob.Store) error {
	const objects = 100
	for n := range objects {
		if err := put(ctx, s, object(n+2)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen, ended := 0, false
	for path, err := range s.List(ctx, "") {
		cancel()
		switch {
		case ended:
			return fmt.Errorf("list goes on after its end: %q, %v", path, err)
		case err == nil:
			seen++
		default:
			if ended = true; path != "" || !errors.Is(err, context.Canceled) {
				return fmt.Errorf("list: %q, %v; want %v", path, err, context.Canceled)
			}
		}
	}
	if !ended && seen != objects+1 {
		return fmt.Errorf("list ends without an error after %d of %d objects", seen, objects+1)
	}
	return nil
}

func syncs(ctx context.Context, s blob.Store) error {
	syncer, ok := s.(blob.Syncer)
	if !ok {
		return nil
	}
	if err := put(ctx, s, everyKind...); err != nil {
		return err
	}
	var all error
	for _, path := range everyKind {
		if err := syncer.Sync(ctx, path); err != nil {
			all = errors.Join(all, fmt.Errorf("sync: %w", err))
		}
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	return errors.Join(all, fails("sync of nothing", syncer.Sync(ctx, object(1)), blob.ErrNotFound),
		fails("sync of no path", syncer.Sync(ctx, "x"), blob.ErrName),
		fails("sync with a context that is done", syncer.Sync(done, everyKind[0]), context.Canceled))
}
