package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"pgregory.net/rapid"
)

// draw draws what happens once in a number of times.
func (p *play) draw(label string, chance int) bool {
	return rapid.IntRange(1, chance).Draw(p.T, label) == 1
}

func (p *play) token() *token { return p.tokens[rapid.IntRange(0, len(p.tokens)-1).Draw(p.T, "token")] }

func (p *play) site() *site { return p.sites[rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(p.T, "site")] }

func (p *play) name() string {
	return rapid.SampledFrom([]string{"db", "web", "mail", "age"}).Draw(p.T, "name")
}

// member draws one of some labels.
func (p *play) member(of []string) string { return rapid.SampledFrom(of).Draw(p.T, "member") }

// drawFault draws what goes wrong in the next call, most often nothing.
func (p *play) drawFault(writes bool) {
	p.fault = nil
	if !p.draw("fault", 4) {
		return
	}
	at := [][2]string{
		{"get", "state/"}, {"get", "checkpoints/"}, {"get", "changes/"}, {"get", "members/"}, {"list", "state/"}, {"range", "packs/"},
	}
	if writes {
		at = append(at, [][2]string{
			{"put", "state/"}, {"put", "state/"}, {"put", "state/"}, {"put", "state/"}, {"get", "state/"},
			{"put", "checkpoints/"}, {"put", "changes/"}, {"put", "members/"}, {"put", "packs/"},
		}...)
	}
	where := rapid.SampledFrom(at).Draw(p.T, "where")
	p.fault = &fault{op: where[0], prefix: where[1], lost: p.draw("lost", 2), lasting: p.draw("lasting", 2)}
	p.fault.death = p.fault.lasting && p.draw("death", 2)
}

// calm ends faults, and reports whether there was one.
func (p *play) calm() (happened, death bool) {
	f := p.fault
	p.fault = nil
	return f != nil && f.happened, f != nil && f.happened && f.death
}

// Commit changes one or a few keys.
func (p *play) Commit() {
	k := p.token()
	if !p.begin(k) {
		return
	}
	p.commit(k, &call{commands: p.commands(k)})
}

// begin has a token open the keyring, unless it has it open.
func (p *play) begin(k *token) bool {
	if k.l != nil && !p.draw("open anew", 4) {
		return true
	}
	if !p.open(k, p.site(), Trust{Pins: k.pins(), Write: p.draw("write", 2)}, "") {
		return k.l != nil // then the commit has to be refused
	}
	p.keep(k)
	return true
}

func (p *play) commands(k *token) (all []command) {
	names := []string{p.name()}
	if p.draw("two", 4) {
		names = append(names, p.name())
	}
	for _, name := range names {
		all = append(all, p.command(k, name))
	}
	if len(all) == 2 && names[0] == names[1] && all[0].op == all[1].op && all[0].version == all[1].version && all[0].op != Rotate {
		return all[:1] // a record has no change twice
	}
	return all
}

func (p *play) command(k *token, name string) command {
	p.count++
	c := command{name: name, secret: fmt.Sprint("secret ", p.count), list: k.l.Members().List().Number}
	old, there := p.mark(k.l.At()).keys[name]
	ops := []Op{Rotate, Rotate, Rewrap, Activate, Deactivate, Compromise, Destroy, Describe, SetDates}
	if !there {
		ops = []Op{Create, Create, Create, Create, Create, Rotate, Describe, Rewrap}
	}
	c.op = rapid.SampledFrom(ops).Draw(p.T, "op")
	switch c.op {
	case Rewrap, Activate, Deactivate, Compromise, Destroy:
		c.version = rapid.IntRange(1, max(old.newest(), 1)).Draw(p.T, "version")
		c.status = map[Op]Status{Activate: Active, Deactivate: Deactivated, Compromise: Compromised, Destroy: Destroyed}[c.op]
	case SetDates:
		c.version = rapid.IntRange(0, 2).Draw(p.T, "days")
	case Describe:
		c.secret = rapid.SampledFrom([]string{"", "of the shop"}).Draw(p.T, "description")
	}
	return c
}

