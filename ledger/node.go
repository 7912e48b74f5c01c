package ledger

import (
	"bytes"
	"crypto/sha256"

	"github.com/hsmkeys/hsmkeys/blob"
)

const (
	// nodePrefix goes before a node, which starts with its kind, when it is hashed: no
	// node is anything else that has a digest, nor a node of another kind.
	nodePrefix = "hsmkeys node 1\x00"

	ways    = 16 // children of an inner node
	maxLeaf = 32 // entries of a leaf; more make an inner node

	maxDepth = 2 * sha256.Size // nibbles of a path

	// maxHint is the size of a hint that names a new pack.
	maxHint = 2 + 16 + 2*5

	// maxNode is the most that a node has, in bytes: a leaf of the largest entries.
	maxNode = 2 + maxLeaf*(maxEntry+maxHint)
)

// Kinds of nodes.
const (
	leafKind  = 1 + iota // entries, sorted by path
	innerKind            // the counts and digests of 16 children
	blockKind            // older versions of one entry
	patchKind            // an inner node, as what differs from another
)

// A ref is what is known of a node before it is read.
type ref struct {
	digest Digest
	at     blob.Hint
	count  int // of entries, or of versions in a block and those before it
	pack   int // number of the pack that a writer has put it into, from 1; 0: at says it
}

// An item is an entry under its path.
type item struct {
	path Digest
	Entry
	pack int // of Older, as in ref
}

func (it *item) older() ref {
	return ref{digest: it.Older.Digest, at: it.Older.At, count: it.Older.Count, pack: it.pack}
}

// A block is older versions of an entry.
type block struct {
	before   ref // the block before; its count is a multiple of maxBlock, or 0
	versions []Version
}

func pathOf(name string) Digest {
	var buf [maxName]byte
	return sha256.Sum256(append(buf[:0], name...))
}

// nibble returns four bits of a path.
func nibble(path *Digest, depth int) int {
	return int(path[depth/2]>>(4*(1-depth%2))) & 0xf
}

// below reports whether two paths have the same first nibbles.
func below(a, b *Digest, depth int) bool {
	return bytes.Equal(a[:depth/2], b[:depth/2]) && (depth%2 == 0 || a[depth/2]>>4 == b[depth/2]>>4)
}

// child returns the path of a child: the first nibbles are those of its parent.
func child(parent Digest, depth, i int) Digest {
	parent[depth/2] |= byte(i << (4 * (1 - depth%2)))
	return parent
}

// nodeDigest is what a node is named by. Its hints, which follow, are no part of it.
func nodeDigest(canonical []byte) (out Digest) {
	h := sha256.New()
	h.Write([]byte(nodePrefix))
	h.Write(canonical)
	h.Sum(out[:0])
	return out
}

func appendLeaf(b []byte, items []item) []byte {
	b = append(b, leafKind, byte(len(items)))
	for i := range items {
		b = appendEntry(b, &items[i].Entry)
	}
	return b
}

// leaf reads a leaf up to its hints.
func (d *decoder) leaf() []item {
	n := d.number("number of entries", 1, maxLeaf)
	if d.err != nil {
		return nil
	}
	items := make([]item, n)
	for i := range items {
		items[i].Entry = d.entry()
		if d.err != nil {
			return nil
		}
		items[i].path = pathOf(items[i].Name)
		if i > 0 && bytes.Compare(items[i-1].path[:], items[i].path[:]) >= 0 {
			d.fail("%q after %q", items[i].Name, items[i-1].Name)
		}
	}
	return items
}

func appendInner(b []byte, children *[ways]ref) []byte {
	b = append(b, innerKind)
	for i := range children {
		b = appendChild(b, &children[i])
	}
	return b
}

// inner reads an inner node up to its hints.
func (d *decoder) inner() *[ways]ref {
	children := new([ways]ref)
	for i := range children {
		d.child(&children[i])
	}
	return children
}

func appendChild(b []byte, c *ref) []byte {
	if b = appendNumber(b, c.count); c.count > 0 {
		b = append(b, c.digest[:]...)
	}
	return b
}

func (d *decoder) child(c *ref) {
	if c.count = d.number("number of keys", 0, blob.MaxNumber); c.count > 0 {
		c.digest = d.digest("digest of a node")
	}
}

// keys returns how many keys there are below an inner node.
func keys(children *[ways]ref) (total int64) {
	for i := range children {
		total += int64(children[i].count)
	}
	return total
}

