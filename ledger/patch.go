package ledger

import "github.com/hsmkeys/hsmkeys/blob"

// maxPatch is the highest number of children in a patch. An inner node has 600 to 900
// bytes, and an update of one key changes one of its 16 children. A patch with i children
// has about 60+56i bytes, so that five patches followed by a whole node take the least
// space on average.
const maxPatch = 5

// wholeLevels is the number of levels, from the root, at which inner nodes are never stored as patches. Nearly every
// update changes nodes there, and each patch on the path to a key costs one more read.
const wholeLevels = 3

// A patch is another stored form of an inner node: the children that differ from those of
// its base, a node that is stored whole. The node's digest does not depend on the form.
type patch struct {
	base    ref
	changed []replaced // 1..maxPatch, ascending
}

// A replaced is the child that an inner node has at an index instead of its base's.
type replaced struct {
	index int
	ref
}

// A base is an inner node that is stored whole, which a patch can refer to.
type base struct {
	ref
	children *[ways]ref
}

// patchTo returns the patch that turns a base into an inner node with the children given,
// or nil if there is no base or too many children differ.
func (b *base) patchTo(children *[ways]ref) *patch {
	if b == nil {
		return nil
	}
	p := &patch{base: b.ref}
	for i, c := range children {
		if old := b.children[i]; c.digest != old.digest || c.count != old.count {
			p.changed = append(p.changed, replaced{i, c})
		}
	}
	if len(p.changed) < 1 || len(p.changed) > maxPatch {
		return nil
	}
	return p
}

// apply returns the children of the base as the patch changes them.
func (p *patch) apply(children [ways]ref) *[ways]ref {
	for _, c := range p.changed {
		children[c.index] = c.ref
	}
	return &children
}

func (p *patch) refs(visit func(at *blob.Hint)) {
	visit(&p.base.at)
	for i := range p.changed {
		if p.changed[i].count > 0 {
			visit(&p.changed[i].at)
		}
	}
}

func appendPatch(b []byte, p *patch) []byte {
	b = append(append(b, patchKind), p.base.digest[:]...)
	b = appendNumber(b, len(p.changed))
	for i := range p.changed {
		b = appendChild(appendNumber(b, p.changed[i].index), &p.changed[i].ref)
	}
	return b
}

// patch reads a patch up to its hints.
func (d *decoder) patch() *patch {
	p := &patch{base: ref{digest: d.digest("digest of the patched node")}}
	next := 0
	for range d.number("number of changed children", 1, maxPatch) {
		c := replaced{index: d.number("child", next, ways-1)}
		next = c.index + 1
		d.child(&c.ref)
		p.changed = append(p.changed, c)
	}
	return p
}
