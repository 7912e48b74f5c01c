package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

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

// Update returns the trie with the updates, and the packs of its new nodes, which must be
// stored before the trie is used. Where nothing changes there are none. No name may be in two
// updates. The root depends only on the entries that the trie then has, not on how they came
// there.
func (t Trie) Update(ctx context.Context, src Source, updates []Update) (Trie, []Pack, error) {
	at, err := t.root()
	if err != nil {
		return Trie{}, nil, err
	}
	r := reader{ctx, src}
	edits, err := t.edits(r, updates)
	if err != nil || len(edits) == 0 {
		return t, nil, err
	}
	var packs []Pack
	u := updater{r, writer{put: func(p Pack) error { packs = append(packs, p); return nil }}}
	root, err := u.apply(subtree{ref: at}, Digest{}, 0, edits)
	if err != nil {
		return Trie{}, nil, err
	}
	if root.ref, err = u.store(root); err != nil {
		return Trie{}, nil, err
	}
	if root.size() == t.Keys && root.digest == t.Root { // nothing has changed
		return t, nil, nil
	}
	out, err := u.w.finish(root.ref)
	return out, packs, err
}

// An edit is what happens to the entry under a path.
type edit struct {
	path Digest
	*Update
	from   *Entry // what is renamed
	remove bool
}

// edits returns the edits of updates, sorted by path.
func (t Trie) edits(r reader, updates []Update) ([]edit, error) {
	edits := make([]edit, 0, len(updates))
	for i := range updates {
		up := &updates[i]
		ed := edit{path: pathOf(up.Entry.Name), Update: up}
		if up.From != "" {
			from, ok, err := t.Get(r.ctx, r.src, up.From)
			if err != nil {
				return nil, err
			}
			if !ok {
				return nil, named(up.From, errNoEntry)
			}
			ed.from = &from
			edits = append(edits, edit{path: pathOf(up.From), Update: up, remove: true})
		}
		edits = append(edits, ed)
	}
	slices.SortFunc(edits, func(a, b edit) int { return bytes.Compare(a.path[:], b.path[:]) })
	for i := range edits {
		if i > 0 && edits[i].path == edits[i-1].path {
			return nil, named(edits[i].Entry.Name, errTwice)
		}
	}
	return edits, nil
}

var (
	errNoEntry = errors.New("no such entry")
	errTwice   = errors.New("two updates of one name")
	errTaken   = keyspec.NewKind("there is an entry of that name", blob.ErrExists)
)

// An updater applies edits. Each node on their way is read once and written once.
type updater struct {
	r reader
	w writer
}

// apply applies edits to a subtree.
func (u *updater) apply(s subtree, path Digest, depth int, edits []edit) (subtree, error) {
	if len(edits) == 0 {
		return s, nil
	}
	children, base, err := u.split(&s, path, depth, len(edits))
	if err != nil {
		return subtree{}, err
	}
	if children == nil {
		items, err := u.merge(s.items, edits)
		return subtree{items: items, loaded: true}, err
	}
	for i := range children {
		n := sort.Search(len(edits), func(j int) bool { return nibble(&edits[j].path, depth) > i })
		children[i], err = u.apply(children[i], child(path, depth, i), depth+1, edits[:n])
		if err != nil {
			return subtree{}, err
		}
		edits = edits[n:]
	}
	return u.join(children, base, path, depth)
}

// split returns the children of a subtree. It returns none where so many edits of its items
// leave a leaf; these are then read.
func (u *updater) split(s *subtree, path Digest, depth, edits int) (*[ways]subtree, *base, error) {
	n, err := s.load(u.r, path, depth)
	switch {
	case err != nil:
		return nil, nil, err
	case n != nil:
		return unread(n.inner), n.base, nil
	case len(s.items)+edits <= maxLeaf:
		return nil, nil, nil
	}
	return spread(s.items, depth), nil, nil
}

