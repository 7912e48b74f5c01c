package ledger

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// alter is the edit that does f to an entry and to those versions that f asks for, new ones
// among them, and records changes.
func alter(name string, f func(e *Entry, v func(number int) *Version), changes ...Change) Edit {
	return Edit{Name: name, Apply: func(old *Entry, get func(int) (Version, bool, error), number int, at time.Time) (Update, []Change, error) {
		u := Update{Entry: Entry{Name: name}}
		if old != nil {
			u.Entry = *old
		}
		set := map[int]*Version{}
		f(&u.Entry, func(n int) *Version {
			if set[n] == nil {
				v, ok, _ := get(n)
				if !ok {
					v = version(fmt.Sprint(name, " at ", number), n)
				}
				v.Changed, v.ChangedAt = number, at
				set[n] = &v
			}
			return set[n]
		})
		for _, v := range set {
			u.Set = append(u.Set, *v)
		}
		slices.SortFunc(u.Set, func(a, b Version) int { return a.Number - b.Number })
		if u.Entry.Name != name {
			u.From = name
		}
		return u, changes, nil
	}}
}

func status1(n int, s Status) func(*Entry, func(int) *Version) {
	return func(_ *Entry, v func(int) *Version) { v(n).Status = s }
}

func again(v *Version) {
	v.Revision++
	v.Blob = sha256.Sum256(v.Blob[:])
}