func appendBlock(b []byte, bl *block) []byte {
	b = appendNumber(append(b, blockKind), bl.before.count)
	if bl.before.count > 0 {
		b = append(b, bl.before.digest[:]...)
	}
	return appendVersions(b, bl.versions)
}

// block reads a block up to its hint.
func (d *decoder) block() *block {
	bl := new(block)
	bl.before.count = d.number("number of versions before", 0, blob.MaxNumber)
	if bl.before.count%maxBlock != 0 {
		d.fail("block after %d versions", bl.before.count)
	}
	if bl.before.count > 0 {
		bl.before.digest = d.digest("digest of the block before")
	}
	bl.versions = d.versions(maxBlock)
	if d.err == nil {
		if err := validateVersions(bl.versions); err != nil {
			d.fail("%w", err)
		}
	}
	return bl
}

// A node is one of the four kinds. A reader replaces a patch by the inner node it makes.
type node struct {
	items []item
	inner *[ways]ref
	block *block
	patch *patch

	base *base // of an inner node that has been read: what it can be patched from
}

// refs calls visit with each ref that has a hint, in the order of the hints.
func (n *node) refs(visit func(at *blob.Hint)) {
	for i := range n.items {
		if n.items[i].Older.Count > 0 {
			visit(&n.items[i].Older.At)
		}
	}
	if n.inner != nil {
		for i := range n.inner {
			if n.inner[i].count > 0 {
				visit(&n.inner[i].at)
			}
		}
	}
	if n.block != nil && n.block.before.count > 0 {
		visit(&n.block.before.at)
	}
	if n.patch != nil {
		n.patch.refs(visit)
	}
}

func (n *node) appendCanonical(b []byte) []byte {
	switch {
	case n.inner != nil:
		return appendInner(b, n.inner)
	case n.block != nil:
		return appendBlock(b, n.block)
	case n.patch != nil:
		return appendPatch(b, n.patch)
	}
	return appendLeaf(b, n.items)
}

// appendHints appends the hints of a node. A hint starts with 0 for the same pack, i for the
// i-th pack that the hints before name, and one more for a new one, which follows.
func (n *node) appendHints(b []byte) []byte {
	var packs []blob.PackID
	n.refs(func(at *blob.Hint) { b, packs = appendHint(b, packs, *at) })
	return b
}

func appendHint(b []byte, packs []blob.PackID, at blob.Hint) ([]byte, []blob.PackID) {
	i := 0
	if at.Pack != (blob.PackID{}) {
		for i < len(packs) && packs[i] != at.Pack {
			i++
		}
		b = appendNumber(b, i+1)
		if i == len(packs) {
			packs = append(packs, at.Pack)
			b = append(b, at.Pack[:]...)
		}
	} else {
		b = append(b, 0)
	}
	return appendNumber(appendNumber(b, at.Offset), at.Length), packs
}

// hint reads a hint, and checks that a node can be there.
func (d *decoder) hint(packs []blob.PackID) (blob.Hint, []blob.PackID) {
	var at blob.Hint
	switch i := d.number("pack", 0, len(packs)+1); {
	case i > len(packs):
		copy(at.Pack[:], d.bytes("pack", len(at.Pack)))
		packs = append(packs, at.Pack)
	case i > 0:
		at.Pack = packs[i-1]
	}
	at.Offset = d.number("offset", 0, maxPack-1)
	at.Length = d.number("length", 1, maxNode)
	if at.Offset+at.Length > maxPack {
		d.fail("hint beyond the end of a pack")
	}
	return at, packs
}

// parseNode parses a node, which has the one encoding of what it says. It returns how many
// bytes there are before the hints; these are what the digest covers.
func parseNode(raw []byte) (n *node, covered int, err error) {
	d := &decoder{in: raw}
	n = new(node)
	switch kind := d.byte("node"); kind {
	case leafKind:
		n.items = d.leaf()
	case innerKind:
		n.inner = d.inner()
	case blockKind:
		n.block = d.block()
	case patchKind:
		n.patch = d.patch()
	default:
		d.fail("node of kind %d", kind)
	}
	covered = len(raw) - len(d.in)
	var packs []blob.PackID
	n.refs(func(at *blob.Hint) { *at, packs = d.hint(packs) })
	if d.err != nil {
		return nil, 0, d.err
	}
	again := n.appendHints(n.appendCanonical(make([]byte, 0, len(raw))))
	if !bytes.Equal(again, raw) {
		return nil, 0, malformed("node in another form than its own")
	}
	return n, covered, nil
}
