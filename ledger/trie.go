package ledger

import (
	"context"
	"iter"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Source returns the bytes of nodes as they are stored. It is not trusted: a [Trie]
// checks the digest, the form and the place of each node.
type Source interface {
	Node(ctx context.Context, digest Digest, at blob.Hint) ([]byte, error)
}

// A Trie is a map from names to entries, as a checkpoint names it.
type Trie struct {
	Root Digest
	At   blob.Hint // where the root lies; zero of an empty trie, which has no nodes
	Keys int
}

// Empty returns the trie without entries.
func Empty() Trie { panic("not yet") }

// Get returns the entry of a name, and reports whether there is one.
func (t Trie) Get(ctx context.Context, src Source, name string) (Entry, bool, error) {
	panic("not yet")
}

// Versions returns all versions of an entry, the newest first. Blocks of older ones
// are read as needed. An error ends it.
func (t Trie) Versions(ctx context.Context, src Source, e Entry) iter.Seq2[Version, error] {
	panic("not yet")
}

// Version returns one version of an entry, and reports whether there is one.
func (t Trie) Version(ctx context.Context, src Source, e Entry, number int) (Version, bool, error) {
	panic("not yet")
}

// All returns all entries in the order of their paths. Every node is checked. An error
// ends it.
func (t Trie) All(ctx context.Context, src Source) iter.Seq2[Entry, error] { panic("not yet") }

// Sorted returns the entries whose names start with prefix, sorted by name. It reads all
// of the trie before it returns the first.
func (t Trie) Sorted(ctx context.Context, src Source, prefix string) iter.Seq2[Entry, error] {
	panic("not yet")
}

// An Update changes the entry of one name, or makes it.
type Update struct {
	// Entry has the new fields of the name. Its Versions and Older are ignored, and
	// carried over from what the trie has.
	Entry Entry

	// From is the name that the entry has in the trie, where that is another than
	// Entry.Name: it is removed there. "": the same name.
	From string

	// Set are versions that are new or changed, ascending.
	Set []Version
}

// Update returns the trie with the updates, and the packs of its new nodes, in the order
// to store them in. No name may be in two updates. The root depends only on the entries
// that the trie then has, not on how they came there.
func (t Trie) Update(ctx context.Context, src Source, updates []Update) (Trie, []Pack, error) {
	panic("not yet")
}

// A Pack is an object of nodes, at most 16 MiB.
type Pack struct {
	ID   blob.PackID
	Data []byte
}

// Repack writes all nodes of the trie anew: put is called with each pack as soon as it
// is full. The trie that it returns has the same root, in the last pack.
func (t Trie) Repack(ctx context.Context, src Source, put func(Pack) error) (Trie, error) {
	panic("not yet")
}

// A Difference is an entry that is not the same in two tries.
type Difference struct {
	Old, New *Entry              // nil: there is none
	Versions []VersionDifference // those that differ, ascending; none where only other fields do
}

// A VersionDifference is a version that is not the same in two entries.
type VersionDifference struct {
	Old, New *Version // nil: there is none
}

// Diff returns the entries that differ between two tries, in the order of their paths. It
// reads only subtrees that differ. An error ends it.
func Diff(ctx context.Context, src Source, old, new Trie) iter.Seq2[Difference, error] {
	panic("not yet")
}

// A RangeReader is the part of a blob.Store that reads nodes.
type RangeReader interface {
	GetRange(ctx context.Context, path string, offset int64, length int) ([]byte, error)
}

// StoreSource returns a source of the nodes in the packs of a store. It is safe for
// concurrent use, and keeps at most 16 MiB of them.
func StoreSource(store RangeReader) Source { panic("not yet") }
