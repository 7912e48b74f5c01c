package ledger

import (
	"strings"

	"github.com/hsmkeys/hsmkeys/blob"
	"pgregory.net/rapid"
)

// BackUp keeps a copy of a site.
func (p *play) BackUp() {
	s := p.site()
	s.heal()
	if p.backups = append(p.backups, s.copy()); len(p.backups) > 4 {
		p.backups = p.backups[1:]
	}
}

// Restore puts a copy from before in the place of a site.
func (p *play) Restore() {
	s := p.site()
	s.heal()
	p.backups = append(p.backups, s.copy())
	s.objects = p.backups[rapid.IntRange(0, len(p.backups)-1).Draw(p.T, "backup")].copy().objects
}

// Copy puts one site in the place of the other.
func (p *play) Copy() {
	from, to := p.sites[0], p.sites[1]
	if p.draw("back", 2) {
		from, to = to, from
	}
	from.heal()
	to.heal()
	to.objects = from.copy().objects
}

// Unite copies one site over the other; its slots win or are left out.
func (p *play) Unite() {
	from, to := p.sites[0], p.sites[1]
	if p.draw("back", 2) {
		from, to = to, from
	}
	from.heal()
	to.heal()
	to.take(from, p.draw("slots", 2))
}

// BeHonest ends all lies.
func (p *play) BeHonest() {
	for _, s := range p.sites {
		s.heal()
	}
}

// Lie has a site delete, damage or exchange objects.
func (p *play) Lie() {
	s := p.site()
	kinds := []string{"state/", "state/", "checkpoints/", "changes/", "members/", "packs/"}
	for range rapid.IntRange(1, 2).Draw(p.T, "lies") {
		paths := s.paths(rapid.SampledFrom(kinds).Draw(p.T, "kind"))
		if len(paths) == 0 {
			continue
		}
		i := len(paths) - 1 - rapid.IntRange(0, len(paths)-1).Draw(p.T, "which") // the newest slot first
		path := paths[i]
		switch rapid.IntRange(0, 3).Draw(p.T, "how") {
		case 0:
			s.set(path, nil)
		case 1:
			data := append([]byte{}, s.objects[path]...)
			data[rapid.IntRange(0, len(data)-1).Draw(p.T, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(p.T, "bit")
			s.set(path, data)
		case 2:
			other := rapid.SampledFrom(paths).Draw(p.T, "other")
			mine, theirs := s.objects[path], s.objects[other]
			s.set(path, theirs)
			s.set(other, mine)
		case 3:
			for _, path := range paths[i:] { // the newest slots, or some
				s.set(path, nil)
			}
		}
	}
}

// End makes the storage honest, and everybody goes on.
func (p *play) End() {
	s := p.sites[0]
	p.BeHonest()
	head := p.repair(s)
	for _, k := range p.tokens {
		k.l = nil
		if !p.open(k, s, Trust{Pins: k.pins(), Write: true}, "") && k.l != nil {
			k.l = k.l.Accept(k.l.At())
		}
		if k.l == nil { // it was on another side, or what is gone was compacted
			p.open(k, s, Trust{Checkpoint: &head.at, Write: true}, "")
		}
		if k.l == nil {
			p.Fatalf("%s cannot go on", k.label)
		}
		k.inFile, k.onToken = k.l.Pin(), k.l.Pin()
	}
	for _, k := range p.tokens {
		if !head.hasOwner(k.label) {
			continue
		}
		c := &call{commands: []command{{op: Create, name: "last-" + k.label, secret: "last of " + k.label, list: head.list}}}
		c.by = k
		p.running = append(p.running, c)
		l, errs, err := k.l.Commit(p.ctx(), c.proposal(), troupe()[k.label].signer(), p.tick(), p.nonce)
		p.running = nil
		if err != nil {
			p.Fatalf("%s cannot go on: %v", k.label, err)
		}
		p.recorded(k, c, l, errs, false)
	}
}

// repair makes of a site what one chain is that it has: that of its newest checkpoint.
func (p *play) repair(s *site) *mark {
	var head *mark
	for _, m := range p.slots(s) {
		if head == nil || m.at.Number > head.at.Number {
			head = m
		}
	}
	for path, data := range p.archive {
		s.objects[path] = data
	}
	for path := range s.objects {
		if strings.HasPrefix(path, blob.SlotsPrefix) {
			delete(s.objects, path)
		}
	}
	for m := head; m != nil; m = m.before {
		s.objects[blob.SlotPath(m.at.Number)] = p.archive[blob.CheckpointPath(m.at.Digest)]
	}
	return head
}
