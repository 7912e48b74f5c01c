package ledger

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// An Edit changes the entry of one name. Several of one name in a proposal follow one
// another.
type Edit struct {
	Name string

	// List is the number of the list of members that has to be in force, as that is what a
	// key was wrapped under; 0 for any. Another one is an [ErrList].
	List int

	// Apply returns what becomes of the entry, which is nil where there is none, and what
	// is recorded about it. get returns a version of the entry, also an older one, and
	// reports whether there is one. number and at are those of the new checkpoint, for
	// Changed and ChangedAt of the versions. No changes and no error: there is nothing to
	// do any more.
	Apply func(old *Entry, get func(version int) (Version, bool, error), number int, at time.Time) (Update, []Change, error)
}

// edit runs the edits, and returns the update of each name that is changed, in the order
// of the edits, and the errors of those that failed.
func (d *draft) edit(ctx context.Context, l *Ledger, edits []Edit) ([]Update, []error) {
	var updates []Update
	errs := make([]error, len(edits))
	index := map[string]int{} // of updates
	for i, e := range edits {
		var before *Update
		at, again := index[e.Name]
		if again {
			before = &updates[at]
		}
		u, changes, err := d.apply(ctx, l, e, before)
		switch {
		case err != nil:
			errs[i] = err
			continue
		case len(changes) == 0:
			continue
		case again:
			updates[at] = u
			d.changes = slices.DeleteFunc(d.changes, func(c Change) bool { return slices.ContainsFunc(changes, c.repeats) })
		default:
			index[e.Name] = len(updates)
			updates = append(updates, u)
		}
		d.changes = append(d.changes, changes...)
	}
	return updates, errs
}

// apply runs an edit on an entry, or on what an update before in the same proposal makes of
// it. The update that it returns includes that.
func (d *draft) apply(ctx context.Context, l *Ledger, e Edit, before *Update) (Update, []Change, error) {
	if e.List != 0 && e.List != l.head.List.Number {
		return Update{}, nil, fmt.Errorf("list of members %d is in force, not %d: %w", l.head.List.Number, e.List, ErrList)
	}
	old, ok, err := d.trie.Get(ctx, l.source, e.Name)
	if err != nil {
		return Update{}, nil, err
	}
	was := &old
	if !ok {
		was = nil
	}
	get := func(version int) (Version, bool, error) {
		if before != nil {
			if i := indexOf(before.Set, version); i >= 0 {
				return before.Set[i], true, nil
			}
		}
		if !ok {
			return Version{}, false, nil
		}
		return d.trie.Version(ctx, l.source, old, version)
	}
	if before != nil {
		if before.From != "" || before.Entry.Name != e.Name {
			return Update{}, nil, fmt.Errorf("key %q is renamed in the same checkpoint: %w", e.Name, ErrIllegal)
		}
		was = before.onto(old)
	}
	u, changes, err := e.Apply(was, get, l.head.Number+1, d.created())
	if err != nil || before == nil {
		return u, changes, err
	}
	set := mergeVersions(before.Set, u.Set)
	u.Set = set
	return u, changes, nil
}

// onto returns the entry that an update makes of one, the newest versions at the end.
func (u *Update) onto(old Entry) *Entry {
	e := u.Entry
	e.Versions, e.Older = mergeVersions(old.Versions, u.Set), old.Older
	return &e
}

// repeats reports whether two changes are the same except for their reasons.
func (c Change) repeats(other Change) bool {
	return c.Op == other.Op && c.Name == other.Name && c.Version == other.Version
}

func indexOf(versions []Version, number int) int {
	return slices.IndexFunc(versions, func(v Version) bool { return v.Number == number })
}
