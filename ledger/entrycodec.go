package ledger

import (
	"encoding/binary"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// What an entry has beside its name, current version and versions.
const (
	hasEarlier = 1 << iota
	hasDescription
	hasExpires
	hasRotateEvery
	hasOlder
	allFlags = 1<<iota - 1
)

// The properties of a version in one byte: purpose, status, derived, imported.
const (
	purposeBits  = 3
	statusBits   = 3
	derivedFlag  = 1 << (purposeBits + statusBits)
	importedFlag = derivedFlag << 1
)

// epoch is what times of creation are counted from, so that those of the first four years
// take four bytes: 2026-01-01T00:00:00Z.
const epoch = 1767225600

// Limits of what the encodings below return, in bytes.
const (
	maxVarint  = binary.MaxVarintLen32
	maxTime    = 6 // zigzag of a second up to the year 9999
	maxVersion = 4*maxVarint + 2 + 1 + 16 + 32 + 2*maxTime
	maxEntry   = 2 + maxName + 1 + 1 + MaxEarlier*(2+maxName) + 2 + MaxDescription + maxTime +
		maxVarint + maxVarint + 32 + maxVarint + 1 + MaxVersions*maxVersion
)

func (e *Entry) flags() (flags byte) {
	if len(e.Earlier) > 0 {
		flags |= hasEarlier
	}
	if e.Description != "" {
		flags |= hasDescription
	}
	if !e.Expires.IsZero() {
		flags |= hasExpires
	}
	if e.RotateEvery > 0 {
		flags |= hasRotateEvery
	}
	if e.Older.Count > 0 {
		flags |= hasOlder
	}
	return flags
}

// appendEntry appends the canonical form of a valid entry. The hint of its older versions
// is no part of it.
func appendEntry(b []byte, e *Entry) []byte {
	flags := e.flags()
	b = append(appendText(b, e.Name), flags)
	if flags&hasEarlier != 0 {
		b = appendNumber(b, len(e.Earlier))
		for _, name := range e.Earlier {
			b = appendText(b, name)
		}
	}
	if flags&hasDescription != 0 {
		b = appendText(b, e.Description)
	}
	if flags&hasExpires != 0 {
		b = binary.AppendVarint(b, e.Expires.Unix()-epoch)
	}
	if flags&hasRotateEvery != 0 {
		b = appendNumber(b, e.RotateEvery)
	}
	if flags&hasOlder != 0 {
		b = append(appendNumber(b, e.Older.Count), e.Older.Digest[:]...)
	}
	b = appendNumber(b, e.Current)
	return appendVersions(b, e.Versions)
}

// entry reads what appendEntry appends.
func (d *decoder) entry() (e Entry) {
	e.Name = d.text("name", 1, maxName)
	flags := d.byte("flags")
	if flags&^allFlags != 0 {
		d.fail("%q has unknown flags", e.Name)
	}
	if flags&hasEarlier != 0 {
		for range d.number("number of former names", 1, MaxEarlier) {
			e.Earlier = append(e.Earlier, d.text("former name", 1, maxName))
		}
	}
	if flags&hasDescription != 0 {
		e.Description = d.text("description", 1, MaxDescription)
	}
	if flags&hasExpires != 0 {
		e.Expires = d.time("time of expiry", epoch)
	}
	if flags&hasRotateEvery != 0 {
		e.RotateEvery = d.number("days between rotations", 1, blob.MaxNumber)
	}
	if flags&hasOlder != 0 {
		e.Older.Count = d.number("number of older versions", 1, blob.MaxNumber)
		e.Older.Digest = d.digest("digest of older versions")
	}
	e.Current = d.number("current version", 0, blob.MaxNumber)
	e.Versions = d.versions(MaxVersions)
	if d.err == nil {
		if err := e.validate(); err != nil {
			d.fail("%q: %w", e.Name, err)
		}
	}
	return e
}

// appendVersions appends versions, each number as its distance from the one before.
func appendVersions(b []byte, all []Version) []byte {
	b = appendNumber(b, len(all))
	before := 0
	for i := range all {
		b = appendVersion(b, &all[i], before)
		before = all[i].Number
	}
	return b
}

// versions reads 1..most versions. The caller validates them.
func (d *decoder) versions(most int) []Version {
	n := d.number("number of versions", 1, most)
	if d.err != nil {
		return nil
	}
	all := make([]Version, n)
	before := 0
	for i := range all {
		d.version(&all[i], before)
		before = all[i].Number
	}
	return all
}

func appendVersion(b []byte, v *Version, before int) []byte {
	b = appendNumber(b, v.Number-before)
	b = appendNumber(b, v.Revision)
	b = appendNumber(b, v.List)
	properties := byte(v.Purpose) | byte(v.Status)<<purposeBits
	if v.Derived {
		properties |= derivedFlag
	}
	if v.Imported {
		properties |= importedFlag
	}
	b = append(b, byte(v.Algorithm), properties)
	if v.Algorithm.IsLegacy() {
		b = append(b, byte(v.KeySize))
	}
	b = append(b, v.KeyID[:]...)
	b = append(b, v.Blob[:]...)
	b = binary.AppendVarint(b, v.Created.Unix()-epoch)
	b = appendNumber(b, v.Changed)
	return binary.AppendVarint(b, v.ChangedAt.Unix()-v.Created.Unix())
}

func (d *decoder) version(v *Version, before int) {
	v.Number = before + d.number("version", 1, blob.MaxNumber-before)
	v.Revision = d.number("revision", 1, blob.MaxNumber)
	v.List = d.number("list of members", 1, blob.MaxNumber)
	v.Algorithm = keyspec.Algorithm(d.byte("algorithm"))
	properties := d.byte("properties")
	v.Purpose = keyspec.Purpose(properties & (1<<purposeBits - 1))
	v.Status = Status(properties >> purposeBits & (1<<statusBits - 1))
	v.Derived = properties&derivedFlag != 0
	v.Imported = properties&importedFlag != 0
	v.KeySize = v.Algorithm.KeySize()
	if v.Algorithm.IsLegacy() {
		v.KeySize = int(d.byte("key size"))
	}
	copy(v.KeyID[:], d.bytes("key id", len(v.KeyID)))
	v.Blob = d.digest("digest of the blob")
	v.Created = d.time("time of creation", epoch)
	v.Changed = d.number("checkpoint", 1, blob.MaxNumber)
	v.ChangedAt = d.time("time of change", v.Created.Unix())
}

// time reads a time as its distance in seconds from another.
func (d *decoder) time(what string, from int64) time.Time {
	at := d.signed(what)
	if at < -lastTime || at > lastTime || at+from < 0 || at+from > lastTime {
		d.fail("%s is not in the years 1970 to 9999", what)
		return time.Time{}
	}
	return time.Unix(at+from, 0).UTC()
}
