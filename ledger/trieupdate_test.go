package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

func TestUpdatesThatThereCannotBe(t *testing.T) {
	store := packs{}
	tr := store.update(t, emptyTrie(), key("a", 2), key("b", 1))
	rename := func(from, to string) Update {
		return Update{Entry: Entry{Name: to, Current: 1, Earlier: []string{from}}, From: from}
	}
	for _, tt := range []struct {
		name    string
		updates []Update
		want    string
	}{
		{"a name twice", []Update{key("c", 1), key("c", 1)}, "two updates"},
		{"a renamed name that is changed", []Update{rename("a", "c"), key("a", 1)}, "two updates"},
		{"a rename to a name that there is", []Update{rename("a", "b")}, "there is an entry of that name"},
		{"a rename of a name that there is not", []Update{rename("x", "c")}, "no such entry"},
		{"a rename to itself", []Update{rename("a", "a")}, "two updates"},
		{"a new name without versions", []Update{{Entry: Entry{Name: "c"}}}, "0 versions"},
		{"an invalid name", []Update{key("C", 1)}, "invalid name"},
		{"versions out of order", []Update{{Entry: Entry{Name: "a"}, Set: []Version{version("a", 4), version("a", 3)}}}, "version 3 is out of order"},
		{"version 2^31", []Update{{Entry: Entry{Name: "a"}, Set: []Version{version("a", blob.MaxNumber+1)}}}, "out of order"},
		{"a key that there is", []Update{{Entry: Entry{Name: "a"}, Set: []Version{{
			Number: 3, Revision: 1, KeyID: version("a", 1).KeyID, List: 1, Algorithm: keyspec.AES256, Purpose: keyspec.Encrypt,
			KeySize: 32, Status: Active, Created: day, Changed: 1, ChangedAt: day,
		}}}}, "two versions have the key"},
		{"a current version that is not there", []Update{{Entry: Entry{Name: "a", Current: 3}}}, "current version 3"},
		{"a broken older version", []Update{{Entry: Entry{Name: "c"}, Set: append(
			[]Version{{Number: 1}}, key("c", 20).Set[1:]...)}}, "version 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, all, err := tr.Update(t.Context(), newStoreSource(store), tt.updates)
			if err == nil || !strings.Contains(err.Error(), tt.want) || all != nil {
				t.Errorf("%d packs, error %v, not %q", len(all), err, tt.want)
			}
		})
	}
}

func TestAnUpdateOfNothingWritesNothing(t *testing.T) {
	store := packs{}
	tr := store.update(t, emptyTrie(), manyKeys(100)...)
	for _, updates := range [][]Update{nil, {key("key-000007", 1)}, {{Entry: Entry{Name: "key-000007", Current: 1}}}} {
		same, all, err := tr.Update(t.Context(), newStoreSource(store), updates)
		if err != nil || len(all) != 0 || same != tr {
			t.Errorf("%v, %d packs, %v", same, len(all), err)
		}
	}
}

// A rename takes the name from a full inner node, which then is a leaf again.
func TestARootDependsOnTheEntriesAlone(t *testing.T) {
	store := packs{}
	names := func(n int) (all []Update) { return slices.Clone(manyKeys(n)) }
	want := store.update(t, emptyTrie(), names(maxLeaf)...)
	got := store.update(t, emptyTrie(), append(names(maxLeaf-1), key("z", 1))...)
	got = store.update(t, got, key(fmt.Sprintf("key-%06d", maxLeaf-1), 1))
	if got.Keys != maxLeaf+1 {
		t.Fatal(got.Keys)
	}
	// There is no way to remove a name but to rename it over again.
	got = store.update(t, got, Update{Entry: Entry{Name: "y", Current: 1}, From: "z"})
	again := store.update(t, want, Update{Entry: Entry{Name: "y", Current: 1}, Set: key("z", 1).Set})
	if got.Root != again.Root {
		t.Errorf("%v, not %v", got, again)
	}
}

// A large update makes packs that are no larger than they may be, and a trie that spans them.
// Not all of it is kept in memory when it is read.
func TestPacksAreBounded(t *testing.T) {
	store := packs{}
	var updates []Update
	for i := range 17_000 {
		updates = append(updates, key(fmt.Sprint("key", i), MaxVersions+1))
	}
	tr := store.update(t, emptyTrie(), updates...)
	if len(store) < 2 {
		t.Fatalf("%d packs", len(store))
	}
	for path, data := range store {
		if len(data) > maxPack || len(data) == 0 {
			t.Errorf("%s has %d bytes", path, len(data))
		}
	}
	n := 0
	src := newStoreSource(store)
	for e, err := range tr.All(t.Context(), src) {
		if n++; err != nil || e.Total() != MaxVersions+1 {
			t.Fatal(e, err)
		}
	}
	checkBounded(t, src)
	if n != len(updates) {
		t.Errorf("%d entries", n)
	}
	used := newPackWalk(t.Context(), src)
	if err := used.trie(tr); err != nil || len(used.packs) != len(store) {
		t.Errorf("%d of %d packs are used, %v", len(used.packs), len(store), err)
	}
}

// One key more writes a leaf and what changes in the nodes above it.
func TestAnUpdateOfOneKeyIsSmall(t *testing.T) {
	store := packs{}
	tr := store.update(t, emptyTrie(), manyKeys(20_000)...)
	if per := store.size() / 20_000; per > 90 {
		t.Errorf("%d bytes a key at once", per)
	}
	before := store.size()
	for i := range 1000 {
		tr = store.update(t, tr, key(fmt.Sprint("more", i), 1))
	}
	if per := (store.size() - before) / 1000; per > 3000 {
		t.Errorf("%d bytes for one key more", per)
	}
	compact := packs{}
	if _, err := tr.Repack(t.Context(), newStoreSource(store), compact.put); err != nil {
		t.Fatal(err)
	}
	if per := compact.size() / 21_000; per > 90 {
		t.Errorf("%d bytes a key repacked", per)
	}
}

func TestADiffReadsOnlyWhatDiffers(t *testing.T) {
	store := packs{}
	old := store.update(t, emptyTrie(), manyKeys(20_000)...)
	next := store.update(t, old, key("key-000007", 2))
	src := &counting{Source: newStoreSource(store)}
	n := 0
	for d, err := range Diff(t.Context(), src, old, next) {
		if n++; err != nil || d.New.Name != "key-000007" || len(d.Versions) != 1 {
			t.Error(d, err)
		}
	}
	// Of each trie a leaf, three inner nodes above it, and what these are patches of.
	if n != 1 || src.reads > 2*4+3 {
		t.Errorf("%d differences, %d nodes read", n, src.reads)
	}
}

func TestAnErrorOfAPackEndsAWalk(t *testing.T) {
	store, tr := grown(t)
	full := errors.New("disk full")
	if _, err := tr.Repack(t.Context(), newStoreSource(store), func(Pack) error { return full }); !errors.Is(err, full) {
		t.Error(err)
	}
	for path := range store {
		delete(store, path)
	}
	for name, err := range map[string]error{
		"All":    last(tr.All(t.Context(), newStoreSource(store))),
		"Sorted": last(tr.Sorted(t.Context(), newStoreSource(store), "")),
		"Diff":   last(Diff(t.Context(), newStoreSource(store), emptyTrie(), tr)),
	} {
		if !errors.Is(err, ErrIncomplete) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := tr.Get(t.Context(), newStoreSource(store), "many"); !errors.Is(err, ErrIncomplete) {
		t.Errorf("Get: %v", err)
	}
}
