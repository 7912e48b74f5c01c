package ledger

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/store/storetest"
	"pgregory.net/rapid"
)

// A steady key signs the same bytes with the same signature, so that a run can be repeated.
type steady struct{ crypto.Signer }

func (s steady) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.Signer.Sign(nil, digest, opts)
}

// troupe are the actors of the model: six owners and two backup authorities.
var troupe = sync.OnceValue(func() map[string]*actor {
	all := map[string]*actor{}
	for _, label := range []string{"ann", "ben", "cleo", "dora", "emil", "fay", "vault", "safe"} {
		key := steady{must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
		m := blob.Member{Role: blob.Owner, Label: label, Certificate: certify(label, key)}
		if !isOwner(label) {
			m.Role = blob.BackupAuthority
		}
		all[label] = &actor{m, key, keyspec.ECDSA}
	}
	return all
})

func labels(all []blob.Member) (out []string) {
	for _, m := range all {
		out = append(out, m.Label)
	}
	return out
}

func called(labels []string) (all []blob.Member) {
	for _, label := range labels {
		all = append(all, troupe()[label].Member)
	}
	return all
}

// A token is an honest writer: what is kept of the keyring on the token, which may lag
// behind, and in a file, and perhaps an open keyring.
type token struct {
	label   string
	onToken Pin
	inFile  Pin // zero: none
	l       *Ledger
	at      *site // where l was opened
	soiled  bool  // l has read what a dishonest storage had
}

func (k *token) pins() (all []Pin) {
	for _, p := range []Pin{k.onToken, k.inFile} {
		if p.At.Number > 0 {
			all = append(all, p)
		}
	}
	return all
}

// A call is one [Ledger.Commit].
type call struct {
	by       *token
	commands []command
	join     string // a label that comes into the list of members
	leave    string // and one that goes
	recovery bool
	compact  bool
	notes    int
	ran      []int   // the checkpoint for which each command has run last
	marks    []*mark // that it has made
}

// A play is a run of the model.
type play struct {
	*rapid.T
	mu        sync.Mutex
	sites     []*site
	backups   []*site
	marks     map[Digest]*mark
	archive   map[string][]byte // all objects that writers have put, but slots, by path
	tokens    []*token
	now       time.Time
	count     int
	running   []*call // the last one is the innermost
	fault     *fault
	undecided map[*session]*mark
	wrong     string          // found while a call was running
	forgers   map[string]bool // labels
	seen      map[string]int
}

func newPlay(t *rapid.T, seen map[string]int) *play {
	p := &play{T: t, marks: map[Digest]*mark{}, archive: map[string][]byte{}, now: day, undecided: map[*session]*mark{}, forgers: map[string]bool{}, seen: seen}
	for _, label := range []string{"ann", "ben", "cleo", "dora", "emil", "fay", "vault", "safe"} {
		p.tokens = append(p.tokens, &token{label: label})
	}
	p.sites = []*site{{objects: map[string][]byte{}, lies: map[string]lie{}}}
	p.found()
	p.fill()
	p.sites = append(p.sites, p.sites[0].copy())
	return p
}

func (p *play) ctx() context.Context { return context.Background() }

func (p *play) nonce() (out [16]byte, err error) {
	p.count++
	binary.BigEndian.PutUint64(out[:], uint64(p.count))
	return out, nil
}

func (p *play) tick() time.Time {
	p.now = p.now.Add(time.Minute)
	return p.now
}

// found makes the keyring of ann, ben and cleo, with the authority vault.
func (p *play) found() {
	first := []string{"ann", "ben", "cleo", "vault"}
	c := &call{by: p.tokens[0]}
	p.running = append(p.running, c)
	l, err := Init(p.ctx(), p.view(p.sites[0]), blob.MemberList{KeyringID: keyringID, Members: called(first)}, troupe()["ann"].signer(), p.tick(), p.nonce)
	p.running = nil
	if err != nil {
		p.Fatalf("found: %v", err)
	}
	for _, k := range p.tokens {
		k.onToken, k.inFile = l.Pin(), l.Pin()
	}
	p.same(l, p.mark(l.At()), false)
}

// fill makes some keyrings larger: of more names than a leaf has, or more versions than an
// entry.
func (p *play) fill() {
	k, c := p.tokens[0], &call{}
	switch rapid.IntRange(0, 9).Draw(p.T, "size") {
	case 9:
		for i := range 40 {
			c.commands = append(c.commands, command{op: Create, name: fmt.Sprintf("app%02d", i), secret: fmt.Sprint("app", i), list: 1})
		}
	case 8:
		c.commands = []command{{op: Create, name: "db", secret: "db", list: 1}}
	default:
		return
	}
	p.open(k, p.sites[0], Trust{Pins: k.pins(), Write: true}, "")
	p.commit(k, c)
	if len(c.commands) > 1 || k.l == nil {
		return
	}
	c = &call{}
	for i := range 20 {
		c.commands = append(c.commands, command{op: Rotate, name: "db", secret: fmt.Sprint("db", i), list: 1})
	}
	p.commit(k, c)
}

func (p *play) mark(at Point) *mark {
	m := p.marks[at.Digest]
	if m == nil || m.at != at {
		p.Fatalf("checkpoint %d is nobody's", at.Number)
	}
	return m
}

// view is a site as the ledger sees it, with faults.
func (p *play) view(s *site) blob.Store {
	return &watched{storetest.Fault(s, func(op, path string) error {
		p.mu.Lock()
		f := p.fault
		if f == nil {
			p.mu.Unlock()
			return nil
		}
		if f.before != nil {
			p.mu.Unlock() // it is at a call that nothing else is made beside
			return f.at(op, path)
		}
		defer p.mu.Unlock()
		return f.at(op, path)
	}), s, p}
}

// watched sees what writers put.
type watched struct {
	blob.Store
	site *site
	p    *play
}

func (w *watched) Put(ctx context.Context, path string, data []byte) error {
	if strings.HasPrefix(path, "checkpoints/") {
		w.p.signed(data)
	}
	err := w.Store.Put(ctx, path, data)
	if strings.HasPrefix(path, blob.SlotsPrefix) {
		w.p.filled(w.site, path, data, err)
	}
	w.p.archived(path, data)
	return err
}

// signed notes a checkpoint that a writer has signed, and what the model thinks of it.
func (p *play) signed(der []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.running[len(p.running)-1]
	s, err := parseStored(der)
	if err != nil {
		p.wrong = err.Error()
		return
	}
	if d := p.doubtOf(c); d != nil && d.at.Number == s.at.Number && d.at != s.at {
		p.wrong = fmt.Sprintf("%s signs number %d again, which is in doubt", c.by.label, s.at.Number)
	}
	if p.marks[s.at.Digest] != nil {
		p.wrong = "signed twice"
		return
	}
	m := &mark{at: s.at, created: s.Created, call: c, signer: c.by.label, compact: c.compact, list: 1, changes: c.notes, keys: map[string]modelKey{}}
	if m.before = p.marks[s.previous().Digest]; m.before != nil {
		m.follow(c)
	} else {
		m.members, m.legit = []string{"ann", "ben", "cleo", "vault"}, true
	}
	m.paths = []string{blob.CheckpointPath(s.at.Digest), blob.ChangesPath(s.Changes), blob.MembersPath(s.List.Digest)}
	if s.RootAt.Length > 0 {
		m.pack = blob.PackPath(s.RootAt.Pack)
	}
	c.marks = append(c.marks, m)
	p.marks[s.at.Digest] = m
}

// archived keeps what writers have put under its digest.
func (p *play) archived(path string, data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !strings.HasPrefix(path, blob.SlotsPrefix) {
		p.archive[path] = data
	}
}

// follow makes a mark that which a call makes of the one before.
func (m *mark) follow(c *call) {
	b := m.before
	m.list, m.members = b.list, b.members
	m.legit = b.hasOwner(c.by.label) && !c.recovery || c.recovery && !isOwner(c.by.label) && slices.Contains(b.members, c.by.label)
	if next, changed := c.next(b.members); changed {
		m.list, m.members = b.list+1, next
	}
	if c.recovery && m.list > b.list {
		m.rescue = &rescue{c.leave, c.join}
	}
	if c.compact {
		m.changes++
	}
	m.keys = make(map[string]modelKey, len(b.keys))
	for name, k := range b.keys {
		m.keys[name] = k
	}
	for i, cmd := range c.commands {
		if c.ran[i] != m.at.Number {
			continue // what it needs could not be read
		}
		old, there := m.keys[cmd.name]
		k, changed, ok := cmd.model(old, there, m.at.Number, m.list)
		if ok && changed {
			m.keys[cmd.name] = k
			m.changes++
		}
	}
}

// next returns who are members after a call.
func (c *call) next(before []string) ([]string, bool) {
	if c.join == "" && c.leave == "" {
		return nil, false
	}
	var next []string
	for _, label := range before {
		if label != c.leave {
			next = append(next, label)
		}
	}
	if c.join != "" && !slices.Contains(next, c.join) {
		next = append(next, c.join)
	}
	if c.recovery {
		return next, isOwner(c.leave) && slices.Contains(before, c.leave) && !slices.Contains(before, c.join)
	}
	return next, slices.ContainsFunc(next, isOwner) && !slices.Equal(next, before)
}

// doubtOf returns what is in doubt in the session of a call.
func (p *play) doubtOf(c *call) *mark {
	if c.by.l == nil {
		return nil
	}
	return p.undecided[c.by.l.session]
}

// filled notes what became of a checkpoint that was put into its slot.
func (p *play) filled(s *site, path string, der []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.running[len(p.running)-1]
	if c.by.l == nil {
		return
	}
	m := p.marks[must(parseStored(der)).at.Digest]
	there, getErr := s.Get(context.Background(), path)
	lost := getErr == nil && !bytes.Equal(there, der)
	if p.undecided[c.by.l.session] = m; err == nil || lost {
		delete(p.undecided, c.by.l.session)
	}
}

// event counts what a run has tried, so that a test can see that it has.
func (p *play) event(format string, args ...any) { p.seen[fmt.Sprintf(format, args...)]++ }

// same compares a keyring, as it is read from a store, with what the model has. With doubt
// its nodes may be missing or wrong.
func (p *play) same(l *Ledger, m *mark, doubt bool) {
	p.Helper()
	if got := labels(l.Members().List().Members); !slices.Equal(got, m.members) || l.Members().List().Number != m.list {
		p.Fatalf("members %v, list %d, at checkpoint %d; want %v, list %d", got, l.Members().List().Number, m.at.Number, m.members, m.list)
	}
	if l.Len() != len(m.keys) {
		p.Fatalf("%d names at checkpoint %d, want %d", l.Len(), m.at.Number, len(m.keys))
	}
	count := 0
	for e, err := range l.Entries(p.ctx(), "") {
		if err != nil {
			p.mayLack(err, doubt)
			return
		}
		count++
		if !p.sameEntry(l, e, m, doubt) {
			return
		}
	}
	if count != len(m.keys) {
		p.Fatalf("%d names are listed at checkpoint %d, want %d", count, m.at.Number, len(m.keys))
	}
}

func (p *play) mayLack(err error, doubt bool) {
	p.Helper()
	if !doubt || !errors.Is(err, blob.ErrIntegrity) && !errors.Is(err, blob.ErrNotFound) {
		p.Fatalf("reading keys: %v", err)
	}
}

func (p *play) sameEntry(l *Ledger, e Entry, m *mark, doubt bool) bool {
	p.Helper()
	k, ok := m.keys[e.Name]
	if !ok || e.Current != k.current || e.Description != k.description || e.RotateEvery != k.rotateEvery || e.Total() != len(k.versions) {
		p.Fatalf("key %q at checkpoint %d: current %d, %q, every %d days, %d versions; want %+v", e.Name, m.at.Number, e.Current, e.Description, e.RotateEvery, e.Total(), k)
	}
	for v, err := range l.Versions(p.ctx(), e) {
		if err != nil {
			p.mayLack(err, doubt)
			return false
		}
		got := modelVersion{v.KeyID, v.Revision, v.List, v.Changed, k.versions[v.Number].made, v.Status}
		if got != k.versions[v.Number] || v.Blob != wrapping(v.KeyID, v.Revision) {
			p.Fatalf("key %q, version %d, at checkpoint %d: %+v, want %+v", e.Name, v.Number, m.at.Number, got, k.versions[v.Number])
		}
	}
	return true
}
