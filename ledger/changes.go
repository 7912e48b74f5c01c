package ledger

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// An Op is what a [Change] does.
type Op int

const (
	Create Op = iota + 1
	Rotate
	Rewrap
	Adopt
	Merge
	Activate
	Deactivate
	Compromise
	Destroy
	Describe
	SetDates
	Rename
	Compact
	ReplacePin
)

var ops = [...]string{
	Create: "create", Rotate: "rotate", Rewrap: "rewrap", Adopt: "adopt", Merge: "merge",
	Activate: "activate", Deactivate: "deactivate", Compromise: "compromise", Destroy: "destroy",
	Describe: "describe", SetDates: "set-dates", Rename: "rename",
	Compact: "compact", ReplacePin: "replace-pin",
}

// String returns the name of the operation, such as "create" or "set-dates".
func (o Op) String() string {
	if !o.valid() {
		return fmt.Sprintf("Op(%d)", int(o))
	}
	return ops[o]
}

func (o Op) valid() bool { return o >= Create && int(o) < len(ops) }

// A Change is one thing that a checkpoint did.
type Change struct {
	Op      Op
	Name    string // "" for Compact and ReplacePin, which are of the whole keyring
	Version int    // 0: the name as a whole
	Reason  string // at most 256 bytes of UTF-8 that print
}

func (c *Change) validate() error {
	keyring := c.Op == Compact || c.Op == ReplacePin
	switch {
	case !c.Op.valid():
		return fmt.Errorf("unknown operation %d", int(c.Op))
	case keyring && (c.Name != "" || c.Version != 0):
		return fmt.Errorf("%v has the name %q, version %d", c.Op, c.Name, c.Version)
	case !keyring && blob.ValidName(c.Name) != nil:
		return fmt.Errorf("%v: %w", c.Op, blob.ValidName(c.Name))
	case c.Version < 0 || c.Version > blob.MaxNumber:
		return fmt.Errorf("version %d is not in 0..%d", c.Version, blob.MaxNumber)
	case c.Reason != "" && blob.ValidReason(c.Reason) != nil:
		return fmt.Errorf("reason %w", blob.ValidReason(c.Reason))
	}
	return nil
}

// compare orders changes by name, version and operation.
func (c *Change) compare(d *Change) int {
	return cmp.Or(cmp.Compare(c.Name, d.Name), cmp.Compare(c.Version, d.Version), cmp.Compare(c.Op, d.Op))
}

// A Record is what one checkpoint changed.
type Record struct {
	Changes []Change // at most MaxChanges, sorted by name, version and operation, none twice
	Log     []Digest // stored hashes that the record of the checkpoint before adds to the log, at most 64
}

// MaxChanges is the highest number of changes in a record.
const MaxChanges = 1 << 20

const (
	maxReason = 256 // bytes
	maxLog    = 64
)

// MarshalRecord returns the one encoding of a record, at most 16 MiB. It sorts the changes;
// two of the same name, version and operation are an error.
func MarshalRecord(r Record) ([]byte, error) {
	r.Changes = slices.SortedFunc(slices.Values(r.Changes), func(a, b Change) int { return a.compare(&b) })
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("record of changes: %w", err)
	}
	reasons := []string{""}
	for i := range r.Changes {
		reasons = append(reasons, r.Changes[i].Reason)
	}
	slices.Sort(reasons)
	reasons = slices.Compact(reasons)
	index := make(map[string]int, len(reasons))
	b := appendNumber(nil, len(reasons)-1)
	for i, reason := range reasons {
		if index[reason] = i; i > 0 {
			b = appendText(b, reason)
		}
	}
	b = appendNumber(b, len(r.Changes))
	for i := range r.Changes {
		c := &r.Changes[i]
		b = append(appendText(b, c.Name), byte(c.Op))
		b = appendNumber(appendNumber(b, c.Version), index[c.Reason])
	}
	b = appendNumber(b, len(r.Log))
	for i := range r.Log {
		b = append(b, r.Log[i][:]...)
	}
	if len(b) > maxPack {
		return nil, fmt.Errorf("record of changes: %w: %d bytes, at most %d are allowed", blob.ErrTooLarge, len(b), maxPack)
	}
	return b, nil
}

func (r *Record) validate() error {
	if len(r.Changes) > MaxChanges || len(r.Log) > maxLog {
		return fmt.Errorf("%d changes and %d hashes, at most %d and %d are allowed", len(r.Changes), len(r.Log), MaxChanges, maxLog)
	}
	for i := range r.Changes {
		if err := r.Changes[i].validate(); err != nil {
			return err
		}
		if i > 0 && r.Changes[i-1].compare(&r.Changes[i]) >= 0 {
			return fmt.Errorf("%v of %q %d is out of order", r.Changes[i].Op, r.Changes[i].Name, r.Changes[i].Version)
		}
	}
	return nil
}

// ParseRecord is the inverse of [MarshalRecord]. It accepts no other encoding.
func ParseRecord(data []byte) (Record, error) {
	if len(data) > maxPack {
		return Record{}, fmt.Errorf("record of changes: %w: %d bytes", blob.ErrTooLarge, len(data))
	}
	d := &decoder{in: data}
	r := d.record()
	if len(d.in) > 0 {
		d.fail("bytes after the end")
	}
	if d.err == nil {
		d.err = r.validateParsed(data)
	}
	if d.err != nil {
		return Record{}, fmt.Errorf("record of changes: %w", d.err)
	}
	return r, nil
}

func (r *Record) validateParsed(data []byte) error {
	if err := r.validate(); err != nil {
		return malformed("%w", err)
	}
	if again, err := MarshalRecord(*r); err != nil || !bytes.Equal(again, data) {
		return malformed("in another form than its own")
	}
	return nil
}

func (d *decoder) record() (r Record) {
	reasons := []string{""}
	for range d.number("number of reasons", 0, MaxChanges) {
		if d.err != nil {
			return Record{}
		}
		reasons = append(reasons, d.text("reason", 1, maxReason))
	}
	for range d.number("number of changes", 0, MaxChanges) {
		var c Change
		c.Name = d.text("name", 0, maxName)
		c.Op = Op(d.byte("operation"))
		c.Version = d.number("version", 0, blob.MaxNumber)
		c.Reason = reasons[d.number("reason", 0, len(reasons)-1)]
		if d.err != nil {
			return Record{}
		}
		r.Changes = append(r.Changes, c)
	}
	for range d.number("number of hashes", 0, maxLog) {
		r.Log = append(r.Log, d.digest("hash"))
	}
	return r
}
