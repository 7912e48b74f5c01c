package ledger

import (
	"maps"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
	"pgregory.net/rapid"
)

// maxMerged bounds what one merge takes in.
const maxMerged = 6

// Merge takes in what the other site has, or a checkpoint in the same one that lost.
func (p *play) Merge() {
	k := p.token()
	if !p.begin(k) {
		return
	}
	from, at, m := p.otherSide(k)
	if m == nil {
		return
	}
	mine := p.mark(k.l.At())
	common := m.common(mine)
	exact := p.knows(k) && p.whole(from) && p.wholeMark(from, m, map[*mark]bool{}) && p.wholeMark(k.at, mine, map[*mark]bool{})
	b, err := k.l.Branch(p.ctx(), p.view(from), at)
	if err != nil {
		if !promised(err) || exact && from.writable(m, common.at) {
			p.Fatalf("branch to %d: %v", m.at.Number, err)
		}
		return
	}
	if b.At() != m.at && exact {
		p.Fatalf("branch to %d, want %d", b.At().Number, m.at.Number)
	}
	m = p.mark(b.At())
	if common = m.common(mine); b.Common != common.at {
		p.Fatalf("branch from %d, want %d", b.Common.Number, common.at.Number)
	}
	p.legitimate(m, common.at, true)
	p.same(b.Ledger, m, !exact || !from.readable(m))
	p.event("branch")
	if c := p.takeIn(k, mine, m); len(c.commands) > 0 {
		p.event("merge")
		p.commit(k, c)
	}
}

// otherSide draws what to merge. A site that is dishonest may have anything as its head.
func (p *play) otherSide(k *token) (from *site, at *Point, m *mark) {
	if p.draw("other site", 2) {
		if from = p.sites[0]; from == k.at {
			from = p.sites[1]
		}
		if !p.whole(from) {
			return from, nil, nil
		}
		m, _ = headAfter(p.slots(from), 1, false)
		return from, nil, m
	}
	paths := k.at.paths("checkpoints/")
	if len(paths) == 0 {
		return nil, nil, nil
	}
	slices.SortFunc(paths, func(a, b string) int { return p.numberOf(k.at, a) - p.numberOf(k.at, b) })
	for _, path := range slices.Backward(paths[rapid.IntRange(0, len(paths)-1).Draw(p.T, "checkpoint"):]) {
		if c, err := parseStored(k.at.objects[path]); err == nil && p.marks[c.at.Digest] != nil && path == blob.CheckpointPath(c.at.Digest) {
			return k.at, &c.at, p.marks[c.at.Digest]
		}
	}
	return nil, nil, nil
}

func (p *play) numberOf(s *site, path string) int {
	if c, err := parseStored(s.objects[path]); err == nil {
		return c.Number
	}
	return 0
}

// takeIn is the call that takes in the keys that a mark has and ours has not.
func (p *play) takeIn(k *token, mine, m *mark) *call {
	c := &call{}
	for _, name := range slices.Sorted(maps.Keys(m.keys)) {
		ours := map[blob.ID]bool{}
		for _, v := range mine.keys[name].versions {
			ours[v.id] = true
		}
		for _, n := range slices.Sorted(maps.Keys(m.keys[name].versions)) {
			v := m.keys[name].versions[n]
			if !ours[v.id] && len(c.commands) < maxMerged {
				c.commands = append(c.commands, command{op: Merge, name: name, key: v.id, status: v.status, list: k.l.Members().List().Number})
			}
		}
	}
	return c
}

// ReadLog reads what has happened.
func (p *play) ReadLog() {
	k := p.token()
	if k.l == nil {
		return
	}
	m, exact := p.mark(k.l.At()), p.knows(k)
	since := rapid.IntRange(0, m.at.Number).Draw(p.T, "since")
	got := map[Point]int{}
	for e, err := range k.l.Log(p.ctx(), since) {
		if err != nil {
			if exact || !promised(err) {
				p.Fatalf("log: %v", err)
			}
			return
		}
		at := p.mark(e.At)
		if e.Signer.Label != at.signer || !e.Created.Equal(at.created) {
			p.Fatalf("checkpoint %d by %q, want %q", e.At.Number, e.Signer.Label, at.signer)
		}
		switch {
		case e.List == 0:
			got[e.At]++
		case e.List != at.list || (e.Recovery != nil) != (at.rescue != nil):
			p.Fatalf("checkpoint %d: list %d, want %d", e.At.Number, e.List, at.list)
		}
	}
	for ; m != nil && m.at.Number > since; m = m.before {
		if got[m.at] != m.changes {
			p.Fatalf("checkpoint %d: %d changes, want %d", m.at.Number, got[m.at], m.changes)
		}
		delete(got, m.at)
	}
	if len(got) > 0 {
		p.Fatalf("%d checkpoints that are not in the chain", len(got))
	}
	p.event("log")
}

