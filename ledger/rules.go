package ledger

import (
	"fmt"
	"iter"
	"slices"
	"time"
)

// rules decide which changes of entries a checkpoint may make: those that its record names, as far
// as their operations allow.
type rules struct {
	number int       // of the checkpoint
	at     time.Time // its time
	list   int       // number of the list of members in force after it
}

// check compares the differences between two tries with the changes that were recorded: each
// difference must be recorded, and each change must have made a difference.
func (r rules) check(differences iter.Seq2[Difference, error], recorded []Change) error {
	left := map[string][]Change{}
	for _, c := range recorded {
		if (c.Name == "") != (c.Op == Compact || c.Op == ReplacePin) {
			return inKey(c.Name, illegal(c, "is not about that"))
		}
		if c.Name != "" {
			left[c.Name] = append(left[c.Name], c)
		}
	}
	var gone, renamed []*Entry
	for d, err := range differences {
		switch {
		case err != nil:
			return err
		case d.New == nil:
			gone = append(gone, d.Old)
			continue
		case d.Old == nil && isRename(left[d.New.Name]):
			renamed = append(renamed, d.New)
		default:
			if err := r.checkEntry(d, left[d.New.Name]); err != nil {
				return inKey(d.New.Name, err)
			}
		}
		delete(left, d.New.Name)
	}
	for _, changes := range left {
		return inKey(changes[0].Name, illegal(changes[0], "did not happen"))
	}
	return checkRenamed(gone, renamed)
}

func illegal(c Change, why string) error {
	what := c.Op.String()
	if c.Version > 0 {
		what = fmt.Sprintf("%s of version %d", c.Op, c.Version)
	}
	return fmt.Errorf("%s is recorded, and %s: %w", what, why, ErrIllegal)
}

func inKey(name string, err error) error { return fmt.Errorf("key %q: %w", name, err) }

func isRename(changes []Change) bool { return len(changes) == 1 && changes[0].Op == Rename }

// checkRenamed pairs entries that have gone with those that have come under another name.
func checkRenamed(gone, renamed []*Entry) error {
	old := map[string]*Entry{}
	for _, e := range gone {
		old[e.Name] = e
	}
	for _, e := range renamed {
		if len(e.Earlier) == 0 {
			return fmt.Errorf("key %q is renamed from nothing: %w", e.Name, ErrIllegal)
		}
		from := e.Earlier[len(e.Earlier)-1]
		was, ok := old[from]
		if !ok || !sameRenamed(was, e) {
			return fmt.Errorf("key %q is not what was %q: %w", e.Name, from, ErrIllegal)
		}
		delete(old, from)
	}
	for name := range old {
		return fmt.Errorf("key %q is gone: %w", name, ErrIllegal)
	}
	return nil
}

// sameRenamed reports whether only the name differs, and the former one is noted.
func sameRenamed(was, e *Entry) bool {
	return slices.Equal(e.Earlier, append(slices.Clone(was.Earlier), was.Name)) && // all of them: blobs lie under these names
		e.Current == was.Current && e.Description == was.Description && sameDates(was, e) &&
		slices.Equal(e.Versions, was.Versions) && e.Older.Digest == was.Older.Digest && e.Older.Count == was.Older.Count
}

func sameDates(a, b *Entry) bool {
	return a.Expires.Equal(b.Expires) && a.RotateEvery == b.RotateEvery
}

// An aspect is a part of an entry that can change by itself.
type aspect struct {
	kind    kind
	version int // 0 where it is of the entry
}

type kind int

const (
	made    kind = iota // a version that was not there
	wrapped             // its newest revision
	status
	current
	description
	dates
)

// checkEntry checks what has become of one name, which was there or is new.
func (r rules) checkEntry(d Difference, changes []Change) error {
	changed, err := r.aspects(d)
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		return fmt.Errorf("changed without a record: %w", ErrIllegal)
	}
	for _, c := range changes {
		if !r.account(d, c, changed) {
			return illegal(c, "is not what has changed")
		}
	}
	if changed[aspect{current, 0}] && mayMove(d, changes) {
		delete(changed, aspect{current, 0})
	}
	for a := range changed {
		return fmt.Errorf("changed without a record (version %d): %w", a.version, ErrIllegal)
	}
	return nil
}

// aspects returns what differs, or an error for what may never differ.
func (r rules) aspects(d Difference) (map[aspect]bool, error) {
	changed := map[aspect]bool{}
	for _, v := range d.Versions {
		if v.New == nil {
			return nil, fmt.Errorf("version %d is gone: %w", v.Old.Number, ErrIllegal)
		}
		if err := r.checkVersion(v, changed); err != nil {
			return nil, fmt.Errorf("version %d %w", v.New.Number, err)
		}
	}
	if d.Old == nil {
		if len(d.New.Earlier) > 0 {
			return nil, fmt.Errorf("is new and has former names: %w", ErrIllegal)
		}
		return changed, nil
	}
	if !slices.Equal(d.Old.Earlier, d.New.Earlier) {
		return nil, fmt.Errorf("has other former names: %w", ErrIllegal)
	}
	for k, differs := range map[kind]bool{
		current:     d.Old.Current != d.New.Current,
		description: d.Old.Description != d.New.Description,
		dates:       !sameDates(d.Old, d.New),
	} {
		if differs {
			changed[aspect{k, 0}] = true
		}
	}
	return changed, nil
}

