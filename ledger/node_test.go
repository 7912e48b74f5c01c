package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// nodes is a source of nodes by their digests, wherever they are said to be.
type nodes map[Digest][]byte

func (n nodes) Node(_ context.Context, digest Digest, _ blob.Hint) ([]byte, error) {
	if raw, ok := n[digest]; ok {
		return raw, nil
	}
	return nil, blob.ErrNotFound
}

// nodesOf returns all nodes of a trie.
func nodesOf(t testing.TB, src Source, tr Trie) nodes {
	t.Helper()
	all := nodes{}
	r := reader{t.Context(), recorder{src, all}}
	at, err := tr.root()
	if err != nil {
		t.Fatal(err)
	}
	if _, err = (&copier{r, writer{put: func(Pack) error { return nil }}}).subtree(at, Digest{}, 0); err != nil {
		t.Fatal(err)
	}
	return all
}

type recorder struct {
	Source
	all nodes
}

func (r recorder) Node(ctx context.Context, digest Digest, at blob.Hint) ([]byte, error) {
	raw, err := r.Source.Node(ctx, digest, at)
	r.all[digest] = raw
	return raw, err
}

// readAll reads all that there is, and returns the first error.
func readAll(src Source, tr Trie) error {
	_, err := tr.Repack(context.Background(), src, func(Pack) error { return nil })
	return err
}

// grown returns a trie of several levels with older versions, written in several updates. The names lie
// together, so that there are levels below those that are stored whole.
func grown(t testing.TB) (packs, Trie) {
	store, tr := packs{}, emptyTrie()
	names := nearNames()
	var first []Update
	for _, name := range names[3:] {
		first = append(first, key(name, 1))
	}
	tr = store.update(t, tr, first...)
	tr = store.update(t, tr, key(names[0], 600))
	tr = store.update(t, tr, key(names[1], 20), key(names[2], 1))
	return store, tr
}

// nearNames returns 203 names whose paths begin alike.
var nearNames = sync.OnceValue(func() (names []string) {
	for i := 0; len(names) < 203; i++ {
		name := fmt.Sprint("near-", i)
		if path := pathOf(name); path[0] == 0 && path[1]>>4 == 0 {
			names = append(names, name)
		}
	}
	return names
})

func TestEveryBitOfANodeIsChecked(t *testing.T) {
	store, tr := grown(t)
	all := nodesOf(t, newStoreSource(store), tr)
	smallest := map[byte]Digest{} // of each kind
	for digest, raw := range all {
		if other, ok := smallest[raw[0]]; !ok || len(raw) < len(all[other]) {
			smallest[raw[0]] = digest
		}
	}
	if len(smallest) != 4 {
		t.Fatalf("nodes of %d kinds", len(smallest))
	}
	for _, digest := range smallest {
		raw := all[digest]
		_, covered, err := parseNode(raw)
		if err != nil {
			t.Fatal(err)
		}
		read := func(raw []byte) error {
			stored := maps.Clone(all)
			stored[digest] = raw
			_, err := reader{t.Context(), stored}.read(ref{digest: digest, at: blob.Hint{Length: 1}})
			return err
		}
		if err := read(raw); err != nil {
			t.Fatal(err)
		}
		for i := range 8 * len(raw) {
			bad := bytes.Clone(raw)
			bad[i/8] ^= 1 << (i % 8)
			if err := read(bad); err == nil && i/8 < covered {
				t.Errorf("bit %d of a node of kind %d is flipped, and it passes", i, raw[0])
			} else if err != nil && !errors.Is(err, blob.ErrIntegrity) && !errors.Is(err, blob.ErrNotFound) {
				t.Errorf("bit %d: %v", i, err)
			}
		}
		for i := range raw {
			if read(raw[:i]) == nil {
				t.Errorf("%d of %d bytes pass", i, len(raw))
			}
		}
		if read(append(bytes.Clone(raw), 0)) == nil {
			t.Error("one byte more passes")
		}
	}
}

