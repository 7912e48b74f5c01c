package ledger

import "github.com/hsmkeys/hsmkeys/blob"

// maxPatch is the highest number of children in a patch. An inner node has 600 to 900
// bytes, mostly of children that an update of one key leaves alone. A patch of i children
// has 60+56i; five patches and then a whole node take the least on average.
const maxPatch = 5

// A patch is another stored form of an inner node: the children that differ from those of
// one that is stored whole. Its digest is that of the inner node; no digest covers which form
// it has.
type patch struct {
	base    ref
	changed []change // 1..maxPatch, ascending
}

// A change is a child of an inner node in the place of another.
type change struct {
	index int
	ref
}

// A base is an inner node that is stored whole.
type base struct {
	ref
	children [ways]ref
}

// patchTo returns the patch that makes children of a base, or nil where a whole inner node
// is better.
func (b *base) patchTo(children *[ways]ref) *patch {
	if b == nil {
		return nil
	}
	p := &patch{base: b.ref}
	for i, c := range children {
		if old := b.children[i]; c.digest != old.digest || c.count != old.count {
			p.changed = append(p.changed, change{i, c})
		}
	}
	if len(p.changed) < 1 || len(p.changed) > maxPatch {
		return nil
	}
	return p
}

// apply returns the children that the patch makes of those of its base.
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
		c := change{index: d.number("child", next, ways-1)}
		next = c.index + 1
		d.child(&c.ref)
		p.changed = append(p.changed, c)
	}
	return p
}
