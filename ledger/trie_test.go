package ledger

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// packs is a store of packs in memory.
type packs map[string][]byte

func (p packs) GetRange(_ context.Context, path string, offset int64, length int) ([]byte, error) {
	data, ok := p[path]
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, blob.ErrNotFound)
	}
	if offset+int64(length) > int64(len(data)) {
		return nil, fmt.Errorf("%s has %d bytes, not %d from %d: %w", path, len(data), length, offset, blob.ErrIntegrity)
	}
	return slices.Clone(data[offset : offset+int64(length)]), nil
}

func (p packs) put(pack Pack) error {
	p[packPath(pack.ID)] = pack.Data
	return nil
}

func (p packs) size() (n int) {
	for _, data := range p {
		n += len(data)
	}
	return n
}

// update stores what Trie.Update returns.
func (p packs) update(t testing.TB, old Trie, updates ...Update) Trie {
	t.Helper()
	out, all, err := old.Update(t.Context(), newStoreSource(p), updates)
	if err != nil {
		t.Fatal(err)
	}
	for _, pack := range all {
		p.put(pack)
	}
	return out
}

var day = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// version returns a version with a key id and blob that nothing else has.
func version(name string, number int) Version {
	d := pathOf(fmt.Sprint(name, "@", number))
	return Version{
		Number: number, Revision: 1, KeyID: blob.ID(d[:16]), Blob: pathOf(fmt.Sprintf("%x", d)), List: 1,
		Algorithm: keyspec.AES256, Purpose: keyspec.Encrypt, KeySize: 32, Status: Active,
		Created: day, Changed: number, ChangedAt: day.Add(time.Second),
	}
}

// key returns the update that makes a key with versions 1 to n.
func key(name string, n int) Update {
	up := Update{Entry: Entry{Name: name, Current: n}}
	for i := range n {
		up.Set = append(up.Set, version(name, i+1))
	}
	return up
}

func manyKeys(n int) []Update {
	all := make([]Update, n)
	for i := range all {
		all[i] = key(fmt.Sprintf("key-%06d", i), 1)
	}
	return all
}

// full is what the model says of a name: the entry without its versions, and all of these.
type full struct {
	Entry    Entry
	Versions []Version
}

func (f full) clone() full { return full{f.Entry, slices.Clone(f.Versions)} }

type model map[string]full

func (m model) clone() model {
	out := model{}
	for name, f := range m {
		out[name] = f.clone()
	}
	return out
}

func (m model) apply(up Update) {
	from := up.Entry.Name
	if up.From != "" {
		from = up.From
	}
	f := m[from].clone()
	delete(m, from)
	f.Entry = up.Entry
	for _, v := range up.Set {
		i, found := slices.BinarySearchFunc(f.Versions, v.Number, func(v Version, n int) int { return v.Number - n })
		if found {
			f.Versions[i] = v
		} else {
			f.Versions = slices.Insert(f.Versions, i, v)
		}
	}
	m[up.Entry.Name] = f
}

// updates returns those that make the model at once.
func (m model) updates() (all []Update) {
	for _, f := range m {
		all = append(all, Update{Entry: f.Entry, Set: f.Versions})
	}
	return all
}

// of returns an entry as the model has it.
func of(t rapid.TB, src Source, tr Trie, e Entry) full {
	t.Helper()
	versions := collect(t, tr.Versions(context.Background(), src, e))
	slices.Reverse(versions)
	if len(versions) != e.Total() {
		t.Fatalf("%d versions, not %d", len(versions), e.Total())
	}
	e.Versions, e.Older = nil, Older{}
	return full{e, versions}
}