// join returns the subtree of children. It writes their parent unless that is a leaf.
func (u *updater) join(children *[ways]subtree, base *base, path Digest, depth int) (subtree, error) {
	total := 0
	for i := range children {
		total += children[i].size()
	}
	if total <= maxLeaf {
		return u.gather(children, path, depth)
	}
	var refs [ways]ref
	for i := range children {
		var err error
		if refs[i], err = u.store(children[i]); err != nil {
			return subtree{}, err
		}
	}
	if depth < wholeLevels {
		base = nil
	}
	at, err := u.w.inner(&refs, base)
	return subtree{ref: at}, err
}

// gather returns the items of children that become one leaf.
func (u *updater) gather(children *[ways]subtree, path Digest, depth int) (subtree, error) {
	all := subtree{loaded: true}
	for i := range children {
		if _, err := children[i].load(u.r, child(path, depth, i), depth+1); err != nil {
			return subtree{}, err
		}
		all.items = append(all.items, children[i].items...)
	}
	return all, nil
}

// store writes a subtree that is not written.
func (u *updater) store(s subtree) (ref, error) {
	if !s.loaded || len(s.items) == 0 {
		return s.ref, nil
	}
	return u.w.leaf(s.items)
}

// merge applies edits to items. Both are sorted by path.
func (u *updater) merge(items []item, edits []edit) ([]item, error) {
	out := make([]item, 0, len(items)+len(edits))
	for i := range edits {
		ed := &edits[i]
		for len(items) > 0 && bytes.Compare(items[0].path[:], ed.path[:]) < 0 {
			out, items = append(out, items[0]), items[1:]
		}
		var old *item
		if len(items) > 0 && items[0].path == ed.path {
			old, items = &items[0], items[1:]
		}
		if ed.remove {
			continue
		}
		it, err := u.edit(old, ed)
		if err != nil {
			return nil, named(ed.Entry.Name, err)
		}
		out = append(out, it)
	}
	return append(out, items...), nil
}

// edit returns the item that an edit makes of another.
func (u *updater) edit(old *item, ed *edit) (item, error) {
	it := item{path: ed.path, Entry: ed.Entry}
	var c chain
	switch {
	case ed.from != nil && old != nil:
		return item{}, errTaken
	case ed.from != nil:
		c = chainOf(ed.from)
	case old != nil:
		c = chainOf(&old.Entry)
	}
	err := u.set(&c, ed.Set)
	it.Versions, it.Older.Count, it.Older.Digest = c.versions, c.before.count, c.before.digest
	it.Older.At, it.pack = c.before.at, c.before.pack
	return it, err
}

// set sets versions in a chain, and writes blocks of those for which the entry has no room.
func (u *updater) set(c *chain, set []Version) error {
	for i := range set {
		if !validNumber(set[i].Number) || i > 0 && set[i].Number <= set[i-1].Number {
			return fmt.Errorf("version %d is out of order", set[i].Number)
		}
	}
	for c.before.count > 0 && len(set) > 0 && set[0].Number < c.versions[0].Number {
		if err := c.load(u.r, c.versions[0].Number); err != nil {
			return err
		}
	}
	all := mergeVersions(c.versions, set)
	if c.versions = all; len(all) <= MaxVersions {
		return nil
	}
	if c.before.count%maxBlock != 0 { // is not full, and the next version belongs there
		if err := c.load(u.r, all[0].Number); err != nil {
			return err
		}
	}
	older := c.versions[:len(c.versions)-MaxVersions]
	c.versions = c.versions[len(older):]
	if err := uniqueKeys(append(older[max(0, len(older)-maxBlock):len(older):len(older)], c.versions...)); err != nil {
		return err
	}
	for some := range slices.Chunk(older, maxBlock) {
		at, err := u.w.block(&block{c.before, some})
		if err != nil {
			return err
		}
		c.before = at
	}
	return nil
}

// mergeVersions returns the versions of both. Of two of one number it takes that of set.
func mergeVersions(old, set []Version) []Version {
	out := make([]Version, 0, len(old)+len(set))
	for _, v := range set {
		for len(old) > 0 && old[0].Number < v.Number {
			out, old = append(out, old[0]), old[1:]
		}
		if len(old) > 0 && old[0].Number == v.Number {
			old = old[1:]
		}
		out = append(out, v)
	}
	return append(out, old...)
}
