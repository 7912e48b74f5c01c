package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/mem"
)

func order(t *testing.T, s blob.Store) (paths []string) {
	t.Helper()
	for path, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func TestShuffleGoesByItsSeed(t *testing.T) {
	t.Parallel()
	s := new(mem.Store)
	if err := put(t.Context(), s, everyKind...); err != nil {
		t.Fatal(err)
	}
	first := order(t, Shuffle(s, 1))
	if again := order(t, Shuffle(s, 1)); !slices.Equal(again, first) {
		t.Errorf("%q is not %q", again, first)
	}
	if other := order(t, Shuffle(s, 2)); slices.Equal(other, first) {
		t.Error("two seeds have one order")
	}
}

func TestShuffleKeepsErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	s := Shuffle(Fault(new(mem.Store), func(string, string) error { return Lost(broken) }), 1)
	for path, err := range s.List(t.Context(), "") {
		if path != "" || !errors.Is(err, broken) {
			t.Errorf("%q, %v", path, err)
		}
		return
	}
	t.Error("no error")
}

func TestFault(t *testing.T) {
	t.Parallel()
	ctx, broken := context.Background(), errors.New("broken")
	for _, lost := range []bool{false, true} {
		inner := new(mem.Store)
		var told []string
		s := Fault(inner, func(op, path string) error {
			told = append(told, op+" "+path)
			if lost {
				return Lost(broken)
			}
			return broken
		})
		path := object(1)
		wantBroken := func(op string, err error) {
			t.Helper()
			if !errors.Is(err, broken) {
				t.Errorf("%s: %v", op, err)
			}
			if want := op + " " + path; len(told) != 1 || told[0] != want {
				t.Errorf("told %q, want %q", told, want)
			}
			told = nil
		}
		wantBroken("put", s.Put(ctx, path, []byte("x")))
		if _, err := inner.Get(ctx, path); (err == nil) != lost {
			t.Errorf("lost is %v, and after the put: %v", lost, err)
		}
		data, err := s.Get(ctx, path)
		wantBroken("get", err)
		part, err := s.GetRange(ctx, path, 0, 1)
		wantBroken("range", err)
		if data != nil || part != nil {
			t.Errorf("with the error came %q and %q", data, part)
		}
		wantBroken("sync", s.(blob.Syncer).Sync(ctx, path))
		var listed []string
		for got, err := range s.List(ctx, path) {
			if err != nil {
				wantBroken("list", err)
			}
			listed = append(listed, got)
		}
		if want := []string{path, ""}; !lost && !slices.Equal(listed, want[1:]) || lost && !slices.Equal(listed, want) {
			t.Errorf("lost is %v, and listed %q", lost, listed)
		}
		inner.Put(ctx, path, nil)
		wantBroken("delete", s.Delete(ctx, path))
		if _, err := inner.Get(ctx, path); (err != nil) != lost {
			t.Errorf("lost is %v, and after the delete: %v", lost, err)
		}
	}
}