// A flipped bit of a hint finds another place, where nothing has the digest.
func TestEveryBitOfAPackIsChecked(t *testing.T) {
	store, tr := grown(t)
	compact := packs{}
	tr, err := tr.Repack(t.Context(), newStoreSource(store), compact.put)
	if err != nil {
		t.Fatal(err)
	}
	if len(compact) != 1 {
		t.Fatalf("%d packs", len(compact))
	}
	for path, data := range compact {
		for i := 0; i < 8*len(data); i += 977 {
			bad := bytes.Clone(data)
			bad[i/8] ^= 1 << (i % 8)
			if err := readAll(newStoreSource(packs{path: bad}), tr); !errors.Is(err, blob.ErrIntegrity) && !errors.Is(err, blob.ErrNotFound) {
				t.Fatalf("bit %d: %v", i, err)
			}
		}
	}
}

// forged returns the trie of a root whose digest is right.
func (n nodes) forged(nd *node, count int) Trie {
	canonical := nd.appendCanonical(nil)
	digest := nodeDigest(canonical)
	n[digest] = nd.appendHints(canonical)
	return Trie{Root: digest, At: blob.Hint{Length: 1}, Keys: count}
}

func itemsOf(names ...string) (items []item) {
	for _, name := range names {
		up := key(name, 1)
		e := up.Entry
		e.Versions = up.Set
		items = append(items, item{path: pathOf(name), Entry: e})
	}
	slices.SortFunc(items, func(a, b item) int { return bytes.Compare(a.path[:], b.path[:]) })
	return items
}

