package ledger

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Source returns the bytes of nodes as they are stored, which the caller does not modify.
// It is not trusted: a [Trie] checks the digest, the form and the place of each node.
type Source interface {
	Node(ctx context.Context, digest Digest, at blob.Hint) ([]byte, error)
}

// A Trie is a map from names to entries, as a checkpoint names it. It is a hash trie over
// the SHA-256 of the names, 16 ways: a subtree of at most 32 entries is a leaf, a larger one
// is an inner node, so that the root depends on the entries alone.
type Trie struct {
	Root Digest
	At   blob.Hint // where the root is; not set in an empty trie, which has no nodes
	Keys int       // entries, 0..blob.MaxNumber
}

// emptyTrie returns the trie without entries. Its root is the digest of a leaf of none.
func emptyTrie() Trie { return Trie{Root: emptyRoot} }

var emptyRoot = nodeDigest(appendLeaf(nil, nil))

// root returns the ref of the root. Only the empty trie has no keys.
func (t Trie) root() (ref, error) {
	if t.Keys < 0 || t.Keys > blob.MaxNumber || (t.Keys == 0) != (t.Root == emptyRoot) {
		return ref{}, malformed("state: root %x with %d keys", t.Root[:4], t.Keys)
	}
	return ref{digest: t.Root, at: t.At, count: t.Keys}, nil
}

// Get returns the entry of a name, and reports whether there is one. It reads the nodes on
// the path to it: five of a million keys.
func (t Trie) Get(ctx context.Context, src Source, name string) (Entry, bool, error) {
	at, err := t.root()
	if err != nil {
		return Entry{}, false, err
	}
	r, path := reader{ctx, src}, pathOf(name)
	for depth := 0; at.count > 0; depth++ {
		n, err := r.subtree(at, path, depth)
		if err != nil {
			return Entry{}, false, err
		}
		if n.inner == nil {
			e, ok := find(n.items, name)
			return e, ok, nil
		}
		at = n.inner[nibble(&path, depth)]
	}
	return Entry{}, false, nil
}

func find(items []item, name string) (Entry, bool) {
	for i := range items {
		if items[i].Name == name {
			return items[i].Entry, true
		}
	}
	return Entry{}, false
}

// Versions returns all versions of an entry of the trie, the newest first. Blocks of older
// ones are read as they are needed. An error ends it.
func (t Trie) Versions(ctx context.Context, src Source, e Entry) iter.Seq2[Version, error] {
	return func(yield func(Version, error) bool) {
		c := chainOf(&e)
		for {
			for _, v := range slices.Backward(c.versions) {
				if !yield(v, nil) {
					return
				}
			}
			if c.before.count == 0 {
				return
			}
			lowest := c.versions[0].Number
			c.versions = nil
			if err := c.load(reader{ctx, src}, lowest); err != nil {
				yield(Version{}, err)
				return
			}
		}
	}
}

// Version returns one version of an entry of the trie, and reports whether there is one.
func (t Trie) Version(ctx context.Context, src Source, e Entry, number int) (Version, bool, error) {
	for v, err := range t.Versions(ctx, src, e) {
		if err != nil {
			return Version{}, false, err
		}
		if v.Number <= number {
			return v, v.Number == number, nil
		}
	}
	return Version{}, false, nil
}

// A chain is the versions of an entry as far as they have been read.
type chain struct {
	versions []Version // ascending
	before   ref       // the block before them
}

func chainOf(e *Entry) chain {
	it := item{Entry: *e}
	return chain{e.Versions, it.older()}
}

// load reads the block before the versions, which are all of at least lowest.
func (c *chain) load(r reader, lowest int) error {
	bl, err := r.block(c.before, lowest)
	if err != nil {
		return err
	}
	c.versions = append(bl.versions, c.versions...)
	c.before = bl.before
	return nil
}

// All returns all entries in the order of their paths. Every node is checked, but for the
// blocks of older versions. An error ends it.
func (t Trie) All(ctx context.Context, src Source) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		at, err := t.root()
		if err == nil {
			_, err = reader{ctx, src}.walkAll(at, func(items []item) bool {
				for i := range items {
					if !yield(items[i].Entry, nil) {
						return false
					}
				}
				return true
			})
		}
		if err != nil {
			yield(Entry{}, err)
		}
	}
}

// named adds the name to an error.
func named(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%q: %w", name, err)
}
