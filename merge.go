package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// ErrContinues is the error for a copy of the keyring that continues the newest checkpoint here: it
// is no fork, and its objects only have to be copied.
var ErrContinues = errors.New("the copy is newer, and nothing has been written here since")

// A Merge takes in the keys of another copy of the keyring, which was written to as well.
type Merge struct {
	Common ledger.Point // the newest checkpoint that both copies have
	At     ledger.Point // the newest checkpoint of the copy; Common if it has none of its own
	Signed time.Time    // when that was signed
	Signer string       // the signer's label
	Former bool         // the signer is no member here any more

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

// Keys takes the keys in, and yields what was done to each name that changed. What comes in is
// wrapped and signed anew. Under a name that exists here it gets a new version number and is at
// least deactivated: it opens its files, and encrypts nothing new. A new name keeps its version
// numbers, and encrypts as before if an owner in force here has signed it and no former member can
// open it. For a key that both copies have, the worse status counts if an owner in force here has
// set it; so one that was destroyed in either copy is destroyed.
//
// It can be killed and started again: versions that have come are recognized by their key ids.
func (m *Merge) Keys(ctx context.Context) iter.Seq[Merged] {
	return func(yield func(Merged) bool) {
		refs, err := m.changed(ctx)
		if err != nil {
			yield(Merged{Err: err})
			return
		}
		for r := range m.k.change(ctx, ledger.Merge.String(), fmt.Sprintf("from a copy at checkpoint %d", m.At.Number), refs, onToken, m.prepare) {
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

// changed returns the names that the copy has changed. It has no others that are not here as well.
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
	versions, err := collect(m.branch.Versions(ctx, theirs))
	if err != nil {
		return Result{Ref: ref, Err: err}
	}
	e := takeInEdit{name: ref.Name, reason: fmt.Sprintf("from a copy at checkpoint %d", m.At.Number), worse: map[int]ledger.Status{}}
	known, err := m.known(ctx, &e, theirs, versions)
	if err != nil {
		return Result{Ref: ref, Err: err}
	}
	merged := Merged{Name: e.name, New: e.last == 0}
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
		if err := m.k.recorder.begin(intentOf(ctx), Use{}); err != nil { // for all versions, before the first is stored
			return Result{Ref: ref, Err: err}
		}
		taken, err := m.version(ctx, e.name, keyVersion{theirs, v}, number, merged.New)
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

// known returns the versions that are here of a key of the copy, by their key ids, and notes the name
// that the key has here, and the highest version.
func (m *Merge) known(ctx context.Context, e *takeInEdit, theirs ledger.Entry, versions []ledger.Version) (map[blob.ID]ledger.Version, error) {
	ids := map[blob.ID]bool{}
	for _, v := range versions {
		ids[v.KeyID] = true
	}
	known := map[blob.ID]ledger.Version{}
	for _, name := range (keyVersion{entry: theirs}).names() { // either copy may have renamed it
		entries, err := m.k.everNamed(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, ours := range entries {
			all, err := collect(m.k.view().Versions(ctx, ours))
			if err != nil {
				return nil, err
			}
			same := slices.ContainsFunc(all, func(v ledger.Version) bool { return ids[v.KeyID] })
			if !same && (ours.Name != e.name || e.last > 0) {
				continue // another key that had the name once, or has it now
			}
			clear(known)
			for _, v := range all {
				known[v.KeyID] = v
			}
			if e.name, e.last = ours.Name, highest(ours); same {
				return known, nil
			}
		}
	}
	return known, nil
}

// collect returns all values up to the first error.
func collect[T any](seq iter.Seq2[T, error]) (all []T, err error) {
	for v, err := range seq {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// version makes of a version of the copy one that is to be recorded here.
func (m *Merge) version(ctx context.Context, name string, f keyVersion, number int, isNew bool) (ledger.Version, error) {
	v := f.version
	if v.Status == ledger.Destroyed { // so that no blob that is left of it opens anything
		v.Number, v.List = number, min(v.List, m.k.ListNumber())
		return v, nil
	}
	b, err := m.from.loadVersion(ctx, f)
	if err != nil {
		return v, err
	}
	status := v.Status
	if signer, _ := m.k.members().Signer(string(b.SignerKeyID())); !isNew || signer.Role != blob.Owner || m.k.hasFormer(b) {
		status = max(status, ledger.Deactivated)
	}
	taken, b, err := m.k.wrapFor(ctx, b, name, number)
	if err != nil {
		return v, err
	}
	m.mu.Lock()
	m.made[f.entry.Name] = append(m.made[f.entry.Name], b)
	m.mu.Unlock()
	taken.Status = status
	return taken, nil
}