func TestWhatASignerMaySayOfATrie(t *testing.T) {
	names := make([]string, 40)
	for i := range names {
		names[i] = fmt.Sprint("name", i)
	}
	items := itemsOf(names...)
	at := blob.Hint{Length: 1}
	// split writes an inner node over the items, each leaf as edit leaves it.
	split := func(all nodes, edit func(i int, leaf []item) []item) *[ways]ref {
		children := new([ways]ref)
		for i, c := range spread(items, 0) {
			if leaf := edit(i, slices.Clone(c.items)); len(leaf) > 0 {
				tr := all.forged(&node{items: leaf}, len(leaf))
				children[i] = ref{digest: tr.Root, at: at, count: len(leaf)}
			}
		}
		return children
	}
	same := func(_ int, leaf []item) []item { return leaf }
	for _, tt := range []struct {
		name string
		make func(all nodes) Trie
		want string
	}{
		{"as it is", func(all nodes) Trie { return all.forged(&node{inner: split(all, same)}, 40) }, ""},
		{"a count that is not the root's", func(all nodes) Trie { return all.forged(&node{inner: split(all, same)}, 41) }, "node of 40 keys, not 41"},
		{"no keys and a root", func(all nodes) Trie { return all.forged(&node{inner: split(all, same)}, 0) }, "with 0 keys"},
		{"keys and no root", func(all nodes) Trie { return Trie{Root: emptyRoot, Keys: 1} }, "with 1 keys"},
		{"negative keys", func(all nodes) Trie { return all.forged(&node{inner: split(all, same)}, -1) }, "with -1 keys"},
		{"more keys than numbers", func(all nodes) Trie { return all.forged(&node{inner: split(all, same)}, blob.MaxNumber+1) }, "keys"},
		{"children that are exchanged", func(all nodes) Trie {
			children := split(all, same)
			children[0], children[1] = children[1], children[0]
			return all.forged(&node{inner: children}, 40)
		}, "in a subtree of other names"},
		{"a count that is not the child's", func(all nodes) Trie {
			children := split(all, same)
			children[3].count++
			return all.forged(&node{inner: children}, 41)
		}, "keys, not"},
		{"a leaf under the path of another", func(all nodes) Trie {
			return all.forged(&node{inner: split(all, func(i int, leaf []item) []item {
				if i == 5 {
					return itemsOf(spread(items, 0)[6].items[0].Name)
				}
				return leaf
			})}, 40-len(spread(items, 0)[5].items)+1)
		}, "in a subtree of other names"},
		{"a name twice", func(all nodes) Trie { return all.forged(&node{items: []item{items[0], items[0]}}, 2) }, "after"},
		{"names out of order", func(all nodes) Trie { return all.forged(&node{items: []item{items[1], items[0]}}, 2) }, "after"},
		{"a leaf of 33", func(all nodes) Trie { return all.forged(&node{items: items[:33]}, 33) }, "number of entries"},
		{"an inner node of 32", func(all nodes) Trie {
			children := split(all, same)
			left := 32
			for i := range children {
				children[i].count = min(children[i].count, left)
				left -= children[i].count
			}
			return all.forged(&node{inner: children}, 32)
		}, "inner node of 32 keys"},
		{"a sum beyond the numbers", func(all nodes) Trie {
			children := split(all, same)
			children[0].count, children[1].count = blob.MaxNumber, 1
			return all.forged(&node{inner: children}, 40)
		}, "keys, not 40"},
		{"a hint beyond the end of a pack", func(all nodes) Trie {
			children := split(all, same)
			children[0].at = blob.Hint{Offset: maxPack - 1, Length: 2}
			return all.forged(&node{inner: children}, 40)
		}, "beyond the end"},
		{"a hint of nothing", func(all nodes) Trie {
			children := split(all, same)
			children[0].at = blob.Hint{}
			return all.forged(&node{inner: children}, 40)
		}, "length"},
		{"a hint of too much", func(all nodes) Trie {
			children := split(all, same)
			children[0].at = blob.Hint{Length: maxNode + 1}
			return all.forged(&node{inner: children}, 40)
		}, "length"},
		{"a root that is a block", func(all nodes) Trie {
			return all.forged(&node{block: &block{versions: key("x", 1).Set}}, 1)
		}, "node of 0 keys"},
		{"a root beyond the end of a pack", func(all nodes) Trie {
			tr := all.forged(&node{items: items[:1]}, 1)
			tr.At = blob.Hint{Offset: maxPack, Length: 1}
			return tr
		}, "hint at"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := nodes{}
			tr := tt.make(all)
			var err error
			for _, err = range tr.All(t.Context(), all) {
			}
			wantError(t, err, tt.want)
		})
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err == nil:
	case want == "" || err == nil || !strings.Contains(err.Error(), want):
		t.Errorf("error %v, not %q", err, want)
	case !errors.Is(err, blob.ErrIntegrity):
		t.Errorf("%v is no ErrIntegrity", err)
	}
}

