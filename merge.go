package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// ErrContinues is for a copy of the keyring that goes on from the newest checkpoint here:
// it is no fork, and its objects only have to be copied.
var ErrContinues = errors.New("the copy is newer, and nothing has been written here since")

// Merge is the work of taking in what another copy of the keyring has, which was written
// to as well.
type Merge struct {
	Common ledger.Point // the newest checkpoint that both copies have
	At     ledger.Point // what is taken in: Common where that is nothing
	Signed time.Time    // when that was signed
	Signer string       // the signer's label
	Former bool         // who is no member here any more

	// Members are the changes of members in the copy since the common checkpoint, oldest
	// first. They are not taken.
	Members []ledger.Event

	k      *Keyring
	branch *ledger.Branch
	from   *Keyring      // the copy, to load blobs
	source ledger.Source // has the nodes of both

	mu   sync.Mutex
	made map[string][]*blob.Blob // by name: wrapped anew and not recorded yet

	by map[int]blob.Member // who has signed the checkpoints of the copy
}

// BeginMerge opens a branch of the keyring: the head of another store, or where at is not
// nil that checkpoint, which may be in this very store, as after one copy was put over
// another. Every step of it from the common checkpoint on is checked. Another store whose
// head only continues this keyring's is an [ErrContinues].
func (k *Keyring) BeginMerge(ctx context.Context, store blob.Store, at *ledger.Point) (*Merge, error) {
	const op = "merge another copy"
	if store == nil {
		store = k.store
	}
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	if err := k.mustOwn(op); err != nil {
		return nil, err
	}
	if id, _, err := ledger.Peek(ctx, store); err == nil && id != k.ID() {
		return nil, fmt.Errorf("%s: it has keyring %s, not %s: %w", op, id, k.ID(), ErrOtherKeyring)
	}
	branch, err := k.view().Branch(ctx, store, at)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if store != k.store && branch.Common == k.view().At() && branch.At() != branch.Common {
		return nil, fmt.Errorf("%s, at checkpoint %d: %w", op, branch.At().Number, ErrContinues)
	}
	signer, _ := branch.HeadSigner()
	m := &Merge{
		Common: branch.Common, At: branch.At(), Signed: branch.Head().SigningTime(), Signer: signer.Label, Former: k.isFormer(signer),
		k: k, branch: branch, from: &Keyring{store: store, head: branch.Ledger},
		source: ledger.Sources(branch.Source(), k.view().Source()), made: map[string][]*blob.Blob{},
		by: map[int]blob.Member{},
	}
	for e, err := range branch.Log(ctx, branch.Common.Number) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		m.by[e.At.Number] = e.Signer
		if e.List > 0 {
			m.Members = append(m.Members, e)
		}
	}
	return m, nil
}

// Merged is what a merge has done to one name.
type Merged struct {
	Name     string
	New      bool            // there was no such name here
	Versions []MergedVersion // that came, or whose status is worse now, ascending
	Err      error           // also of some versions, where others have come
}

// A MergedVersion is one version of what came.
type MergedVersion struct {
	Theirs, Ours int // its numbers in the copy and here
	Status       ledger.Status
	Known        bool // it was here, with a better status
}

// isFormer reports whether a member of a copy is none here, or no more.
func (k *Keyring) isFormer(m blob.Member) bool {
	if m.Certificate == nil {
		return true
	}
	_, ok := k.members().Signer(signerID(m))
	return !ok
}

// Keys takes the keys in, and yields what was done to each name to which something was.
// What comes in is wrapped and signed anew. Under a name that is here it gets a version
// number of its own and is at least deactivated: it opens its files, and never encrypts. A
// name that is not here comes with its numbers, and encrypts as before if an owner in force
// here has signed it and no former member can open it. Of a key that both copies have the
// worse status counts, and one that was destroyed in either is destroyed, if an owner in force
// here has done it.
//
// It can be killed and started again: what has come is known by its key id.
func (m *Merge) Keys(ctx context.Context) iter.Seq[Merged] {
	return func(yield func(Merged) bool) {
		refs, err := m.changed(ctx)
		if err != nil {
			yield(Merged{Err: err})
			return
		}
		for r := range m.k.change(ctx, refs, m.prepare) {
			merged := Merged{Name: r.Ref.Name, Err: r.Err}
			if r.merged != nil {
				merged = *r.merged
			}
			if (len(merged.Versions) > 0 || merged.Err != nil) && !yield(merged) {
				return
			}
		}
	}
}

// changed returns the names that the copy has changed. Those that it has not are no less
// here.
func (m *Merge) changed(ctx context.Context) ([]Ref, error) {
	var refs []Ref
	for d, err := range ledger.Diff(ctx, m.source, m.branch.From, m.branch.Trie()) {
		if err != nil {
			return nil, fmt.Errorf("merge another copy: %w", err)
		}
		if d.New != nil {
			refs = append(refs, Ref{Name: d.New.Name})
		}
	}
	return refs, nil
}