// The key db has version 1, destroyed; 2, compromised; 3, deactivated; 4, active; and 5, which
// is active and current. web has one version, mail none that is current.
func TestWhichChangesAreAllowed(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob")
	for range 5 {
		l = s.commit(l, "alice", newKey("db"))
	}
	l = s.commit(l, "alice", newKey("web"), newKey("mail"),
		alter("db", status1(1, Destroyed), Change{Op: Destroy, Name: "db", Version: 1}),
		alter("db", status1(2, Compromised), Change{Op: Compromise, Name: "db", Version: 2}),
		alter("db", status1(3, Deactivated), Change{Op: Deactivate, Name: "db", Version: 3}),
	)
	l = s.change(l, "alice", "alice", "bob", "carol")
	l = s.commit(l, "alice", alter("mail", func(e *Entry, v func(int) *Version) { v(1).Status, e.Current = Deactivated, 0 }, Change{Op: Deactivate, Name: "mail", Version: 1}))
	s.has(l, "db@5", "mail@0", "web@1")

	in := func(name string) func(Op, int) Change {
		return func(op Op, version int) Change { return Change{Op: op, Name: name, Version: version} }
	}
	db, new1 := in("db"), in("new")
	made := func(n int, current bool) func(*Entry, func(int) *Version) {
		return func(e *Entry, v func(int) *Version) {
			v(n)
			if current {
				e.Current = n
			}
		}
	}
	for _, tt := range []struct {
		name string
		ok   bool
		edit Edit
	}{
		{"create a key", true, alter("new", made(1, true), new1(Create, 1))},
		{"create a key that has no current version", true, alter("new", made(1, false), new1(Create, 1))},
		{"create a key with a description", true, alter("new", func(e *Entry, v func(int) *Version) { v(1); e.Description = "for payroll" }, new1(Create, 1))},
		{"create a key with former names", false, alter("new", func(e *Entry, v func(int) *Version) { v(1); e.Earlier = []string{"old"} }, new1(Create, 1))},
		{"create a key as a rotation", false, alter("new", made(1, true), new1(Rotate, 1))},
		{"create a key and record another version", false, alter("new", made(1, true), new1(Create, 2))},
		{"create a key and record it under another name", false, alter("new", made(1, true), db(Create, 1))},
		{"create a key in revision 2", false, alter("new", func(_ *Entry, v func(int) *Version) { v(1).Revision = 2 }, new1(Create, 1))},
		{"create a key that is deactivated", false, alter("new", status1(1, Deactivated), new1(Create, 1))},
		{"create a key under a list of members to come", false, alter("new", func(_ *Entry, v func(int) *Version) { v(1).List = 3 }, new1(Create, 1))},
		{"create a key that was changed earlier", false, alter("new", func(_ *Entry, v func(int) *Version) { v(1).Changed-- }, new1(Create, 1))},
		{"create a key that was changed at another time", false, alter("new", func(_ *Entry, v func(int) *Version) { v(1).ChangedAt = day }, new1(Create, 1))},
		{"create a key with two versions", true, alter("new", func(e *Entry, v func(int) *Version) {
			e.Current = v(2).Number
			v(1).KeyID[0] ^= 1
		}, new1(Create, 1), new1(Create, 2))},

		{"rotate", true, alter("db", made(6, true), db(Rotate, 6))},
		{"rotate and leave the current version", true, alter("db", made(6, false), db(Rotate, 6))},
		{"rotate by two numbers", true, alter("db", made(7, true), db(Rotate, 7))},
		{"rotate and say nothing", false, alter("db", made(6, true), db(Describe, 0))},
		{"rotate as a creation", false, alter("db", made(6, true), db(Create, 6))},
		{"rotate, with another current version", false, alter("db", func(e *Entry, v func(int) *Version) { v(6); e.Current = 4 }, db(Rotate, 6))},
		{"rotate, with no current version", false, alter("db", func(e *Entry, v func(int) *Version) { v(6); e.Current = 0 }, db(Rotate, 6))},
		{"rotate to a version that is compromised", false, alter("db", status1(6, Compromised), db(Rotate, 6))},
		{"rotate and change another version", false, alter("db", func(_ *Entry, v func(int) *Version) { v(6); again(v(5)) }, db(Rotate, 6))},
		{"rotate to the same key", false, alter("db", func(_ *Entry, v func(int) *Version) { v(6).KeyID = v(5).KeyID }, db(Rotate, 6))},

		{"rewrap", true, alter("db", func(_ *Entry, v func(int) *Version) { again(v(4)) }, db(Rewrap, 4))},
		{"rewrap by two revisions", true, alter("db", func(_ *Entry, v func(int) *Version) { again(v(4)); again(v(4)) }, db(Rewrap, 4))},
		{"rewrap under the newer list", true, alter("db", func(_ *Entry, v func(int) *Version) { again(v(4)); v(4).List = 2 }, db(Rewrap, 4))},
		{"rewrap under a list to come", false, alter("db", func(_ *Entry, v func(int) *Version) { again(v(4)); v(4).List = 3 }, db(Rewrap, 4))},
		{"rewrap what is compromised", true, alter("db", func(_ *Entry, v func(int) *Version) { again(v(2)) }, db(Rewrap, 2))},
		{"rewrap what is destroyed", false, alter("db", func(_ *Entry, v func(int) *Version) { again(v(1)) }, db(Rewrap, 1))},
		{"rewrap to the same revision", false, alter("db", func(_ *Entry, v func(int) *Version) { again(v(4)); v(4).Revision-- }, db(Rewrap, 4))},
		{"rewrap to the same blob", false, alter("db", func(_ *Entry, v func(int) *Version) { v(4).Revision++ }, db(Rewrap, 4))},
		{"rewrap another version than is recorded", false, alter("db", func(_ *Entry, v func(int) *Version) { again(v(4)) }, db(Rewrap, 5))},
		{"rewrap to another key", false, alter("db", func(_ *Entry, v func(int) *Version) { again(v(4)); v(4).KeyID[0] ^= 1 }, db(Rewrap, 4))},
		{"rewrap to another purpose", false, alter("db", func(_ *Entry, v func(int) *Version) { again(v(4)); v(4).Purpose = keyspec.WrapKeys }, db(Rewrap, 4))},
		{"rewrap to another time of creation", false, alter("db", func(_ *Entry, v func(int) *Version) { again(v(4)); v(4).Created = day.AddDate(0, 1, 0) }, db(Rewrap, 4))},
		{"rewrap to another origin", false, alter("db", func(_ *Entry, v func(int) *Version) { again(v(4)); v(4).Imported = true }, db(Rewrap, 4))},
		{"rewrap and change the status", false, alter("db", func(_ *Entry, v func(int) *Version) { again(v(4)); v(4).Status = Deactivated }, db(Rewrap, 4))},
		{"rewrap and move the current version", false, alter("db", func(e *Entry, v func(int) *Version) { again(v(4)); e.Current = 4 }, db(Rewrap, 4))},
		{"only note a change", false, alter("db", func(_ *Entry, v func(int) *Version) { v(4) }, db(Rewrap, 4))},

		{"note a change of a version beside another change", false, alter("db", func(e *Entry, v func(int) *Version) { v(4); e.Description = "x" }, db(Describe, 0))},

		{"adopt", true, alter("db", func(_ *Entry, v func(int) *Version) { again(v(4)) }, db(Adopt, 4))},
		{"adopt what is destroyed", false, alter("db", func(_ *Entry, v func(int) *Version) { again(v(1)) }, db(Adopt, 1))},
		{"adopt a version", false, alter("db", status1(6, Deactivated), db(Adopt, 6))},
		{"adopt with a worse status", false, alter("db", status1(4, Deactivated), db(Adopt, 4))},

		{"merge in a version", true, alter("db", status1(6, Deactivated), db(Merge, 6))},
		{"merge in a version that is active", false, alter("db", made(6, false), db(Merge, 6))},
		{"merge in a version that is current", false, alter("db", func(e *Entry, v func(int) *Version) { v(6).Status = Deactivated; e.Current = 6 }, db(Merge, 6))},
		{"merge in a name", true, alter("new", func(e *Entry, v func(int) *Version) { v(1).Revision = 3; e.Current = 1 }, new1(Merge, 1))},
		{"merge in a worse status", true, alter("db", status1(4, Compromised), db(Merge, 4))},
		{"merge in a better status", false, alter("db", status1(2, Active), db(Merge, 2))},
		{"merge in a better status with a revision", false, alter("db", func(_ *Entry, v func(int) *Version) { again(v(2)); v(2).Status = Active }, db(Merge, 2))},
		{"merge in a revision", true, alter("db", func(_ *Entry, v func(int) *Version) { again(v(4)) }, db(Merge, 4))},
		{"merge in nothing", false, alter("db", func(*Entry, func(int) *Version) {}, db(Merge, 4))},

		{"activate", true, alter("db", status1(3, Active), db(Activate, 3))},
		{"activate and make it current", false, alter("db", func(e *Entry, v func(int) *Version) { v(3).Status = Active; e.Current = 3 }, db(Activate, 3))},
		{"activate and make it current where none was", true, alter("mail", func(e *Entry, v func(int) *Version) { v(1).Status = Active; e.Current = 1 }, in("mail")(Activate, 1))},
		{"activate what is compromised", false, alter("db", status1(2, Active), db(Activate, 2))},
		{"activate what is destroyed", false, alter("db", status1(1, Active), db(Activate, 1))},
		{"deactivate", true, alter("db", status1(4, Deactivated), db(Deactivate, 4))},
		{"deactivate the current version", true, alter("db", func(e *Entry, v func(int) *Version) { v(5).Status = Deactivated; e.Current = 0 }, db(Deactivate, 5))},
		{"deactivate and move the current version", false, alter("db", func(e *Entry, v func(int) *Version) { v(5).Status = Deactivated; e.Current = 4 }, db(Deactivate, 5))},
		{"deactivate another than the current version", false, alter("db", func(e *Entry, v func(int) *Version) { v(4).Status = Deactivated; e.Current = 0 }, db(Deactivate, 4))},
		{"deactivate what is compromised", false, alter("db", status1(2, Deactivated), db(Deactivate, 2))},
		{"compromise what is active", true, alter("db", status1(4, Compromised), db(Compromise, 4))},
		{"compromise what is deactivated", true, alter("db", status1(3, Compromised), db(Compromise, 3))},
		{"compromise what is destroyed", false, alter("db", status1(1, Compromised), db(Compromise, 1))},
		{"compromise and record a deactivation", false, alter("db", status1(4, Compromised), db(Deactivate, 4))},
		{"destroy what is active", true, alter("db", status1(4, Destroyed), db(Destroy, 4))},
		{"destroy what is compromised", true, alter("db", status1(2, Destroyed), db(Destroy, 2))},
		{"destroy all versions", true, alter("db", func(e *Entry, v func(int) *Version) {
			for n := 2; n <= 5; n++ {
				v(n).Status = Destroyed
			}
			e.Current = 0
		}, db(Destroy, 0))},
		{"destroy what is destroyed", false, alter("db", status1(1, Destroyed), db(Destroy, 1))},
		{"destroy with a newer revision", false, alter("db", func(_ *Entry, v func(int) *Version) { again(v(4)); v(4).Status = Destroyed }, db(Destroy, 4))},
		{"rewrap and deactivate", true, alter("db", func(_ *Entry, v func(int) *Version) { again(v(4)); v(4).Status = Deactivated }, db(Rewrap, 4), db(Deactivate, 4))},

		{"describe", true, alter("db", func(e *Entry, _ func(int) *Version) { e.Description = "for payroll" }, db(Describe, 0))},
		{"describe as before", false, alter("db", func(*Entry, func(int) *Version) {}, db(Describe, 0))},
		{"describe and set dates", false, alter("db", func(e *Entry, _ func(int) *Version) { e.Description, e.RotateEvery = "x", 90 }, db(Describe, 0))},
		{"set dates", true, alter("db", func(e *Entry, _ func(int) *Version) { e.Expires, e.RotateEvery = day, 90 }, db(SetDates, 0))},
		{"move the current version", false, alter("db", func(e *Entry, _ func(int) *Version) { e.Current = 4 }, db(SetDates, 0))},
		{"change the former names", false, alter("db", func(e *Entry, _ func(int) *Version) { e.Earlier = []string{"x"} }, db(Rename, 0))},

		{"rename", true, alter("db", func(e *Entry, _ func(int) *Version) { e.Name, e.Earlier = "dbx", []string{"db"} }, in("dbx")(Rename, 0))},
		{"rename and record the former name", false, alter("db", func(e *Entry, _ func(int) *Version) { e.Name, e.Earlier = "dbx", []string{"db"} }, db(Rename, 0))},
		{"rename and forget the former name", false, alter("db", func(e *Entry, _ func(int) *Version) { e.Name = "dbx" }, in("dbx")(Rename, 0))},
		{"rename and note another name", false, alter("db", func(e *Entry, _ func(int) *Version) { e.Name, e.Earlier = "dbx", []string{"web"} }, in("dbx")(Rename, 0))},
		{"rename and describe", false, alter("db", func(e *Entry, _ func(int) *Version) { e.Name, e.Earlier, e.Description = "dbx", []string{"db"}, "x" }, in("dbx")(Rename, 0))},
		{"rename and rotate", false, alter("db", func(e *Entry, v func(int) *Version) { v(6); e.Name, e.Earlier = "dbx", []string{"db"} }, in("dbx")(Rename, 0))},
		{"create a key as a renaming", false, alter("new", func(e *Entry, v func(int) *Version) { v(1); e.Earlier = []string{"gone"} }, new1(Rename, 0))},

		{"compact a key", false, alter("db", func(e *Entry, _ func(int) *Version) { e.Description = "x" }, db(Describe, 0), Change{Op: Compact, Name: "db"})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			story := s.in(s.copy())
			story.T = t
			mine := story.opened(Trust{Pins: []Pin{l.Pin()}, Write: true})
			_, err := story.try(mine, "bob", Proposal{Edits: []Edit{tt.edit}})
			if (err == nil) != tt.ok {
				t.Fatal(err)
			}
		})
	}
}

