package ledger

import (
	"crypto/sha256"
	"errors"
	"slices"
	"strings"

	"github.com/hsmkeys/hsmkeys/blob"
)

// An outcome is what opening a keyring has to come to.
type outcome struct {
	head           *mark
	from           Point // where trust starts
	err            error // a kind
	common         *mark // of a fork
	ours, theirs   []*mark
	accepted, here *mark // of what was rolled back
}

// slots are the checkpoints in the slots of an honest site, by number.
func (p *play) slots(s *site) map[int]*mark {
	all := map[int]*mark{}
	for path, data := range s.objects {
		if n, ok := blob.ParseSlotPath(path); ok {
			all[n] = p.marks[sha256.Sum256(data)]
		}
	}
	return all
}

// whole reports whether a site is honest, and has all that its checkpoints refer to but
// nodes: then the model knows exactly what comes of opening it.
func (p *play) whole(s *site) bool {
	if len(s.lies) > 0 {
		return false
	}
	seen := map[*mark]bool{}
	for path := range s.objects {
		if strings.HasPrefix(path, blob.SlotsPrefix) && !p.wholeMark(s, p.marks[sha256.Sum256(s.objects[path])], seen) {
			return false
		}
	}
	for _, k := range p.tokens {
		for _, pin := range k.pins() {
			m := p.marks[pin.At.Digest]
			if s.has(m) && !p.wholeMark(s, m, seen) {
				return false
			}
		}
	}
	return true
}

func (p *play) wholeMark(s *site, m *mark, seen map[*mark]bool) bool {
	for ; m != nil && !seen[m]; m = m.before {
		seen[m] = true
		for _, path := range m.paths {
			if _, ok := s.objects[path]; !ok {
				return false
			}
		}
	}
	return true
}

func (s *site) has(m *mark) bool {
	_, ok := s.objects[blob.CheckpointPath(m.at.Digest)]
	return ok
}

// readable reports whether all nodes are there that the keys of a mark may need.
func (s *site) readable(m *mark) bool {
	for ; m != nil; m = m.before {
		if _, ok := s.objects[m.pack]; !ok && m.pack != "" {
			return false
		}
		if m.compact {
			return true
		}
	}
	return true
}

// writable reports whether all nodes are there that a writer needs to check the steps after
// a point.
func (s *site) writable(m *mark, from Point) bool {
	for ; m != nil && m.at != from; m = m.before {
		if !s.readable(m) {
			return false
		}
	}
	return m == nil || s.readable(m)
}

// points are those where trust starts, the highest first.
func points(trust Trust) (all []Point) {
	for _, pin := range trust.Pins {
		all = append(all, pin.At)
	}
	if trust.Checkpoint != nil {
		all = append(all, *trust.Checkpoint)
	}
	slices.SortStableFunc(all, func(a, b Point) int { return b.Number - a.Number })
	return all
}

// expect returns what opening a site that is whole has to come to.
func (p *play) expect(s *site, trust Trust, voucher string) outcome {
	slots, all := p.slots(s), points(trust)
	newest := 0
	for n := range slots {
		newest = max(newest, n)
	}
	switch {
	case newest == 0:
		return outcome{err: blob.ErrNotFound}
	case slots[1] == nil:
		return outcome{err: ErrIncomplete}
	case len(all) == 0 && voucher == "":
		return outcome{err: ErrUnpinned}
	case len(all) == 0:
		head, err := headAfter(slots, 1, trust.Write)
		if err != nil {
			return outcome{err: err}
		}
		m := head
		for m != nil && m.signer != voucher {
			m = m.before
		}
		if m == nil {
			return outcome{err: blob.ErrUntrusted}
		}
		return outcome{head: head, from: m.at}
	}
	at, there := p.mark(all[0]), slots[all[0].Number]
	switch {
	case there == nil && newest > at.at.Number:
		return outcome{err: ErrIncomplete}
	case there == nil:
		return outcome{err: ErrRollback, accepted: at, here: slots[newest]}
	case there != at && !s.has(at):
		return outcome{err: ErrRollback, accepted: at, here: there}
	}
	head, err := headAfter(slots, at.at.Number, trust.Write)
	if err != nil {
		return outcome{err: err}
	}
	for _, point := range all {
		if !head.descends(point) {
			mine := p.mark(point)
			c := head.common(mine)
			return outcome{err: ErrFork, common: c, ours: mine.after(c.at), theirs: head.after(c.at)}
		}
	}
	return outcome{head: head, from: at.at}
}

