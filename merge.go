package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token"
)

// Merge is the work of taking in what another copy of the keyring has, which was written
// to as well.
type Merge struct {
	Common ledger.Point // the newest checkpoint that both copies have
	At     ledger.Point // what is taken in
	Lists  []blob.MemberList

	k      *Keyring
	branch *ledger.Branch
	source ledger.Source // has the nodes of both
}

// BeginMerge opens a branch of the keyring: the head of another store, or where at is not
// nil that checkpoint, which may be in this very store, as after one copy was put over
// another. Every step of it from the common checkpoint on is checked. The lists of members
// that it has and we do not are in Lists: they are not taken.
func (k *Keyring) BeginMerge(ctx context.Context, store blob.Store, at *ledger.Point) (*Merge, error) {
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	if err := k.mustOwn("merge another copy"); err != nil {
		return nil, err
	}
	branch, err := k.view().Branch(ctx, store, at)
	if err != nil {
		return nil, fmt.Errorf("merge another copy: %w", err)
	}
	m := &Merge{Common: branch.Common, At: branch.At(), k: k, branch: branch, source: ledger.Sources(branch.Source(), k.view().Source())}
	theirs, ours := branch.Members(), k.members()
	for number := theirs.List().Number; number > 1; number-- {
		l := theirs.ListNumber(number)
		if number <= ours.List().Number && ours.ListNumber(number).Created.Equal(l.Created) && len(ours.ListNumber(number).Members) == len(l.Members) {
			break // the lists before are the same ones
		}
		m.Lists = append(m.Lists, l)
	}
	return m, nil
}

// Keys takes the keys in, one result for each version that is new to us or whose status
// changes. What comes in under a name that we have is wrapped and signed anew, gets a
// version number of its own, and is deactivated: it opens its files, and never encrypts. A
// name that we do not have comes as it is. It can be killed and started again.
func (m *Merge) Keys(ctx context.Context) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		for d, err := range ledger.Diff(ctx, m.source, m.branch.From, m.branch.Trie()) {
			if err != nil {
				yield(Result{Err: err})
				return
			}
			if d.New == nil {
				continue // nothing is ever taken away
			}
			for v, err := range m.branch.Versions(ctx, *d.New) {
				r := Result{Ref: Ref{d.New.Name, v.Number}, Err: err}
				if err == nil {
					r.Entry, r.Done, r.Err = m.version(ctx, *d.New, v)
				}
				if (r.Done || r.Err != nil) && !yield(r) || err != nil {
					return
				}
			}
		}
	}
}

// version takes one version in.
func (m *Merge) version(ctx context.Context, e ledger.Entry, v ledger.Version) (Entry, bool, error) {
	k := m.k
	f, ok, err := k.versionWithID(ctx, e.Name, v.KeyID)
	if err != nil {
		return Entry{}, false, err
	}
	if ok {
		return m.status(ctx, f, v.Status)
	}
	if v.Status == ledger.Destroyed {
		return Entry{}, false, nil // we never had it
	}
	b, err := m.blob(ctx, e.Name, v)
	if err != nil {
		return Entry{}, false, inVersion(e.Name, v, err)
	}
	taken, err := k.takeIn(ctx, b, max(v.Status, ledger.Deactivated), fmt.Sprintf("from a copy at checkpoint %d", m.At.Number))
	return taken, err == nil, err
}

// blob reads a blob that the branch names.
func (m *Merge) blob(ctx context.Context, name string, v ledger.Version) (*blob.Blob, error) {
	from := &Keyring{store: m.branch.Store(), head: m.branch.Ledger}
	return from.load(ctx, found{ledger.Entry{Name: name}, v})
}

// status takes in a status that is worse than ours.
func (m *Merge) status(ctx context.Context, f found, status ledger.Status) (Entry, bool, error) {
	if status <= f.version.Status {
		return Entry{}, false, nil
	}
	f.version.Status = status
	err := m.k.recordEdit(ctx, worsens(f.entry.Name, f.version.Number, status, fmt.Sprintf("from a copy at checkpoint %d", m.At.Number)), onToken)
	return m.k.lister().entry(f.entry, f.version), err == nil, err
}

