package ledger

import (
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// A Digest is a SHA-256.
type Digest = [32]byte

// A Status is a state of the life of a key (NIST SP 800-57 part 1 rev. 5 §7).
type Status int

const (
	Active      Status = iota + 1 // encrypts and decrypts
	Deactivated                   // decrypts
	Compromised                   // decrypts, with a warning
	Destroyed                     // its blobs are removed, this record of it stays
)

var statuses = [...]string{Active: "active", Deactivated: "deactivated", Compromised: "compromised", Destroyed: "destroyed"}

// String returns "active", "deactivated", "compromised" or "destroyed".
func (s Status) String() string {
	if !s.valid() {
		return fmt.Sprintf("Status(%d)", int(s))
	}
	return statuses[s]
}

func (s Status) valid() bool { return s >= Active && int(s) < len(statuses) }

// Limits of an [Entry].
const (
	MaxEarlier     = 16  // former names
	MaxDescription = 256 // bytes
	MaxVersions    = 16  // versions in the entry itself
	maxBlock       = 256 // versions in a block of older ones

	maxName = 128 // bytes, as blob.ValidName has it
)

// A Version describes one version of a key.
type Version struct {
	Number    int     // of the version, 1..blob.MaxNumber
	Revision  int     // the newest wrapping, 1..blob.MaxNumber
	KeyID     blob.ID // the same in every revision
	Blob      Digest  // of the blob of this revision
	List      int     // number of the list of members it was wrapped under
	Algorithm keyspec.Algorithm
	Purpose   keyspec.Purpose
	KeySize   int  // bytes; that of Algorithm, but for a legacy one
	Derived   bool // from a password
	Imported  bool // made elsewhere
	Status    Status
	Created   time.Time // of the key; whole seconds
	Changed   int       // number of the checkpoint of the last change
	ChangedAt time.Time // its time; whole seconds
}

// An Older is where the versions before those of an entry are: a chain of blocks of
// 256 versions (maxBlock) by index, of which all but the newest are full. It is a function
// of the list of versions alone. The zero Older is none.
type Older struct {
	Digest Digest    // of the newest block
	At     blob.Hint // where it lies
	Count  int       // versions in all blocks
}

// An Entry describes the key of one name: its versions and what applies to all of them.
type Entry struct {
	Name        string
	Earlier     []string  // former names, oldest first, at most MaxEarlier
	Current     int       // number of the version that encrypts; 0: none
	Description string    // at most MaxDescription bytes of UTF-8 that print
	Expires     time.Time // whole seconds; zero: never
	RotateEvery int       // days; 0: no rule
	Versions    []Version // the newest, ascending, 1..MaxVersions
	Older       Older     // the versions before; zero unless there are MaxVersions in Versions
}

// Version returns a version that is in the entry itself.
func (e Entry) Version(number int) (Version, bool) {
	for _, v := range e.Versions {
		if v.Number == number {
			return v, true
		}
	}
	return Version{}, false
}

// Total returns the number of all versions, also of older ones.
func (e Entry) Total() int { return e.Older.Count + len(e.Versions) }

func (e *Entry) validate() error {
	if err := e.validateNames(); err != nil {
		return err
	}
	switch {
	case e.Description != "" && blob.ValidReason(e.Description) != nil:
		return fmt.Errorf("description %w", blob.ValidReason(e.Description))
	case !e.Expires.IsZero() && !validTime(e.Expires):
		return fmt.Errorf("time %v cannot be encoded", e.Expires)
	case e.RotateEvery < 0 || e.RotateEvery > blob.MaxNumber:
		return fmt.Errorf("rotation every %d days", e.RotateEvery)
	case len(e.Versions) < 1 || len(e.Versions) > MaxVersions:
		return fmt.Errorf("%d versions, not 1 to %d", len(e.Versions), MaxVersions)
	case e.Older.Count < 0 || e.Older.Count > blob.MaxNumber:
		return fmt.Errorf("%d older versions", e.Older.Count)
	case e.Older.Count > 0 && len(e.Versions) != MaxVersions:
		return fmt.Errorf("older versions beside %d, not %d", len(e.Versions), MaxVersions)
	}
	if err := validateVersions(e.Versions); err != nil {
		return err
	}
	if e.Older.Count >= e.Versions[0].Number {
		return fmt.Errorf("%d versions before version %d", e.Older.Count, e.Versions[0].Number)
	}
	return e.validateCurrent()
}

func (e *Entry) validateNames() error {
	if err := blob.ValidName(e.Name); err != nil {
		return err
	}
	if len(e.Earlier) > MaxEarlier {
		return fmt.Errorf("%d former names, at most %d are allowed", len(e.Earlier), MaxEarlier)
	}
	for _, name := range e.Earlier {
		if err := blob.ValidName(name); err != nil {
			return fmt.Errorf("former name: %w", err)
		}
	}
	return nil
}

// validateCurrent checks that the current version is one that there can be.
func (e *Entry) validateCurrent() error {
	if _, ok := e.Version(e.Current); ok || e.Current == 0 {
		return nil
	}
	if e.Older.Count > 0 && e.Current > 0 && e.Current < e.Versions[0].Number {
		return nil
	}
	return fmt.Errorf("current version %d is not there", e.Current)
}

// validateVersions checks each version, that numbers ascend, and that no two have the
// same key.
func validateVersions(all []Version) error {
	for i := range all {
		v := &all[i]
		if err := v.validate(); err != nil {
			return fmt.Errorf("version %d: %w", v.Number, err)
		}
		if i > 0 && v.Number <= all[i-1].Number {
			return fmt.Errorf("version %d after %d", v.Number, all[i-1].Number)
		}
	}
	return uniqueKeys(all)
}

func uniqueKeys(all []Version) error {
	if len(all) > MaxVersions {
		seen := make(map[blob.ID]bool, len(all))
		for i := range all {
			if seen[all[i].KeyID] {
				return fmt.Errorf("two versions have the key %v", all[i].KeyID)
			}
			seen[all[i].KeyID] = true
		}
		return nil
	}
	for i := range all {
		for j := range i {
			if all[i].KeyID == all[j].KeyID {
				return fmt.Errorf("two versions have the key %v", all[i].KeyID)
			}
		}
	}
	return nil
}

func (v *Version) validate() error {
	switch {
	case !validNumber(v.Number):
		return fmt.Errorf("number is not in 1..%d", blob.MaxNumber)
	case !validNumber(v.Revision):
		return fmt.Errorf("revision %d is not in 1..%d", v.Revision, blob.MaxNumber)
	case !validNumber(v.List):
		return fmt.Errorf("list of members %d is not in 1..%d", v.List, blob.MaxNumber)
	case !validNumber(v.Changed):
		return fmt.Errorf("checkpoint %d is not in 1..%d", v.Changed, blob.MaxNumber)
	case !v.Algorithm.Valid():
		return fmt.Errorf("unknown algorithm %d", int(v.Algorithm))
	case !v.Purpose.Valid():
		return fmt.Errorf("unknown purpose %d", int(v.Purpose))
	case !v.Purpose.Fits(v.Algorithm):
		return fmt.Errorf("%v key with the purpose %q", v.Algorithm, v.Purpose)
	case !v.Algorithm.HasSize(v.KeySize):
		return fmt.Errorf("%v key of %d bytes", v.Algorithm, v.KeySize)
	case !v.Status.valid():
		return fmt.Errorf("unknown status %d", int(v.Status))
	case !validTime(v.Created):
		return fmt.Errorf("creation time %v cannot be encoded", v.Created)
	case !validTime(v.ChangedAt):
		return fmt.Errorf("time of change %v cannot be encoded", v.ChangedAt)
	}
	return nil
}

// Key returns what the session key is.
func (v Version) Key() keyspec.Key {
	return keyspec.Key{Algorithm: v.Algorithm, Purpose: v.Purpose, Size: v.KeySize}
}

func validNumber(n int) bool { return n >= 1 && n <= blob.MaxNumber }

// lastTime is the end of the year 9999, the last that objects of package blob can have.
const lastTime = 253402300799

// validTime reports whether t is in the years 1970 to 9999, and of whole seconds.
func validTime(t time.Time) bool {
	return t.Nanosecond() == 0 && t.Unix() >= 0 && t.Unix() <= lastTime
}