// headAfter returns the last checkpoint before a hole.
func headAfter(slots map[int]*mark, n int, write bool) (*mark, error) {
	if !write && slots[n+1] == nil {
		return slots[n], nil
	}
	for slots[n+1] != nil {
		n++
	}
	for beyond := range slots {
		if beyond > n {
			return nil, ErrIncomplete
		}
	}
	return slots[n], nil
}

// promised reports whether an error is of a kind that this package promises.
func promised(err error) bool {
	for _, kind := range []error{blob.ErrIntegrity, blob.ErrNotFound, ErrUnpinned, ErrDoubt, ErrRace, errFault} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// opened checks what Open has come to.
func (p *play) opened(s *site, trust Trust, voucher string, l *Ledger, r Report, err error) {
	p.Helper()
	happened, _ := p.calm()
	exact := p.whole(s) && !happened
	if err != nil && !promised(err) {
		p.Fatalf("open: %v is of no kind that is promised", err)
	}
	if err != nil && errors.Is(err, errFault) && !happened {
		p.Fatalf("open: %v without a fault", err)
	}
	want := outcome{}
	if exact {
		want = p.expect(s, trust, voucher)
		p.likeWanted(s, trust, want, l, r, err)
	}
	if err != nil {
		return
	}
	m := p.mark(l.At())
	if l.older {
		p.event("older state")
		p.same(l, m, !exact || !s.readable(m))
		return
	}
	from := r.Before
	for _, point := range points(trust) {
		if !m.descends(point) {
			p.Fatalf("opened checkpoint %d, which does not descend from number %d that was accepted", m.at.Number, point.Number)
		}
	}
	p.once(m)
	p.legitimate(m, from, trust.Write)
	p.recovered(r.Recoveries, m, from)
	p.same(l, m, !exact || !s.readable(m))
}

// likeWanted holds what came of opening a whole site against what the model wants.
func (p *play) likeWanted(s *site, trust Trust, want outcome, l *Ledger, r Report, err error) {
	p.Helper()
	if passes := errors.Is(want.err, ErrRollback) || errors.Is(want.err, ErrFork); passes && trust.OlderState {
		p.passedOver(s, trust, want, l, r, err)
		return
	}
	switch {
	case want.err != nil:
		if !errors.Is(err, want.err) {
			p.Fatalf("open: %v, want %v", err, want.err)
		}
		p.facts(want, err)
	case err != nil:
		if trust.Write && errors.Is(err, ErrCompacted) && !s.writable(want.head, Point{}) {
			p.event("open compacted")
			return
		}
		p.Fatalf("open: %v, want checkpoint %d", err, want.head.at.Number)
	case l.At() != want.head.at || r.Before != want.from || r.Older != nil:
		p.Fatalf("opened checkpoint %d from %d, want %d from %d", l.At().Number, r.Before.Number, want.head.at.Number, want.from.Number)
	}
}

// passedOver checks how an older state was opened.
func (p *play) passedOver(s *site, trust Trust, want outcome, l *Ledger, r Report, err error) {
	p.Helper()
	pinned := p.mark(points(trust)[0])
	if !s.has(pinned) {
		head, holed := headAfter(p.slots(s), 1, false)
		if holed != nil {
			if !errors.Is(err, want.err) || !errors.Is(err, holed) {
				p.Fatalf("older state: %v, want %v and %v", err, want.err, holed)
			}
			return
		}
		pinned = head
	}
	if err != nil {
		p.Fatalf("older state: %v", err)
	}
	if !l.older || l.At() != pinned.at {
		p.Fatalf("older state: checkpoint %d, want %d", l.At().Number, pinned.at.Number)
	}
	if !errors.Is(r.Older, want.err) {
		p.Fatalf("older state: %v, want %v", r.Older, want.err)
	}
	p.facts(want, r.Older)
}

// facts checks what a rollback or a fork tells.
func (p *play) facts(want outcome, err error) {
	p.Helper()
	p.event("%v", want.err)
	if f := (*Fork)(nil); errors.As(err, &f) {
		if f.Common != want.common.at {
			p.Fatalf("fork after %d, want %d", f.Common.Number, want.common.at.Number)
		}
		p.side(f.Ours, want.ours, want.ours[len(want.ours)-1])
		p.side(f.Theirs, want.theirs, want.ours[len(want.ours)-1])
	}
	if r := (*Rollback)(nil); errors.As(err, &r) {
		if r.Accepted != want.accepted.at || r.Found.At != want.here.at || !r.Found.Created.Equal(want.here.created) {
			p.Fatalf("%v; want checkpoint %d, found %d", r, want.accepted.at.Number, want.here.at.Number)
		}
	}
}

func (p *play) side(got []Side, want []*mark, known *mark) {
	p.Helper()
	if len(got) != len(want) {
		p.Fatalf("a side of %d, want %d", len(got), len(want))
	}
	for i, s := range got {
		signer := want[i].signer
		if !known.was(signer) {
			signer = ""
		}
		if s.At != want[i].at || !s.Created.Equal(want[i].created) || s.Signer != signer {
			p.Fatalf("checkpoint %d by %q, want %d by %q", s.At.Number, s.Signer, want[i].at.Number, signer)
		}
	}
}

// once checks that no call has recorded its changes twice.
func (p *play) once(m *mark) {
	p.Helper()
	calls := map[*call]bool{}
	for ; m != nil; m = m.before {
		if calls[m.call] && m.call != nil {
			p.Fatalf("checkpoint %d records again what was recorded", m.at.Number)
		}
		calls[m.call] = true
	}
}

// legitimate checks that nobody has signed who was not entitled to. A reader sees that of
// the head, and of those that introduce lists.
func (p *play) legitimate(head *mark, from Point, write bool) {
	p.Helper()
	for _, m := range head.after(from) {
		if !m.legit && (write || m == head || m.list > m.before.list) {
			p.Fatalf("accepted checkpoint %d, which %s must not sign", m.at.Number, m.signer)
		}
	}
}

// recovered checks which recoveries are told.
func (p *play) recovered(got []RecoveryEvent, head *mark, from Point) {
	p.Helper()
	var want []*mark
	for _, m := range head.after(from) {
		if m.rescue != nil {
			want = append(want, m)
		}
	}
	if len(got) != len(want) {
		p.Fatalf("%d recoveries, want %d", len(got), len(want))
	}
	for i, e := range got {
		p.event("recovery seen")
		m, last := want[i], Point{}
		for b := m.before; b != nil && b.at.Number >= from.Number; b = b.before {
			if b.signer == m.rescue.from {
				last = b.at
				break
			}
		}
		if e.At != m.at || e.Authority.Label != m.signer || e.From.Label != m.rescue.from || e.To.Label != m.rescue.to || e.LastSigned != last {
			p.Fatalf("recovery at %d by %s from %s to %s, last signed at %d; want %d, %s, %+v, %d", e.At.Number, e.Authority.Label, e.From.Label, e.To.Label, e.LastSigned.Number, m.at.Number, m.signer, *m.rescue, last.Number)
		}
	}
}