var statusOps = map[ledger.Status]ledger.Op{
	ledger.Deactivated: ledger.Deactivate, ledger.Compromised: ledger.Compromise, ledger.Destroyed: ledger.Destroy,
}

// worsens is the edit that gives a version a worse status.
func worsens(name string, version int, status ledger.Status, reason string) ledger.Edit {
	return ledger.Edit{Name: name, Apply: func(old *ledger.Entry, get func(int) (ledger.Version, bool, error), number int, at time.Time) (ledger.Update, []ledger.Change, error) {
		if old == nil {
			return ledger.Update{}, nil, errStaleEntry
		}
		v, ok, err := get(version)
		if err != nil || !ok || v.Status >= status {
			return ledger.Update{}, nil, err
		}
		v.Status, v.Changed, v.ChangedAt = status, number, at
		e := *old
		if status != ledger.Deactivated && e.Current == version {
			e.Current = 0
		}
		return ledger.Update{Entry: e, Set: []ledger.Version{v}}, []ledger.Change{{Op: statusOps[status], Name: name, Version: version, Reason: reason}}, nil
	}}
}

// takeIn gives a key that the state does not name a version of its own: the same key,
// wrapped to the members of today and signed by us. Under a name that we do not have it is
// the first, and encrypts.
func (k *Keyring) takeIn(ctx context.Context, b *blob.Blob, status ledger.Status, reason string) (Entry, error) {
	return again(ctx, k, func() (Entry, error) { return k.takeInOnce(ctx, b, status, reason) })
}

func (k *Keyring) takeInOnce(ctx context.Context, b *blob.Blob, status ledger.Status, reason string) (Entry, error) {
	d := b.Descriptor()
	last, isNew := 0, false
	switch e, err := k.view().Entry(ctx, d.Name); {
	case err == nil:
		last = highest(e)
	case errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity):
		isNew = true
	default:
		return Entry{}, err
	}
	list, digest := k.ListNumber(), b.Digest()
	d.Version, d.Revision, d.Replaces, d.Recovery = last+1, 1, digest[:], nil
	taken, err := k.wrapAs(ctx, b, d)
	if err != nil {
		return Entry{}, err
	}
	v := k.version(taken, list)
	if v.Status = status; isNew && status == ledger.Deactivated {
		v.Status = ledger.Active
	}
	err = k.recordEdit(ctx, merges(d.Name, last, v, reason), onToken)
	if errors.Is(err, errStaleEntry) {
		return Entry{}, errors.Join(err, k.discard(ctx, taken))
	}
	if err != nil {
		return Entry{}, fmt.Errorf("take in key %q: %w", d.Name, err)
	}
	e := k.entry(taken)
	e.Status = v.Status.String()
	return e, nil
}

// merges is the edit that takes a version in, if last is still the highest.
func merges(name string, last int, v ledger.Version, reason string) ledger.Edit {
	return ledger.Edit{Name: name, Apply: func(old *ledger.Entry, _ func(int) (ledger.Version, bool, error), number int, at time.Time) (ledger.Update, []ledger.Change, error) {
		e := ledger.Entry{Name: name}
		if old != nil {
			e = *old
		}
		if (old == nil) != (last == 0) || old != nil && highest(e) != last {
			return ledger.Update{}, nil, errStaleEntry
		}
		v.Changed, v.ChangedAt = number, at
		if old == nil && v.Status == ledger.Active {
			e.Current = v.Number
		}
		return ledger.Update{Entry: e, Set: []ledger.Version{v}}, []ledger.Change{{Op: ledger.Merge, Name: name, Version: v.Number, Reason: reason}}, nil
	}}
}

// wrapAs has the token wrap the key in a blob to today's members, under another descriptor.
func (k *Keyring) wrapAs(ctx context.Context, b *blob.Blob, d blob.Descriptor) (*blob.Blob, error) {
	if derivation, ok := b.Derivation(); ok { // it is signed anew, and needs no password for that
		return k.put(ctx, d, blob.Content{Algorithm: b.Algorithm(), Derivation: &derivation})
	}
	var key token.Transit
	_, err := k.opening(ctx, b, func(wrapped token.Wrapped) (err error) {
		key, err = k.pair.UnwrapTransit(ctx, specOf(b), wrapped)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer key.Close()
	return k.seal(ctx, d, b.Algorithm(), key)
}