func collect[T any](t rapid.TB, seq iter.Seq2[T, error]) (all []T) {
	t.Helper()
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// check compares all that can be read of a trie with a model.
func (m model) check(t rapid.TB, src Source, tr Trie) {
	t.Helper()
	ctx := context.Background()
	if tr.Keys != len(m) {
		t.Fatalf("%d keys, not %d", tr.Keys, len(m))
	}
	seen := map[string]bool{}
	for _, e := range collect(t, tr.All(ctx, src)) {
		if seen[e.Name] || !reflect.DeepEqual(of(t, src, tr, e), m[e.Name]) {
			t.Fatalf("All: %v, not %v", of(t, src, tr, e), m[e.Name])
		}
		seen[e.Name] = true
	}
	if len(seen) != len(m) {
		t.Fatalf("All returns %d of %d entries", len(seen), len(m))
	}
	for name := range m {
		e, ok, err := tr.Get(ctx, src, name)
		if err != nil || !ok || !reflect.DeepEqual(of(t, src, tr, e), m[name]) {
			t.Fatalf("Get %s: %v %v %v", name, e, ok, err)
		}
	}
	if _, ok, err := tr.Get(ctx, src, "no-such-name"); ok || err != nil {
		t.Fatalf("Get of no name: %v %v", ok, err)
	}
	for _, prefix := range []string{"", "k1-"} {
		var got []string
		for _, e := range collect(t, tr.Sorted(ctx, src, prefix)) {
			got = append(got, e.Name)
			if !reflect.DeepEqual(of(t, src, tr, e), m[e.Name]) {
				t.Fatalf("Sorted: %v, not %v", e, m[e.Name])
			}
		}
		want := slices.DeleteFunc(slices.Sorted(maps.Keys(m)), func(name string) bool { return !strings.HasPrefix(name, prefix) })
		if !slices.Equal(got, want) {
			t.Fatalf("Sorted %q: %v, not %v", prefix, got, want)
		}
	}
}

// checkDiff compares Diff with the difference of two models.
func checkDiff(t rapid.TB, src Source, a, b Trie, am, bm model) {
	t.Helper()
	want := map[string][][2]*Version{}
	for _, name := range slices.Sorted(maps.Keys(am)) {
		if !reflect.DeepEqual(am[name], bm[name]) {
			want[name] = differing(am[name].Versions, bm[name].Versions)
		}
	}
	for name := range bm {
		if _, ok := am[name]; !ok {
			want[name] = differing(nil, bm[name].Versions)
		}
	}
	got := map[string][][2]*Version{}
	for _, d := range collect(t, Diff(context.Background(), src, a, b)) {
		var name string
		for side, e := range []*Entry{d.Old, d.New} {
			if e == nil {
				continue
			}
			name = e.Name
			if tr, m := []Trie{a, b}[side], []model{am, bm}[side]; !reflect.DeepEqual(of(t, src, tr, *e), m[name]) {
				t.Fatalf("Diff: side %d of %s is %v, not %v", side, name, e, m[name])
			}
		}
		if _, twice := got[name]; twice {
			t.Fatalf("%s differs twice", name)
		}
		var all [][2]*Version
		for _, v := range d.Versions {
			all = append(all, [2]*Version{v.Old, v.New})
		}
		got[name] = all
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("Diff: %v\nnot %v", got, want)
	}
}

func differing(a, b []Version) (out [][2]*Version) {
	all := map[int]*[2]*Version{}
	for side, versions := range [][]Version{a, b} {
		for i, v := range versions {
			if all[v.Number] == nil {
				all[v.Number] = new([2]*Version)
			}
			all[v.Number][side] = &versions[i]
		}
	}
	for _, number := range slices.Sorted(maps.Keys(all)) {
		if d := *all[number]; d[0] == nil || d[1] == nil || *d[0] != *d[1] {
			out = append(out, d)
		}
	}
	return out
}

// pool is names of which many have paths that start alike, for a trie of some depth.
var pool = func() (names []string) {
	for depth := range 4 {
		for i := 0; len(names) < 80*(depth+1); i++ {
			name := fmt.Sprintf("k%d-%d", depth, i)
			if path := pathOf(name); below(&path, &Digest{}, depth) {
				names = append(names, name)
			}
		}
	}
	return names
}()

// drawUpdates draws updates of different names: new ones, changes and renames.
func drawUpdates(t *rapid.T, m model) []Update {
	names := slices.Sorted(maps.Keys(m))
	used := map[string]bool{}
	var all []Update
	for range rapid.SampledFrom([]int{1, 1, 3, 20, 80}).Draw(t, "batch") {
		up := drawUpdate(t, m, names)
		if up.Entry.Name == "" || used[up.Entry.Name] || used[up.From] {
			continue
		}
		used[up.Entry.Name] = true
		if up.From != "" {
			used[up.From] = true
		}
		all = append(all, up)
	}
	return all
}

func drawUpdate(t *rapid.T, m model, names []string) Update {
	fresh := rapid.SampledFrom(pool).Draw(t, "name")
	name := fresh
	if len(names) > 0 && rapid.Bool().Draw(t, "old") {
		name = rapid.SampledFrom(names).Draw(t, "name")
	}
	up := Update{Entry: m[name].Entry, Set: drawSet(t, name, m[name].Versions)}
	up.Entry.Name = name
	if _, there := m[name]; !there {
		return up
	}
	switch rapid.IntRange(0, 3).Draw(t, "change") {
	case 0:
		up.Entry.Description = rapid.SampledFrom([]string{"", "the key of the pay roll", "für Löhne"}).Draw(t, "description")
		up.Entry.Expires = rapid.SampledFrom([]time.Time{{}, day}).Draw(t, "expires")
		up.Entry.RotateEvery = rapid.SampledFrom([]int{0, 90, blob.MaxNumber}).Draw(t, "days")
	case 1:
		if _, taken := m[fresh]; taken || len(up.Entry.Earlier) == MaxEarlier {
			return Update{}
		}
		up.Entry.Name, up.From = fresh, name
		up.Entry.Earlier = append(slices.Clone(up.Entry.Earlier), name)
	}
	return up
}

// drawSet draws versions to set: the first, those after the last, a change of any of them.
func drawSet(t *rapid.T, name string, old []Version) (set []Version) {
	last := 0
	if len(old) > 0 {
		last = old[len(old)-1].Number
		if rapid.Bool().Draw(t, "change of a version") {
			v := rapid.SampledFrom(old).Draw(t, "version")
			v.Revision++
			v.Status = Deactivated
			set = append(set, v)
		}
	}
	n := rapid.SampledFrom(slices.Concat(slices.Repeat([]int{0, 0, 1, 2}, 15), []int{15, 16, 17, 300})).Draw(t, "versions")
	if len(old) == 0 {
		n = max(n, 1)
	}
	for range n {
		last += rapid.IntRange(1, 2).Draw(t, "step")
		set = append(set, version(name+fmt.Sprint(len(old)), last))
	}
	return set
}

// The trie is what a plain map is, and its root depends on the entries alone.
func TestTrieIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store, m, tr := packs{}, model{}, emptyTrie()
		var before model
		var old Trie
		for range rapid.IntRange(1, 6).Draw(t, "batches") {
			updates := drawUpdates(t, m)
			before, old = m.clone(), tr
			for _, up := range updates {
				m.apply(up)
			}
			next, all, err := tr.Update(context.Background(), newStoreSource(store), updates)
			if err != nil {
				t.Fatal(err)
			}
			for _, pack := range all {
				store.put(pack)
			}
			tr = next
			checkDiff(t, newStoreSource(store), old, tr, before, m)
			checkDiff(t, newStoreSource(store), tr, old, m, before)
		}
		src := newStoreSource(store)
		m.check(t, src, tr)

		atOnce, all, err := emptyTrie().Update(context.Background(), src, m.updates())
		if err != nil || atOnce.Root != tr.Root || atOnce.Keys != tr.Keys {
			t.Fatalf("built at once: %v %v, not %v", atOnce, err, tr)
		}
		for _, pack := range all {
			store.put(pack)
		}

		repacked := packs{}
		same, err := tr.Repack(context.Background(), src, repacked.put)
		if err != nil || same.Root != tr.Root || same.Keys != tr.Keys {
			t.Fatalf("repacked: %v %v, not %v", same, err, tr)
		}
		m.check(t, newStoreSource(repacked), same)
		checkDiff(t, src, emptyTrie(), tr, model{}, m)
	})
}