// checkVersion checks what every change of a version has to keep to, and notes its aspects.
func (r rules) checkVersion(v VersionDifference, changed map[aspect]bool) error {
	n := v.New
	if n.Changed != r.number || !n.ChangedAt.Equal(r.at) {
		return fmt.Errorf("says that checkpoint %d has changed it: %w", n.Changed, ErrIllegal)
	}
	if v.Old == nil {
		changed[aspect{made, n.Number}] = true
		return r.checkList(n.List, 1)
	}
	if !sameKey(v.Old, n) {
		return fmt.Errorf("is another key: %w", ErrIllegal)
	}
	if v.Old.Status != n.Status {
		changed[aspect{status, n.Number}] = true
	}
	if v.Old.Revision == n.Revision && v.Old.Blob == n.Blob && v.Old.List == n.List {
		if v.Old.Status == n.Status {
			return fmt.Errorf("has not changed: %w", ErrIllegal)
		}
		return nil
	}
	changed[aspect{wrapped, n.Number}] = true
	if n.Revision <= v.Old.Revision || n.Blob == v.Old.Blob {
		return fmt.Errorf("has revision %d after %d: %w", n.Revision, v.Old.Revision, ErrIllegal)
	}
	return r.checkList(n.List, v.Old.List)
}

func (r rules) checkList(list, least int) error {
	if list < least || list > r.list {
		return fmt.Errorf("is wrapped under list of members %d, not %d to %d: %w", list, least, r.list, ErrIllegal)
	}
	return nil
}

// sameKey reports whether nothing differs that stays for the life of a version.
func sameKey(a, b *Version) bool {
	return a.Number == b.Number && a.KeyID == b.KeyID && a.Algorithm == b.Algorithm && a.Purpose == b.Purpose &&
		a.KeySize == b.KeySize && a.Derived == b.Derived && a.Imported == b.Imported && a.Created.Equal(b.Created)
}

// account removes what a change has changed from what is still to be explained, and reports whether
// it changed something and all of that is allowed.
func (r rules) account(d Difference, c Change, changed map[aspect]bool) bool {
	take := func(a aspect) bool {
		ok := changed[a]
		delete(changed, a)
		return ok
	}
	switch c.Op {
	case Create:
		return d.Old == nil && take(aspect{made, c.Version}) && mayAdd(d, c.Version)
	case Rotate:
		return (d.Old != nil || c.Version > d.New.Versions[0].Number) && take(aspect{made, c.Version}) && mayAdd(d, c.Version)
	case Rewrap, Adopt:
		return take(aspect{wrapped, c.Version}) && pair(d, c.Version).Old.Status != Destroyed
	case Merge:
		return accountMerge(d, c, take)
	case Activate, Deactivate, Compromise, Destroy:
		return accountStatus(d, c, take)
	case Describe:
		return take(aspect{description, 0})
	case SetDates:
		return take(aspect{dates, 0})
	}
	return false
}

// mayAdd reports whether a version may be new as the newest one. It must not take the key of
// another: the trie refuses that.
func mayAdd(d Difference, version int) bool {
	v := pair(d, version).New
	if d.Old != nil && version <= d.Old.Versions[len(d.Old.Versions)-1].Number {
		return false
	}
	return v.Status == Active && v.Revision == 1
}

// accountMerge accounts for what comes from outside the state: versions that encrypt nothing unless
// the name is new here, newer wrappings of those that are here, and a worse status.
func accountMerge(d Difference, c Change, take func(aspect) bool) bool {
	v := pair(d, c.Version)
	if take(aspect{made, c.Version}) {
		return d.Old == nil || v.New.Status != Active
	}
	rewrapped := take(aspect{wrapped, c.Version})
	if rewrapped && v.Old.Status == Destroyed {
		return false
	}
	if take(aspect{status, c.Version}) {
		return v.New.Status > v.Old.Status
	}
	return rewrapped
}

// accountStatus accounts for changes of the status of one version, or of all versions that a change
// of the whole name has changed.
func accountStatus(d Difference, c Change, take func(aspect) bool) bool {
	some := false
	for _, v := range d.Versions {
		if c.Version != 0 && c.Version != v.New.Number || v.Old == nil {
			continue
		}
		if v.Old.Status != v.New.Status && Moves(c.Op, v.Old.Status, v.New.Status) {
			some = take(aspect{status, v.New.Number}) || some
		}
	}
	return some
}

// Moves reports whether an operation leads from one status to another (NIST SP 800-57 part
// 1 rev. 5 §7.3). No key comes back from being compromised or destroyed.
func Moves(op Op, from, to Status) bool {
	switch op {
	case Activate:
		return from == Deactivated && to == Active
	case Deactivate:
		return from == Active && to == Deactivated
	case Compromise:
		return from < Compromised && to == Compromised
	case Destroy:
		return from < Destroyed && to == Destroyed
	}
	return false
}

// mayMove reports whether one of the changes may have moved the current version: to one
// that it made, away from one that encrypts no more, or, where there was none, to one that
// does so again.
func mayMove(d Difference, changes []Change) bool {
	was, is := pair(d, d.Old.Current).New, pair(d, d.New.Current).New
	return slices.ContainsFunc(changes, func(c Change) bool {
		switch c.Op {
		case Rotate:
			return c.Version == d.New.Current
		case Deactivate, Compromise, Destroy:
			return d.New.Current == 0 && was != nil && was.Status != Active
		case Activate:
			return d.Old.Current == 0 && is != nil && is.Status == Active
		}
		return false
	})
}

// pair returns what has become of one version, or nothing if it is the same as before.
func pair(d Difference, number int) VersionDifference {
	for _, v := range d.Versions {
		if v.New != nil && v.New.Number == number {
			return v
		}
	}
	return VersionDifference{}
}
