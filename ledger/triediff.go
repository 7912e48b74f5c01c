package ledger

import (
	"bytes"
	"context"
	"iter"
)

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
	return func(yield func(Difference, error) bool) {
		d := differ{reader{ctx, src}, yield}
		a, err := old.root()
		if err == nil {
			var b ref
			if b, err = new.root(); err == nil {
				_, err = d.subtrees(subtree{ref: a}, subtree{ref: b}, Digest{}, 0)
			}
		}
		if err != nil {
			yield(Difference{}, err)
		}
	}
}

type differ struct {
	r     reader
	yield func(Difference, error) bool
}

// subtrees compares two subtrees.
func (d *differ) subtrees(a, b subtree, path Digest, depth int) (more bool, err error) {
	if !a.loaded && !b.loaded && a.count == b.count && a.digest == b.digest {
		return true, nil
	}
	an, err := a.load(d.r, path, depth)
	if err != nil {
		return false, err
	}
	bn, err := b.load(d.r, path, depth)
	if err != nil {
		return false, err
	}
	if an == nil && bn == nil {
		return d.items(a.items, b.items)
	}
	as, bs := childrenOf(an, a.items, depth), childrenOf(bn, b.items, depth)
	for i := range as {
		if more, err := d.subtrees(as[i], bs[i], child(path, depth, i), depth+1); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}

// childrenOf returns the children of an inner node, or those that the items of a leaf would
// be spread over.
func childrenOf(n *node, items []item, depth int) *[ways]subtree {
	if n != nil {
		return unread(n.inner)
	}
	return spread(items, depth)
}

// items compares what two leaves have.
func (d *differ) items(a, b []item) (more bool, err error) {
	for len(a) > 0 || len(b) > 0 {
		var x, y *Entry
		switch order := compareHeads(a, b); {
		case order < 0:
			x, a = &a[0].Entry, a[1:]
		case order > 0:
			y, b = &b[0].Entry, b[1:]
		default:
			x, y, a, b = &a[0].Entry, &b[0].Entry, a[1:], b[1:]
		}
		if x != nil && y != nil && bytes.Equal(appendEntry(nil, x), appendEntry(nil, y)) {
			continue
		}
		versions, err := d.versions(x, y)
		if err != nil {
			return false, err
		}
		if !d.yield(Difference{x, y, versions}, nil) {
			return false, nil
		}
	}
	return true, nil
}

// compareHeads returns which of two lists has the next item: < 0 the first, > 0 the second,
// 0 both.
func compareHeads(a, b []item) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return bytes.Compare(a[0].path[:], b[0].path[:])
}

// versions returns the versions that differ. It reads blocks of older ones as far back as
// these differ.
func (d *differ) versions(x, y *Entry) ([]VersionDifference, error) {
	var a, b chain
	if x != nil {
		a = chainOf(x)
	}
	if y != nil {
		b = chainOf(y)
	}
	for a.before.count != b.before.count || a.before.digest != b.before.digest {
		longer := &a
		if b.before.count > a.before.count {
			longer = &b
		}
		both := a.before.count == b.before.count
		if err := longer.load(d.r, longer.versions[0].Number); err != nil {
			return nil, err
		}
		if both {
			if err := b.load(d.r, b.versions[0].Number); err != nil {
				return nil, err
			}
		}
	}
	return compareVersions(a.versions, b.versions), nil
}

func compareVersions(a, b []Version) (out []VersionDifference) {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Number < b[0].Number:
			out, a = append(out, VersionDifference{Old: &a[0]}), a[1:]
		case len(a) == 0 || b[0].Number < a[0].Number:
			out, b = append(out, VersionDifference{New: &b[0]}), b[1:]
		default:
			if !bytes.Equal(appendVersion(nil, &a[0], 0), appendVersion(nil, &b[0], 0)) {
				out = append(out, VersionDifference{&a[0], &b[0]})
			}
			a, b = a[1:], b[1:]
		}
	}
	return out
}
