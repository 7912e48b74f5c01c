package ledger

import (
	"crypto"
	"errors"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// open opens a keyring as a token does, and keeps it, and what it has to remember.
func (p *play) open(k *token, s *site, trust Trust, voucher string) bool {
	p.Helper()
	l, r, err := Open(p.ctx(), p.view(s), trust)
	p.opened(s, trust, voucher, l, r, err)
	p.event("open, error %v", err != nil)
	k.l, k.at = nil, nil
	if err == nil {
		k.l, k.at, k.soiled = l, s, len(s.lies) > 0
	}
	return err == nil && !l.older && len(r.Recoveries) == 0
}

// keep moves the pins of a token to what it has accepted: that in the file each time, that
// on the token now and then.
func (p *play) keep(k *token) {
	k.inFile = k.l.Pin()
	if k.onToken.At.Number == 0 || p.draw("token pin", 3) {
		k.onToken = k.inFile
	}
}

func (p *play) Open() {
	k, s := p.token(), p.site()
	p.drawFault(false)
	trust := Trust{Pins: k.pins(), Write: p.draw("write", 2), OlderState: p.draw("older", 4)}
	if p.open(k, s, trust, "") {
		p.keep(k)
	}
}

// Accept opens, and accepts what recoveries there are, or only the first.
func (p *play) Accept() {
	k, s := p.token(), p.site()
	l, r, err := Open(p.ctx(), p.view(s), Trust{Pins: k.pins()})
	p.opened(s, Trust{Pins: k.pins()}, "", l, r, err)
	if err != nil {
		return
	}
	k.l, k.at, k.soiled = l, s, len(s.lies) > 0
	if n := len(r.Recoveries); n > 1 && p.draw("first", 2) {
		if k.l = l.Accept(r.Recoveries[0].At); len(k.l.unaccepted) != n-1 {
			p.Fatalf("%d recoveries left of %d", len(k.l.unaccepted), n)
		}
		return
	}
	k.l = l.Accept(l.At())
	p.keep(k)
}

// LoseTheFile has a token on another machine.
func (p *play) LoseTheFile() {
	k := p.token()
	k.inFile, k.l = Pin{}, nil
}

// Join has a token accept a keyring that it has never seen: by another's signature, or by
// a checkpoint that a person tells.
func (p *play) Join() {
	k, s := p.token(), p.site()
	trust, voucher := Trust{Write: p.draw("write", 2)}, ""
	if p.draw("voucher", 2) {
		if voucher = p.token().label; p.forgers[voucher] {
			return // whoever trusts one that forges is lost
		}
		trust.Voucher = crypto.PublicKey(troupe()[voucher].Certificate.PublicKey)
	} else {
		at := p.token().pins()[0].At
		trust.Checkpoint = &at
	}
	p.drawFault(false)
	if p.open(k, s, trust, voucher) {
		k.onToken, k.inFile = k.l.Pin(), k.l.Pin()
		p.event("joined")
	} else {
		k.l = nil
	}
}

// ReplaceThePin has a token go over to what another member has accepted, and records it.
func (p *play) ReplaceThePin() {
	k, s := p.token(), p.site()
	p.replaceThePin(k, s, p.token().pins()[0].At)
}

func (p *play) replaceThePin(k *token, s *site, at Point) {
	if !p.open(k, s, Trust{Checkpoint: &at, Write: true}, "") {
		k.l = nil
		return
	}
	k.onToken, k.inFile = k.l.Pin(), k.l.Pin()
	if p.mark(k.l.At()).hasOwner(k.label) {
		p.commit(k, &call{notes: 1})
	}
}

func (p *play) Refresh() {
	k := p.token()
	if k.l == nil {
		return
	}
	write, exact := p.draw("write", 2), p.knows(k)
	before, clean := k.l, !k.soiled
	k.soiled = k.soiled || len(k.at.lies) > 0
	want := outcome{}
	if exact && !before.older {
		want = p.expect(k.at, Trust{Pins: []Pin{before.Pin()}, Write: write}, "")
	}
	l, err := before.Refresh(p.ctx(), write)
	if err != nil {
		switch {
		case !promised(err):
			p.Fatalf("refresh: %v is of no kind that is promised", err)
		case before.older && errors.Is(err, ErrRollback), !exact:
		case !clean && errors.Is(err, blob.ErrIntegrity):
			k.soiled = false
		case want.err != nil && errors.Is(err, want.err):
			p.facts(want, err)
		case want.err == nil && errors.Is(err, ErrUnaccepted) && (p.rescued(want.head, before) || len(before.unaccepted) > 0):
		case want.err == nil && write && errors.Is(err, ErrCompacted) && !k.at.writable(want.head, Point{}):
		default:
			p.Fatalf("refresh: %v, want %v", err, want.err)
		}
		return
	}
	m := p.mark(l.At())
	if exact && (want.err != nil || want.head != m) {
		p.Fatalf("refresh: checkpoint %d, want %v", m.at.Number, want.err)
	}
	p.legitimate(m, before.At(), write)
	p.once(m)
	p.same(l, m, !exact || !clean || !k.at.readable(m))
	if k.l = l; len(l.unaccepted) == 0 {
		p.keep(k)
	}
}

// rescued reports whether there is a recovery that a ledger has not accepted.
func (p *play) rescued(head *mark, since *Ledger) bool {
	return slices.ContainsFunc(head.after(since.At()), func(m *mark) bool { return m.rescue != nil })
}