func TestWhatASignerMaySayOfAnEntry(t *testing.T) {
	full := func(e *Entry) {
		e.Versions = key("x", 20).Set[4:]
		e.Older = Older{Digest: Digest{1}, At: blob.Hint{Length: 1}, Count: 4}
	}
	for _, tt := range []struct {
		name string
		edit func(e *Entry)
		want string
	}{
		{"as it is", func(e *Entry) {}, ""},
		{"with older versions", full, ""},
		{"with all fields", func(e *Entry) {
			full(e)
			e.Earlier = []string{"y", "x", "y"}
			e.Current, e.Description, e.Expires, e.RotateEvery = 2, "pay roll", day, 90
		}, ""},
		{"no current version", func(e *Entry) { e.Current = 0 }, ""},
		{"a current version that is not there", func(e *Entry) { e.Current = 3 }, "current version 3"},
		{"a current version that is not there, beside older ones", func(e *Entry) { full(e); e.Current = 21 }, "current version 21"},
		{"an invalid name", func(e *Entry) { e.Name = "../x" }, "invalid name"},
		{"an invalid former name", func(e *Entry) { e.Earlier = []string{"X"} }, "former name"},
		{"17 former names", func(e *Entry) { e.Earlier = slices.Repeat([]string{"y"}, 17) }, "former names"},
		{"a description that does not print", func(e *Entry) { e.Description = "\x1b[2J" }, "description"},
		{"a description of 257 bytes", func(e *Entry) { e.Description = strings.Repeat("x", 257) }, "description"},
		{"no versions", func(e *Entry) { e.Versions, e.Current = nil, 0 }, "versions"},
		{"17 versions", func(e *Entry) { e.Versions = key("x", 17).Set }, "versions"},
		{"a version twice", func(e *Entry) { e.Versions[1] = e.Versions[0] }, "version"},
		{"a key twice", func(e *Entry) { e.Versions[1].KeyID = e.Versions[0].KeyID }, "two versions have the key"},
		{"older versions beside 15", func(e *Entry) { full(e); e.Versions = e.Versions[1:] }, "older versions"},
		{"older versions that there cannot be", func(e *Entry) { full(e); e.Older.Count = 5 }, "5 versions before version 5"},
		{"version 0", func(e *Entry) { e.Versions[0].Number = 0 }, "version"},
		{"version 2^31-1", func(e *Entry) { e.Versions[1].Number, e.Current = blob.MaxNumber, 1 }, ""},
		{"version 2^31", func(e *Entry) { e.Versions[1].Number, e.Current = blob.MaxNumber+1, 1 }, "version"},
		{"revision 0", func(e *Entry) { e.Versions[0].Revision = 0 }, "revision"},
		{"revision 2^31-1", func(e *Entry) { e.Versions[0].Revision = blob.MaxNumber }, ""},
		{"revision 2^31", func(e *Entry) { e.Versions[0].Revision = blob.MaxNumber + 1 }, "revision"},
		{"list 0", func(e *Entry) { e.Versions[0].List = 0 }, "list of members"},
		{"checkpoint 0", func(e *Entry) { e.Versions[0].Changed = 0 }, "checkpoint"},
		{"checkpoint 2^31", func(e *Entry) { e.Versions[0].Changed = blob.MaxNumber + 1 }, "checkpoint"},
		{"days 2^31", func(e *Entry) { e.RotateEvery = blob.MaxNumber + 1 }, "days"},
		{"an unknown algorithm", func(e *Entry) { e.Versions[0].Algorithm = keyspec.TripleDES + 1 }, "unknown algorithm"},
		{"no purpose", func(e *Entry) { e.Versions[0].Purpose = 0 }, "unknown purpose"},
		{"a purpose of other keys", func(e *Entry) { e.Versions[0].Purpose = keyspec.Authenticate }, "purpose"},
		{"no status", func(e *Entry) { e.Versions[0].Status = 0 }, "unknown status"},
		{"status 5", func(e *Entry) { e.Versions[0].Status = 5 }, "unknown status"},
		{"a key of a legacy algorithm", func(e *Entry) {
			v := &e.Versions[0]
			v.Algorithm, v.Purpose, v.KeySize, v.Imported, v.Derived = keyspec.RC4, keyspec.Decrypt, 5, true, true
		}, ""},
		{"a key of no bytes", func(e *Entry) {
			v := &e.Versions[0]
			v.Algorithm, v.Purpose, v.KeySize = keyspec.RC4, keyspec.Decrypt, 0
		}, "rc4 key of 0 bytes"},
		{"a DES key of 7 bytes", func(e *Entry) {
			v := &e.Versions[0]
			v.Algorithm, v.Purpose, v.KeySize = keyspec.DES, keyspec.Decrypt, 7
		}, "des key of 7 bytes"},
		{"an AES-256 key of 16 bytes", func(e *Entry) { e.Versions[0].KeySize = 16 }, "written only"},
		{"1970", func(e *Entry) { e.Versions[0].Created = day.AddDate(-56, 0, 0) }, ""},
		{"1969", func(e *Entry) { e.Versions[0].Created = day.AddDate(-57, 0, 0) }, "time of creation"},
		{"9999", func(e *Entry) { e.Expires = day.AddDate(7973, 0, 0) }, ""},
		{"10000", func(e *Entry) { e.Expires = day.AddDate(7974, 0, 0) }, "time of expiry"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := key("x", 2).Entry
			e.Versions = key("x", 2).Set
			tt.edit(&e)
			items := []item{{path: pathOf(e.Name), Entry: e}}
			raw := (&node{items: items}).appendHints(appendLeaf(nil, items))
			got, _, err := parseNode(raw)
			if tt.want != "written only" { // what has no encoding cannot be read
				wantError(t, err, tt.want)
			}
			if err == nil && tt.want == "" && fmt.Sprint(got.items[0].Entry) != fmt.Sprint(e) {
				t.Errorf("%v, not %v", got.items[0].Entry, e)
			}
			_, err = (&writer{put: func(Pack) error { return nil }}).leaf(items)
			if (err == nil) != (tt.want == "") {
				t.Errorf("written with %v", err)
			}
		})
	}
}

