package hsmkeys

import (
	"maps"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// createEdit returns the edit that adds a key with its first version, or the first after last, which is
// the highest of a key of that name that was destroyed.
func createEdit(name string, last int, v ledger.Version, key NewKey) ledger.Edit {
	return ledger.Edit{Name: name, List: v.List, Apply: func(old *ledger.Entry, _ func(int) (ledger.Version, bool, error), number int, at time.Time) (ledger.Update, []ledger.Change, error) {
		e, change := ledger.Entry{Name: name}, ledger.Change{Op: ledger.Create, Name: name, Version: v.Number, Reason: key.Reason}
		if (old == nil) != (last == 0) || old != nil && (highest(*old) != last || old.Current != 0) {
			return ledger.Update{}, nil, errStaleEntry
		}
		var changes []ledger.Change
		if old != nil { // the details of the key that was destroyed are not those of this one
			e, change.Op = *old, ledger.Rotate
			key.set(&e)
			changes = detailChanges(old, &e, key.Reason)
		}
		v.Changed, v.ChangedAt = number, at
		key.set(&e)
		e.Current = v.Number
		return ledger.Update{Entry: e, Set: []ledger.Version{v}}, append(changes, change), nil
	}}
}

// rotateEdit returns the edit that adds a version to a key, if last is still the highest, and the version
// that it is made after has the status that it had: one that was destroyed meanwhile gets no successor.
func rotateEdit(name string, last int, model, v ledger.Version, reason string) ledger.Edit {
	return ledger.Edit{Name: name, List: v.List, Apply: func(old *ledger.Entry, get func(int) (ledger.Version, bool, error), number int, at time.Time) (ledger.Update, []ledger.Change, error) {
		if old == nil || highest(*old) != last {
			return ledger.Update{}, nil, errStaleEntry
		}
		now, ok, err := get(model.Number)
		if err != nil {
			return ledger.Update{}, nil, err
		}
		if !ok || now.Status != model.Status {
			return ledger.Update{}, nil, errStaleEntry
		}
		v.Changed, v.ChangedAt = number, at
		e := *old
		e.Current = v.Number
		return ledger.Update{Entry: e, Set: []ledger.Version{v}}, []ledger.Change{{Op: ledger.Rotate, Name: name, Version: v.Number, Reason: reason}}, nil
	}}
}

// replaceEdit returns the edit that puts another blob of the same key in the place of source.
func replaceEdit(op ledger.Op, name string, source [32]byte, v ledger.Version, reason string) ledger.Edit {
	return ledger.Edit{Name: name, List: v.List, Apply: func(old *ledger.Entry, get func(int) (ledger.Version, bool, error), number int, at time.Time) (ledger.Update, []ledger.Change, error) {
		if old == nil {
			return ledger.Update{}, nil, errStaleEntry
		}
		was, ok, err := get(v.Number)
		if err != nil {
			return ledger.Update{}, nil, err
		}
		if !ok || was.Blob != source || was.Status == ledger.Destroyed {
			return ledger.Update{}, nil, errStaleEntry
		}
		was.Revision, was.Blob, was.List, was.Changed, was.ChangedAt = v.Revision, v.Blob, v.List, number, at
		return ledger.Update{Entry: *old, Set: []ledger.Version{was}}, []ledger.Change{{Op: op, Name: name, Version: v.Number, Reason: reason}}, nil
	}}
}

// highest returns the number of the newest version of a key.
func highest(e ledger.Entry) int { return e.Versions[len(e.Versions)-1].Number }

// version returns the version of a key that a blob with the members of a list stands for in the
// state.
func (k *Keyring) version(b *blob.Blob, list int) ledger.Version {
	d := b.Descriptor()
	return ledger.Version{
		Number: d.Version, Revision: d.Revision, KeyID: d.KeyID, Blob: b.Digest(), List: list,
		Algorithm: b.Algorithm(), Purpose: d.Purpose, KeySize: b.KeySize(),
		Derived: isDerived(b), Imported: d.Imported, Status: ledger.Active, Created: d.Created,
	}
}

// A takeInEdit describes the edit that takes in versions of one name from outside the state.
type takeInEdit struct {
	name     string
	last     int                   // the highest version that is here; 0: there is no such name
	versions []ledger.Version      // that come, ascending
	current  int                   // of a new name
	worse    map[int]ledger.Status // of versions that are here
	reason   string
}

// edit returns the edit, which is stale if there is another highest version meanwhile.
func (n takeInEdit) edit() ledger.Edit {
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