// ChangeMembers has a token add or remove a member, or both.
func (p *play) ChangeMembers() {
	k := p.token()
	if !p.begin(k) {
		return
	}
	c := &call{}
	all := []string{"ann", "ben", "cleo", "dora", "emil", "fay", "vault", "safe"}
	if p.draw("join", 2) {
		c.join = p.member(all)
	} else {
		c.leave = p.member(all)
	}
	if p.draw("and a key", 3) {
		c.commands = p.commands(k)
	}
	p.commit(k, c)
}

// Recover has an authority put a new owner in the place of another.
func (p *play) Recover() {
	k := p.tokens[rapid.IntRange(6, 7).Draw(p.T, "authority")]
	if !p.begin(k) {
		return
	}
	owners := p.mark(k.l.At()).owners()
	p.commit(k, &call{recovery: true, leave: p.member(owners), join: p.member([]string{"ann", "ben", "cleo", "dora", "emil", "fay"})})
}

func (p *play) Compact() {
	if k := p.token(); p.begin(k) {
		p.commit(k, &call{compact: true})
	}
}

// proposal is the call for [Ledger.Commit].
func (c *call) proposal() Proposal {
	var out Proposal
	c.ran = make([]int, len(c.commands))
	for i, cmd := range c.commands {
		e := cmd.edit()
		apply := e.Apply
		e.Apply = func(old *Entry, get func(int) (Version, bool, error), number int, at time.Time) (Update, []Change, error) {
			u, changes, err := apply(old, get, number, at)
			if err == nil {
				c.ran[i] = number
			}
			return u, changes, err
		}
		out.Edits = append(out.Edits, e)
	}
	for range c.notes {
		out.Notes = append(out.Notes, Change{Op: ReplacePin, Reason: "told by another member"})
	}
	out.Compact = c.compact
	if c.join == "" && c.leave == "" {
		return out
	}
	out.List = func(l *Ledger) (*blob.MemberList, error) {
		list := l.NextList()
		next, ok := c.next(labels(list.Members))
		if !ok {
			return nil, nil
		}
		list.Members = called(next)
		if c.recovery {
			list.Recovery = &blob.Recovery{From: []byte(KeyID(troupe()[c.leave].Member)), Reason: "token drowned"}
		}
		return &list, nil
	}
	return out
}

// commit records a call in the keyring that a token has open. Others may be faster, the
// store may fail, and the program may be killed.
func (p *play) commit(k *token, c *call) {
	p.Helper()
	c.by = k
	if len(p.running) == 0 {
		p.drawFault(true)
		if p.fault == nil && p.draw("race", 5) {
			p.fault = &fault{op: "put", prefix: "state/", before: func() { p.others(k) }}
		}
	}
	p.running = append(p.running, c)
	l, errs, err := k.l.Commit(p.ctx(), c.proposal(), troupe()[k.label].signer(), p.tick(), p.nonce)
	p.running = p.running[:len(p.running)-1]
	if p.wrong != "" {
		p.Fatal(p.wrong)
	}
	faulty := p.fault != nil && p.fault.before == nil
	happened, death := p.calm()
	p.event("commit, error %v", err != nil)
	if err != nil {
		p.refused(k, c, err, happened && faulty)
	} else {
		p.recorded(k, c, l, errs, happened && faulty)
	}
	if death {
		k.l = nil
	} else if err == nil {
		p.keep(k)
	}
}

// others has another token commit while one is about to fill a slot.
func (p *play) others(slow *token) {
	fault := p.fault
	p.fault = nil
	defer func() { p.fault = fault }()
	k := p.token()
	if k == slow || !p.open(k, slow.at, Trust{Pins: k.pins(), Write: true}, "") {
		return
	}
	p.keep(k)
	c := &call{commands: p.commands(k)}
	if p.draw("members too", 4) {
		c.leave = p.member([]string{"ann", "ben", "cleo"})
	}
	p.event("race")
	p.commit(k, c)
}

// knows reports whether the site of a token is honest, whole, and has what the token sees.
func (p *play) knows(k *token) bool {
	m := p.mark(k.l.At())
	return p.whole(k.at) && p.wholeMark(k.at, m, map[*mark]bool{}) && k.at.readable(m)
}