func TestARecordNamesEachDifference(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice"), "alice", newKey("db"), newKey("web"))
	for name, note := range map[string]Change{
		"a change that did not happen":                       {Op: Rotate, Name: "db", Version: 2},
		"a change of a name that is not there":               {Op: Describe, Name: "new"},
		"a change of a name that is for the whole keyring":   {Op: Compact, Name: "db"},
		"a change of the whole keyring that is for one name": {Op: Describe},
		"a renaming that did not happen":                     {Op: Rename, Name: "db"},
		"a replacement of a pin, which is not for one name":  {Op: ReplacePin, Name: "web"},
	} {
		if _, err := s.try(l, "alice", Proposal{Notes: []Change{note}}); err == nil {
			t.Errorf("%s was recorded", name)
		}
	}
	for _, note := range []Change{{Op: Compact}, {Op: ReplacePin, Reason: "was ahead"}} {
		l = s.propose(l, "alice", Proposal{Notes: []Change{note}})
	}
}

func TestAKeyIsRenamedAndRenamed(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice"), "alice", newKey("k0"))
	rename := func(from, to string, drop int) Edit {
		return alter(from, func(e *Entry, _ func(int) *Version) {
			e.Name, e.Earlier = to, append(slices.Clone(e.Earlier), from)[drop:]
		}, Change{Op: Rename, Name: to})
	}
	for i := range MaxEarlier {
		l = s.commit(l, "alice", rename(fmt.Sprint("k", i), fmt.Sprint("k", i+1), 0))
	}
	s.has(l, "k16@1")
	e, err := l.Entry(t.Context(), "k16")
	s.ok(err)
	if len(e.Earlier) != MaxEarlier || e.Earlier[0] != "k0" {
		t.Fatal(e.Earlier)
	}
	for drop := range 2 { // no name is forgotten, under which blobs lie
		if _, err := s.try(l, "alice", Proposal{Edits: []Edit{rename("k16", "k17", drop)}}); err == nil {
			t.Errorf("renamed once more, without %d of the former names", drop)
		}
	}
}

func TestAVersionIsTouchedWithoutARecord(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice"), "alice", newKey("db"))
	touch := alter("db", func(_ *Entry, v func(int) *Version) { v(1) }, Change{Op: Rewrap, Name: "db", Version: 1})
	s.forge(l, forgery{by: "alice", p: Proposal{Edits: []Edit{touch}}, draft: func(d *draft) { d.changes = nil }})
	_, _, err := Open(t.Context(), s.store, Trust{Pins: []Pin{l.Pin()}, Write: true})
	s.refused(err, ErrIllegal)
}