// prepare wraps what comes of one name, and returns the edit that takes it in.
func (m *Merge) prepare(ctx context.Context, ref Ref) Result {
	if err := m.discard(ctx, ref.Name); err != nil {
		return Result{Ref: ref, Err: err}
	}
	theirs, err := m.branch.Entry(ctx, ref.Name)
	if err != nil {
		return Result{Ref: ref, Err: err}
	}
	e := entering{name: ref.Name, reason: fmt.Sprintf("from a copy at checkpoint %d", m.At.Number), worse: map[int]ledger.Status{}}
	known, err := m.known(ctx, &e)
	if err != nil {
		return Result{Ref: ref, Err: err}
	}
	merged := Merged{Name: ref.Name, New: e.last == 0}
	var versions []ledger.Version
	for v, err := range m.branch.Versions(ctx, theirs) {
		if err != nil {
			return Result{Ref: ref, Err: err}
		}
		versions = append(versions, v)
	}
	next := e.last
	for _, v := range slices.Backward(versions) {
		if ours, ok := known[v.KeyID]; ok {
			if v.Status > ours.Status {
				if by := m.by[v.Changed]; !m.k.isOwner(by) {
					err := fmt.Errorf("%v there since checkpoint %d, by %q, who is no owner here: %w", v.Status, v.Changed, by.Label, blob.ErrUntrusted)
					merged.Err = errors.Join(merged.Err, inVersion(ref.Name, v, err))
					continue
				}
				e.worse[ours.Number] = v.Status
				merged.Versions = append(merged.Versions, MergedVersion{v.Number, ours.Number, v.Status, true})
			}
			continue
		}
		number := next + 1
		if merged.New {
			number = v.Number
		}
		taken, err := m.version(ctx, ref.Name, v, number, merged.New)
		if err != nil {
			merged.Err = errors.Join(merged.Err, inVersion(ref.Name, v, err))
			continue
		}
		if next = number; merged.New && theirs.Current == v.Number && taken.Status == ledger.Active {
			e.current = number
		}
		e.versions = append(e.versions, taken)
		merged.Versions = append(merged.Versions, MergedVersion{v.Number, number, taken.Status, false})
	}
	r := Result{Ref: ref, Err: merged.Err, merged: &merged}
	if len(merged.Versions) > 0 {
		edit := e.edit()
		r.Done, r.edit = true, &edit
	}
	return r
}

