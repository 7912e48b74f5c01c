package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hsmkeys/hsmkeys/blob"
)

func record() Record {
	return Record{
		Changes: []Change{
			{Op: Compact},
			{Op: ReplacePin, Reason: "restored from a backup"},
			{Op: Deactivate, Name: "db", Version: 1, Reason: "rotated"},
			{Op: Rotate, Name: "db", Version: 2, Reason: "rotated"},
			{Op: Describe, Name: "payroll"},
			{Op: Create, Name: "payroll", Version: blob.MaxNumber, Reason: "für Löhne"},
		},
		Log: []Digest{{1}, {2}},
	}
}

func TestARecordComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Record
		seen := map[string]bool{}
		for range rapid.IntRange(0, 50).Draw(t, "changes") {
			c := Change{
				Op:      Op(rapid.IntRange(int(Create), int(ReplacePin)).Draw(t, "op")),
				Name:    rapid.StringMatching(`[a-z0-9_-]{1,5}(/[a-z0-9]{1,5})?`).Draw(t, "name"),
				Version: rapid.IntRange(0, blob.MaxNumber).Draw(t, "version"),
				Reason:  rapid.SampledFrom([]string{"", "due", "lost card", strings.Repeat("x", 256)}).Draw(t, "reason"),
			}
			if c.Op == Compact || c.Op == ReplacePin {
				c.Name, c.Version = "", 0
			}
			if id := fmt.Sprint(c.Op, c.Name, c.Version); !seen[id] {
				seen[id] = true
				r.Changes = append(r.Changes, c)
			}
		}
		for range rapid.IntRange(0, 64).Draw(t, "hashes") {
			r.Log = append(r.Log, pathOf(fmt.Sprint(len(r.Log))))
		}
		data, err := MarshalRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseRecord(data)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(r.Changes, func(a, b Change) int { return a.compare(&b) })
		if !reflect.DeepEqual(got, r) {
			t.Fatalf("%v, not %v", got, r)
		}
	})
}

func TestEveryBitOfARecordIsRead(t *testing.T) {
	data, err := MarshalRecord(record())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(data) {
		bad := bytes.Clone(data)
		bad[i/8] ^= 1 << (i % 8)
		if r, err := ParseRecord(bad); err == nil && reflect.DeepEqual(r, record()) {
			t.Errorf("bit %d says nothing", i)
		} else if err != nil && !errors.Is(err, blob.ErrMalformed) {
			t.Errorf("bit %d: %v", i, err)
		}
	}
	for i := range data {
		if _, err := ParseRecord(data[:i]); !errors.Is(err, blob.ErrMalformed) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
	if _, err := ParseRecord(append(data, 0)); !errors.Is(err, blob.ErrMalformed) {
		t.Error(err)
	}
	if _, err := ParseRecord(make([]byte, maxPack+1)); !errors.Is(err, blob.ErrTooLarge) {
		t.Error(err)
	}
}

func TestChangesThatThereCannotBe(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(r *Record)
		want string
	}{
		{"no operation", func(r *Record) { r.Changes[2].Op = 0 }, "unknown operation 0"},
		{"an unknown operation", func(r *Record) { r.Changes[2].Op = ReplacePin + 1 }, "unknown operation 15"},
		{"a compaction of a key", func(r *Record) { r.Changes[0].Name = "db" }, `compact has the name "db"`},
		{"a pin of a version", func(r *Record) { r.Changes[1].Version = 1 }, "version 1"},
		{"a rotation of nothing", func(r *Record) { r.Changes[3].Name = "" }, "rotate"},
		{"an invalid name", func(r *Record) { r.Changes[3].Name = "../db" }, "invalid name"},
		{"version -1", func(r *Record) { r.Changes[3].Version = -1 }, "version -1"},
		{"version 2^31", func(r *Record) { r.Changes[3].Version = blob.MaxNumber + 1 }, "version 2147483648"},
		{"a reason that does not print", func(r *Record) { r.Changes[3].Reason = "\n" }, "reason"},
		{"a reason of 257 bytes", func(r *Record) { r.Changes[3].Reason = strings.Repeat("x", 257) }, "reason"},
		{"the same twice", func(r *Record) { r.Changes = append(r.Changes, r.Changes[3]) }, "out of order"},
		{"65 hashes", func(r *Record) { r.Log = make([]Digest, 65) }, "65 hashes"},
		{"too many", func(r *Record) { r.Changes = make([]Change, MaxChanges+1) }, "changes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := record()
			tt.edit(&r)
			if _, err := MarshalRecord(r); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, not %q", err, tt.want)
			}
		})
	}
}

func TestARecordHasOneForm(t *testing.T) {
	name := []byte{2, 'd', 'b', byte(Rotate), 2}
	one := func(reasons string, change ...byte) []byte {
		return slices.Concat([]byte(reasons), change, []byte{0})
	}
	if _, err := ParseRecord(one("\x01\x03due\x01", append(name, 1)...)); err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string][]byte{
		"a reason that nothing has": one("\x01\x03due\x01", append(name, 0)...),
		"reasons out of order":      one("\x02\x03due\x01a\x02", slices.Concat(name, []byte{1}, []byte{2, 'd', 'c', byte(Rotate), 2, 2})...),
		"a reason twice":            one("\x02\x03due\x03due\x02", slices.Concat(name, []byte{1}, []byte{2, 'd', 'c', byte(Rotate), 2, 2})...),
		"a reason beyond the table": one("\x01\x03due\x01", append(name, 2)...),
		"changes out of order":      one("\x00\x02", slices.Concat([]byte{2, 'd', 'c', byte(Rotate), 2, 0}, name, []byte{0})...),
		"a change twice":            one("\x00\x02", slices.Concat(name, []byte{0}, name, []byte{0})...),
		"a long number":             one("\x00\x01", 2, 'd', 'b', byte(Rotate), 0x82, 0, 0),
		"a count of too many":       {0, 0xff, 0xff, 0x3f, 0},
	} {
		if _, err := ParseRecord(data); !errors.Is(err, blob.ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTheSizeOfARecord(t *testing.T) {
	var r Record
	for i := range 1000 {
		r.Changes = append(r.Changes, Change{Op: Create, Name: fmt.Sprintf("key-%06d", i), Version: 1, Reason: "a reason"})
	}
	if data, err := MarshalRecord(r); err != nil || len(data) > 16*1000 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func FuzzRecord(f *testing.F) {
	for _, r := range []Record{{}, record()} {
		data, err := MarshalRecord(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRecord(data)
		if err != nil {
			if !errors.Is(err, blob.ErrIntegrity) {
				t.Error(err)
			}
			return
		}
		if again, err := MarshalRecord(r); err != nil || !bytes.Equal(again, data) {
			t.Errorf("a record has a second form: %v", err)
		}
	})
}
