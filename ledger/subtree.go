package ledger

// A subtree is either a node that has not been read, or the items of a leaf, which may not
// have been written.
type subtree struct {
	ref
	items  []item
	loaded bool
}

func (s *subtree) size() int {
	if s.loaded {
		return len(s.items)
	}
	return s.count
}

// load reads the node of a subtree, unless it has been read. It keeps the items of a leaf
// and returns nil; an inner node is returned.
func (s *subtree) load(r reader, path Digest, depth int) (*node, error) {
	if !s.loaded && s.count > 0 {
		n, err := r.subtree(s.ref, path, depth)
		if err != nil || n.inner != nil {
			return n, err
		}
		s.items = n.items
	}
	s.loaded = true
	return nil, nil
}

// unread returns the children of an inner node as subtrees.
func unread(refs *[ways]ref) *[ways]subtree {
	children := new([ways]subtree)
	for i := range children {
		children[i].ref = refs[i]
	}
	return children
}

// spread returns the children of the inner node that would have these items.
func spread(items []item, depth int) *[ways]subtree {
	children := new([ways]subtree)
	for i := range items {
		c := &children[nibble(&items[i].path, depth)]
		c.items, c.loaded = append(c.items, items[i]), true
	}
	return children
}