// DeletePacks deletes the packs that only older checkpoints need.
func (p *play) DeletePacks() {
	k := p.token()
	if k.l == nil || !p.knows(k) || k.soiled || k.l.older {
		return
	}
	m := p.mark(k.l.At())
	all, err := k.l.OutdatedPacks(p.ctx(), rapid.IntRange(1, 3).Draw(p.T, "keep"))
	if err != nil {
		if !promised(err) || k.at.writable(m, Point{}) {
			p.Fatalf("outdated packs: %v", err)
		}
		return
	}
	for _, id := range all {
		delete(k.at.objects, blob.PackPath(id))
	}
	if len(all) > 0 {
		p.event("packs deleted")
	}
	l, _, err := Open(p.ctx(), k.at, Trust{Checkpoint: &m.at})
	if want := p.expect(k.at, Trust{Checkpoint: &m.at}, ""); err != nil {
		p.is(err, want.err)
		return
	}
	if l.At() == m.at {
		p.same(l, m, false)
	}
}

// Forge has somebody who is not entitled to it sign a checkpoint, in a storage that takes
// it, at the end or in the place of what came after another.
func (p *play) Forge() {
	s := p.site()
	if !p.whole(s) {
		return
	}
	head, err := headAfter(p.slots(s), 1, false)
	if err != nil || head == nil {
		return
	}
	l, _, err := Open(p.ctx(), s, Trust{Checkpoint: &head.at, Write: true})
	if err != nil {
		return
	}
	on := head
	for range rapid.IntRange(0, 2).Draw(p.T, "back") {
		if on.before != nil {
			on = on.before
		}
	}
	by := p.member([]string{"ann", "ben", "cleo", "dora", "emil", "fay", "vault", "safe"})
	if on.hasOwner(by) {
		return
	}
	b, err := l.Branch(p.ctx(), s, &on.at)
	if err != nil || b.At() != on.at {
		return
	}
	p.forge(s, b.Ledger, on, by)
}

func (p *play) forge(s *site, l *Ledger, on *mark, by string) {
	c := &call{by: &token{label: by}}
	switch rapid.IntRange(0, 3).Draw(p.T, "forgery") {
	case 1:
		c.join = by
	case 2:
		c.join, c.leave, c.recovery = by, on.owners()[0], true
	case 3:
		c.join, c.leave = by, on.owners()[0]
	}
	c.commands = []command{{op: Create, name: "forged", secret: "forged", list: on.list}}
	d, _, err := l.draft(p.ctx(), c.proposal(), p.tick())
	if err != nil || d == nil {
		return // its nodes were deleted
	}
	body, step, err := d.step(*l.state)
	if err != nil {
		return // a list that nobody can make
	}
	body.Nonce, _ = p.nonce()
	v, err := blob.SignCheckpoint(body, troupe()[by].signer(), p.now)
	if err != nil {
		p.Fatalf("forge: %v", err)
	}
	m := &mark{at: Point{body.Number, v.Digest()}, before: on, signer: by, keys: on.keys, members: on.members, list: body.List.Number}
	p.marks[v.Digest()] = m
	objects := []object{{blob.ChangesPath(body.Changes), step.Changes}, {blob.CheckpointPath(v.Digest()), v.Bytes()}, {blob.SlotPath(body.Number), v.Bytes()}}
	if step.Members != nil {
		objects = append(objects, object{blob.MembersPath(body.List.Digest), step.Members})
	}
	for _, pack := range d.packs {
		objects = append(objects, object{blob.PackPath(pack.ID), pack.Data})
	}
	for n := body.Number + 1; n <= len(s.objects); n++ {
		if _, ok := s.objects[blob.SlotPath(n)]; ok {
			s.set(blob.SlotPath(n), nil)
		}
	}
	for _, o := range objects {
		s.set(o.path, o.data)
	}
	p.forgers[by] = true
	p.event("forged")
}
