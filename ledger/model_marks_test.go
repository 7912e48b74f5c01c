package ledger

import (
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A mark is what the reference model knows of one checkpoint: what is in the keyring after
// it. It does not change.
type mark struct {
	at      Point
	created time.Time
	before  *mark
	keys    map[string]modelKey
	members []string // labels
	list    int      // its number
	signer  string
	legit   bool     // the signer was entitled to it
	rescue  *rescue  // it is a recovery
	compact bool     // it has written all nodes anew
	changes int      // recorded
	call    *call    // by which it was made
	paths   []string // of what it refers to, but packs
	pack    string   // of its root, and all nodes that are new in it; empty: no keys
}

type rescue struct{ from, to string }

// A modelKey is an entry as plain values.
type modelKey struct {
	current     int
	description string
	rotateEvery int
	versions    map[int]modelVersion
}

type modelVersion struct {
	id                            blob.ID
	revision, list, changed, made int
	status                        Status
}

func (k modelKey) newest() int {
	newest := 0
	for n := range k.versions {
		newest = max(newest, n)
	}
	return newest
}

// with returns the key with one version changed.
func (k modelKey) with(number int, v modelVersion) modelKey {
	k.versions = maps.Clone(k.versions)
	if k.versions == nil {
		k.versions = map[int]modelVersion{}
	}
	k.versions[number] = v
	return k
}

// descends reports whether a mark is a point, or comes after it.
func (m *mark) descends(p Point) bool {
	for ; m != nil && m.at.Number >= p.Number; m = m.before {
		if m.at == p {
			return true
		}
	}
	return false
}

// after returns the marks after a point up to m, oldest first.
func (m *mark) after(p Point) (all []*mark) {
	for ; m != nil && m.at != p; m = m.before {
		all = append(all, m)
	}
	slices.Reverse(all)
	return all
}

// common returns the last mark that two share.
func (m *mark) common(o *mark) *mark {
	for m != o && m != nil && o != nil {
		if m.at.Number >= o.at.Number {
			m = m.before
		} else {
			o = o.before
		}
	}
	return m
}

// was reports whether a label was a member up to the mark.
func (m *mark) was(label string) bool {
	for ; m != nil; m = m.before {
		if slices.Contains(m.members, label) {
			return true
		}
	}
	return false
}

func isOwner(label string) bool { return label != "vault" && label != "safe" }

func (m *mark) hasOwner(label string) bool {
	return isOwner(label) && slices.Contains(m.members, label)
}

func (m *mark) owners() (all []string) {
	for _, label := range m.members {
		if isOwner(label) {
			all = append(all, label)
		}
	}
	return all
}

// A command is one thing that is to happen to one name.
type command struct {
	op      Op
	name    string
	version int
	list    int     // that the writer wraps under
	secret  string  // the key of a new version
	key     blob.ID // the one that is merged
	status  Status  // of what is merged
}

func (c command) id() blob.ID {
	if c.op == Merge {
		return c.key
	}
	d := sha256.Sum256([]byte(c.secret))
	return blob.ID(d[:16])
}

// model returns the key after the command in checkpoint number, whether there is a change,
// and whether the command is possible. It does what [command.edit] does, in another way.
func (c command) model(old modelKey, there bool, number, list int) (modelKey, bool, bool) {
	k, last := old, old.newest()
	v, ok := old.versions[c.version]
	v.changed = number
	fresh := modelVersion{id: c.id(), revision: 1, list: c.list, changed: number, made: number, status: Active}
	switch c.op {
	case Create:
		k.current = 1
		return k.with(1, fresh), true, !there && c.list <= list
	case Rotate:
		k.current = last + 1
		return k.with(last+1, fresh), true, there && c.list <= list
	case Merge:
		for _, v := range old.versions {
			if v.id == fresh.id {
				return k, false, true
			}
		}
		if fresh.status = c.status; !there && c.status == Active {
			k.current = 1
		} else {
			fresh.status = max(c.status, Deactivated)
		}
		return k.with(last+1, fresh), true, c.list <= list
	case Rewrap:
		v.revision, v.list = v.revision+1, c.list
		return k.with(c.version, v), true, ok && v.status != Destroyed && c.list >= old.versions[c.version].list && c.list <= list
	case Activate, Deactivate, Compromise, Destroy:
		if !ok || !Moves(c.op, v.status, c.status) {
			return k, false, false
		}
		v.status = c.status
		if c.op != Activate && k.current == c.version {
			k.current = 0
		}
		if c.op == Activate && k.current == 0 {
			k.current = c.version
		}
		return k.with(c.version, v), true, true
	case Describe:
		k.description = c.secret
		return k, k.description != old.description, there
	case SetDates:
		k.rotateEvery = c.version
		return k, k.rotateEvery != old.rotateEvery, there
	}
	return k, false, false
}

var errNotNow = errors.New("that is not possible now")

// edit returns what the command is for [Ledger.Commit].
func (c command) edit() Edit {
	return Edit{Name: c.name, Apply: func(old *Entry, get func(int) (Version, bool, error), number int, at time.Time) (Update, []Change, error) {
		e, last := Entry{Name: c.name}, 0
		if old != nil {
			e = *old
			last = e.Versions[len(e.Versions)-1].Number
		}
		change := []Change{{Op: c.op, Name: c.name, Version: c.version}}
		fresh := version("", last+1)
		fresh.KeyID, fresh.Blob, fresh.List, fresh.Changed, fresh.ChangedAt = c.id(), wrapping(c.id(), 1), c.list, number, at
		switch c.op {
		case Create, Rotate:
			if (old == nil) != (c.op == Create) {
				return Update{}, nil, errNotNow
			}
			e.Current, change[0].Version = last+1, last+1
			return Update{Entry: e, Set: []Version{fresh}}, change, nil
		case Merge:
			return c.merge(e, old, get, fresh)
		case Describe, SetDates:
			if old == nil {
				return Update{}, nil, errNotNow
			}
			change[0].Version = 0
			if c.op == Describe {
				e.Description = c.secret
			} else {
				e.RotateEvery = c.version
			}
			if e.Description == old.Description && e.RotateEvery == old.RotateEvery {
				return Update{}, nil, nil
			}
			return Update{Entry: e}, change, nil
		}
		v, ok, err := get(c.version)
		if err != nil {
			return Update{}, nil, err
		}
		switch {
		case !ok || c.op == Rewrap && (v.Status == Destroyed || v.List > c.list):
			return Update{}, nil, errNotNow
		case c.op == Rewrap:
			v.Revision++
			v.List, v.Blob = c.list, wrapping(v.KeyID, v.Revision)
		case !Moves(c.op, v.Status, c.status):
			return Update{}, nil, errNotNow
		case c.op == Activate && e.Current == 0:
			v.Status, e.Current = c.status, c.version
		case c.op != Activate && e.Current == c.version:
			v.Status, e.Current = c.status, 0
		default:
			v.Status = c.status
		}
		v.Changed, v.ChangedAt = number, at
		return Update{Entry: e, Set: []Version{v}}, change, nil
	}}
}

func (c command) merge(e Entry, old *Entry, get func(int) (Version, bool, error), fresh Version) (Update, []Change, error) {
	for n := 1; n < fresh.Number; n++ {
		if v, ok, err := get(n); err != nil || ok && v.KeyID == fresh.KeyID {
			return Update{}, nil, err
		}
	}
	fresh.Status = max(c.status, Deactivated)
	if old == nil && c.status == Active {
		fresh.Status, e.Current = Active, 1
	}
	return Update{Entry: e, Set: []Version{fresh}}, []Change{{Op: Merge, Name: c.name, Version: fresh.Number}}, nil
}

// wrapping is the digest of the blob that a revision of a key has.
func wrapping(id blob.ID, revision int) Digest {
	return sha256.Sum256(append(id[:], byte(revision)))
}