// discard removes what was wrapped for a name and could not be recorded, as somebody else
// was faster.
func (m *Merge) discard(ctx context.Context, name string) error {
	m.mu.Lock()
	made := m.made[name]
	delete(m.made, name)
	m.mu.Unlock()
	for _, b := range made {
		if err := m.k.discard(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// known returns the versions that are here of a name, by their key ids, and notes the
// highest.
func (m *Merge) known(ctx context.Context, e *entering) (map[blob.ID]ledger.Version, error) {
	known := map[blob.ID]ledger.Version{}
	view := m.k.view()
	ours, err := view.Entry(ctx, e.name)
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity) {
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	e.last = highest(ours)
	for v, err := range view.Versions(ctx, ours) {
		if err != nil {
			return nil, err
		}
		known[v.KeyID] = v
	}
	return known, nil
}

// version makes of a version of the copy one that is to be recorded here.
func (m *Merge) version(ctx context.Context, name string, v ledger.Version, number int, isNew bool) (ledger.Version, error) {
	if v.Status == ledger.Destroyed { // so that no blob that is left of it opens anything
		v.Number, v.List = number, min(v.List, m.k.ListNumber())
		return v, nil
	}
	b, err := m.from.load(ctx, found{ledger.Entry{Name: name}, v})
	if err != nil {
		return v, err
	}
	status := v.Status
	if signer, _ := m.k.members().Signer(string(b.SignerKeyID())); !isNew || signer.Role != blob.Owner || m.k.hasFormer(b) {
		status = max(status, ledger.Deactivated)
	}
	taken, b, err := m.k.wrapFor(ctx, b, number)
	if err != nil {
		return v, err
	}
	m.mu.Lock()
	m.made[name] = append(m.made[name], b)
	m.mu.Unlock()
	taken.Status = status
	return taken, nil
}

// An entering is the edit that takes in versions of one name from outside the state.
type entering struct {
	name     string
	last     int                   // the highest version that is here; 0: there is no such name
	versions []ledger.Version      // that come, ascending
	current  int                   // of a new name
	worse    map[int]ledger.Status // of versions that are here
	reason   string
}

// edit returns the edit, which is stale if there is another highest version meanwhile.
func (n entering) edit() ledger.Edit {
	return ledger.Edit{Name: n.name, Apply: func(old *ledger.Entry, get func(int) (ledger.Version, bool, error), number int, at time.Time) (ledger.Update, []ledger.Change, error) {
		u := ledger.Update{Entry: ledger.Entry{Name: n.name, Current: n.current}}
		if old != nil {
			u.Entry = *old
		}
		if (old == nil) != (n.last == 0) || old != nil && highest(*old) != n.last {
			return u, nil, errStaleEntry
		}
		var changes []ledger.Change
		add := func(op ledger.Op, v ledger.Version) {
			v.Changed, v.ChangedAt = number, at
			u.Set = append(u.Set, v)
			changes = append(changes, ledger.Change{Op: op, Name: n.name, Version: v.Number, Reason: n.reason})
		}
		for _, version := range slices.Sorted(maps.Keys(n.worse)) {
			v, ok, err := get(version)
			if err != nil {
				return u, nil, err
			}
			status := n.worse[version]
			if !ok || v.Status >= status {
				continue // somebody else has done that
			}
			if u.Entry.Current == version && status != ledger.Deactivated {
				u.Entry.Current = 0
			}
			v.Status = status
			add(statusOps[status], v)
		}
		for _, v := range n.versions {
			add(ledger.Merge, v)
		}
		return u, changes, nil
	}}
}

var statusOps = map[ledger.Status]ledger.Op{
	ledger.Deactivated: ledger.Deactivate, ledger.Compromised: ledger.Compromise, ledger.Destroyed: ledger.Destroy,
}

// takeIn adds a version for a key that the state does not name: the same key,
// wrapped to the members of today and signed by us. It is deactivated; under a name that we
// do not have it is the first, and encrypts.
func (k *Keyring) takeIn(ctx context.Context, b *blob.Blob, reason string) (Entry, error) {
	return again(ctx, k, func() (Entry, error) { return k.takeInOnce(ctx, b, reason) })
}

func (k *Keyring) takeInOnce(ctx context.Context, b *blob.Blob, reason string) (Entry, error) {
	n := entering{name: b.Descriptor().Name, reason: reason}
	status := ledger.Deactivated
	switch e, err := k.view().Entry(ctx, n.name); {
	case err == nil:
		n.last = highest(e)
	case errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity):
		if !k.hasFormer(b) {
			status, n.current = ledger.Active, 1
		}
	default:
		return Entry{}, err
	}
	v, taken, err := k.wrapFor(ctx, b, n.last+1)
	if err != nil {
		return Entry{}, err
	}
	v.Status = status
	n.versions = []ledger.Version{v}
	err = k.recordEdit(ctx, n.edit(), onToken)
	if isStale(err) {
		return Entry{}, errors.Join(err, k.discard(ctx, taken))
	}
	if err != nil {
		return Entry{}, fmt.Errorf("take in key %q: %w", n.name, err)
	}
	e := k.entry(taken)
	e.Status = v.Status.String()
	return e, nil
}

// isOwner reports whether a member of another copy is an owner in force here.
func (k *Keyring) isOwner(m blob.Member) bool {
	if m.Certificate == nil {
		return false
	}
	here, _ := k.members().Signer(signerID(m))
	return here.Role == blob.Owner
}

// hasFormer reports whether a blob is wrapped to somebody who is no member any more. What is
// made of it is not, and would not tell.
func (k *Keyring) hasFormer(b *blob.Blob) bool { return !k.heldByMembersSince(b, k.ListNumber()) }

// wrapFor wraps the key in a blob that the state does not name to today's members, as a
// version that it has not yet either.
func (k *Keyring) wrapFor(ctx context.Context, b *blob.Blob, number int) (ledger.Version, *blob.Blob, error) {
	list, digest := k.ListNumber(), b.Digest()
	d := b.Descriptor()
	d.Version, d.Revision, d.Replaces, d.Recovery = number, 1, digest[:], nil
	taken, err := k.wrapAs(ctx, b, d)
	if err != nil {
		return ledger.Version{}, nil, err
	}
	return k.version(taken, list), taken, nil
}

// wrapAs has the token wrap the key in a blob to today's members, under another descriptor,
// and stores that.
func (k *Keyring) wrapAs(ctx context.Context, b *blob.Blob, d blob.Descriptor) (*blob.Blob, error) {
	next, err := k.wrapOnly(ctx, b, d)
	if err != nil {
		return nil, err
	}
	return next, k.storing.end(next)
}

// wrapOnly is wrapAs without waiting until the blob is stored.
func (k *Keyring) wrapOnly(ctx context.Context, b *blob.Blob, d blob.Descriptor) (*blob.Blob, error) {
	if derivation, ok := b.Derivation(); ok { // it is signed anew, and needs no password for that
		return k.put(ctx, d, blob.Content{Algorithm: b.Algorithm(), Derivation: &derivation})
	}
	var key keyspec.Transit
	_, err := k.opening(ctx, b, func(wrapped keyspec.WrappedKey) (err error) {
		key, err = k.pair.UnwrapTransit(ctx, wrapped)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer key.Close()
	return k.seal(ctx, d, b.Algorithm(), key)
}