func TestWhatASignerMaySayOfOlderVersions(t *testing.T) {
	all := key("x", 600).Set
	at := blob.Hint{Length: 1}
	// entry returns a trie of one entry whose older versions are as edit leaves them.
	entry := func(n nodes, edit func(i int, bl *block)) Trie {
		var before ref
		for i, some := range slices.Collect(slices.Chunk(all[:584], maxBlock)) {
			bl := &block{before, slices.Clone(some)}
			edit(i, bl)
			tr := n.forged(&node{block: bl}, 0)
			before = ref{digest: tr.Root, at: at, count: bl.before.count + len(bl.versions)}
		}
		e := Entry{Name: "x", Versions: all[584:], Older: Older{before.digest, at, before.count}}
		return n.forged(&node{items: []item{{path: pathOf("x"), Entry: e}}}, 1)
	}
	for _, tt := range []struct {
		name string
		edit func(i int, bl *block)
		want string
	}{
		{"as they are", func(i int, bl *block) {}, ""},
		{"a block that is not full", func(i int, bl *block) {
			if i == 0 {
				bl.versions = bl.versions[1:]
			}
		}, "block after 511 versions"},
		{"a count that is not that of the blocks", func(i int, bl *block) {
			if i == 2 {
				bl.before.count = maxBlock
			}
		}, "older versions"},
		{"a version in two blocks", func(i int, bl *block) {
			if i == 1 {
				bl.versions[0].Number = maxBlock
			}
		}, "version 256"},
		{"versions out of order", func(i int, bl *block) {
			bl.versions[3], bl.versions[2] = bl.versions[2], bl.versions[3]
		}, "version"},
		{"a key twice", func(i int, bl *block) { bl.versions[3].KeyID = bl.versions[2].KeyID }, "two versions have the key"},
		{"no versions", func(i int, bl *block) {
			if i == 2 {
				bl.versions = nil
			}
		}, "number of versions"},
		{"a hint beyond the end of a pack", func(i int, bl *block) {
			if i == 2 {
				bl.before.at.Offset = maxPack
			}
		}, "offset"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := nodes{}
			tr := entry(n, tt.edit)
			wantError(t, readAll(n, tr), tt.want)
			e, ok, err := tr.Get(t.Context(), n, "x")
			if err != nil || !ok {
				t.Fatal(err)
			}
			for _, err = range tr.Versions(t.Context(), n, e) {
			}
			wantError(t, err, tt.want)
		})
	}
}