// recorded checks a commit that was reported as done.
func (p *play) recorded(k *token, c *call, l *Ledger, errs []error, faulty bool) {
	p.Helper()
	before, m := k.l, p.mark(l.At())
	k.soiled = k.soiled || len(k.at.lies) > 0
	exact := p.knows(k) && !faulty
	if before.older || len(before.unaccepted) > 0 {
		p.Fatal("recorded without what was accepted")
	}
	if !m.descends(before.At()) {
		p.Fatalf("recorded as checkpoint %d, not on top of %d", m.at.Number, before.At().Number)
	}
	p.once(m)
	p.legitimate(m, before.At(), true)
	was := m
	if m.call == c {
		was = m.before
		if data := k.at.objects[blob.SlotPath(m.at.Number)]; !slices.Equal(data, l.head.verified.Bytes()) {
			p.Fatal("reported, and not in its slot")
		}
	}
	if p.rescued(was, before) {
		p.Fatal("recorded on top of a recovery that was not accepted")
	}
	p.sameErrors(c, was, m, errs, exact)
	p.same(l, m, !exact || k.soiled || !k.at.readable(m))
	k.l = l
}

// sameErrors checks which edits have failed, and that nothing was to be done if there is no
// checkpoint.
func (p *play) sameErrors(c *call, was, m *mark, errs []error, exact bool) {
	p.Helper()
	number, changes := was.at.Number+1, c.notes
	list := was.list
	next, changed := c.next(was.members)
	if changed {
		list++
		changes++
	}
	if c.compact && m.call == c { // or else the nodes lay so already
		changes++
	}
	keys := maps.Clone(was.keys)
	for i, cmd := range c.commands {
		old, there := keys[cmd.name]
		key, changed, ok := cmd.model(old, there, number, list)
		if (!exact || c.by.soiled) && promised(errs[i]) { // its nodes could not be read
			continue
		}
		if ok != (errs[i] == nil) {
			p.Fatalf("%v of %q: %v, possible %v", cmd.op, cmd.name, errs[i], ok)
		}
		if ok && changed {
			keys[cmd.name] = key
			changes++
		}
	}
	if (changes > 0) != (m.call == c) {
		p.Fatalf("%d changes were to be made (members %v), recorded: %v", changes, next, m.call == c)
	}
}

// refused checks a commit that was not done, or is in doubt.
func (p *play) refused(k *token, c *call, err error, faulty bool) {
	p.Helper()
	before := k.l
	k.soiled = k.soiled || len(k.at.lies) > 0
	if !promised(err) {
		p.Fatalf("commit: %v is of no kind that is promised", err)
	}
	if faulty {
		if errors.Is(err, ErrDoubt) {
			p.event("in doubt")
		}
		return
	}
	if errors.Is(err, errFault) || errors.Is(err, ErrDoubt) || errors.Is(err, ErrRace) {
		p.Fatalf("commit: %v without a fault", err)
	}
	switch {
	case k.soiled && p.whole(k.at) && errors.Is(err, blob.ErrIntegrity):
		k.soiled = false // it has read lies; but only once
		p.event("cured")
		return
	case len(before.unaccepted) > 0:
		p.is(err, ErrUnaccepted)
		return
	case before.older:
		p.is(err, ErrRollback)
		return
	case errors.Is(err, ErrIllegal) && len(c.commands) == 2 && c.commands[0].name == c.commands[1].name:
		p.event("changes that do not go together") // which is found out before anything is stored
		return
	case !p.knows(k), !p.entitled(c, p.mark(before.At())) && errors.Is(err, blob.ErrUntrusted):
		return
	}
	want := p.expect(k.at, Trust{Pins: []Pin{before.Pin()}, Write: true}, "")
	switch {
	case want.err != nil:
		p.is(err, want.err)
	case p.rescued(want.head, before):
		p.is(err, ErrUnaccepted)
	case !k.at.writable(want.head, Point{}):
		p.event("commit compacted")
	case p.entitled(c, want.head):
		p.Fatalf("commit by %s: %v", k.label, err)
	default:
		p.is(err, blob.ErrUntrusted)
	}
}

func (p *play) entitled(c *call, m *mark) bool {
	if c.recovery {
		return slices.Contains(m.members, c.by.label) && !isOwner(c.by.label)
	}
	return m.hasOwner(c.by.label)
}

func (p *play) is(err, kind error) {
	p.Helper()
	if !errors.Is(err, kind) {
		p.Fatalf("%v, want %v", err, kind)
	}
}