func TestANumberHasOneForm(t *testing.T) {
	raw := appendLeaf(nil, itemsOf("x"))
	if _, _, err := parseNode(raw); err != nil {
		t.Fatal(err)
	}
	// The numbers before the key id and after the digest are single bytes, or end in one:
	// written in one byte more they must be refused.
	for i, b := range raw {
		if b < 0x80 && (i < 11 || i >= len(raw)-3) {
			bad := slices.Concat(raw[:i], []byte{b | 0x80, 0}, raw[i+1:])
			if _, _, err := parseNode(bad); err == nil {
				t.Errorf("byte %d in two bytes passes", i)
			}
		}
	}
	bad := binary.AppendUvarint([]byte{leafKind, 1, 1, 'x', 0}, 1<<63)
	if _, _, err := parseNode(bad); !errors.Is(err, blob.ErrMalformed) {
		t.Error(err)
	}
}

// A pack that a hint names a second time has one number.
func TestAHintHasOneForm(t *testing.T) {
	id := blob.PackID{1}
	children := new([ways]ref)
	for i := range children {
		children[i] = ref{count: 3, at: blob.Hint{Pack: id, Length: 1}}
	}
	canonical := appendInner(nil, children)
	good := (&node{inner: children}).appendHints(bytes.Clone(canonical))
	if _, _, err := parseNode(good); err != nil {
		t.Fatal(err)
	}
	one := slices.Concat([]byte{1}, id[:], []byte{0, 1})
	again := slices.Concat([]byte{2}, id[:], []byte{0, 1})
	zero := slices.Concat([]byte{1}, make([]byte, 16), []byte{0, 1})
	rest := bytes.Repeat([]byte{1, 0, 1}, ways-2)
	for name, bad := range map[string][]byte{
		"named twice":      slices.Concat(canonical, one, again, rest),
		"same pack, named": slices.Concat(canonical, zero, []byte{1, 0, 1}, rest),
		"not named yet":    slices.Concat(canonical, []byte{2}, id[:], []byte{0, 1, 1, 0, 1}, rest),
	} {
		if _, _, err := parseNode(bad); !errors.Is(err, blob.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheLargestNode(t *testing.T) {
	e := Entry{
		Name: strings.Repeat("n", maxName), Earlier: slices.Repeat([]string{strings.Repeat("e", maxName)}, MaxEarlier),
		Description: strings.Repeat("d", MaxDescription), Expires: day.AddDate(7973, 0, 0), RotateEvery: blob.MaxNumber,
		Older: Older{Count: 1, At: blob.Hint{Pack: blob.PackID{1}, Offset: maxPack - maxNode, Length: maxNode}},
	}
	for i := range MaxVersions {
		v := version("x", i+1)
		v.Number, v.Revision, v.List, v.Changed = blob.MaxNumber-MaxVersions+i+1, blob.MaxNumber, blob.MaxNumber, blob.MaxNumber
		v.Created, v.ChangedAt = day.AddDate(7973, 0, 0), day.AddDate(-56, 0, 0)
		e.Versions = append(e.Versions, v)
	}
	e.Older.Count = blob.MaxNumber - MaxVersions
	raw := appendEntry(nil, &e)
	if len(raw) > maxEntry || len(raw) < maxEntry*9/10 {
		t.Errorf("the largest entry has %d bytes, and the limit is %d", len(raw), maxEntry)
	}
	if maxNode > 1<<20 {
		t.Errorf("a node may have %d bytes", maxNode)
	}
}

func FuzzNode(f *testing.F) {
	store, tr := grown(f)
	seen := map[byte]int{}
	for _, raw := range nodesOf(f, newStoreSource(store), tr) {
		if seen[raw[0]]++; seen[raw[0]] <= 2 {
			f.Add(raw)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, covered, err := parseNode(data)
		if err != nil {
			if !errors.Is(err, blob.ErrMalformed) {
				t.Error(err)
			}
			return
		}
		canonical := n.appendCanonical(nil)
		if !bytes.Equal(canonical, data[:covered]) || !bytes.Equal(n.appendHints(canonical), data) {
			t.Error("a node has a second form")
		}
		if len(data) > maxNode {
			t.Errorf("a node of %d bytes", len(data))
		}
	})
}
