package ledger

import "fmt"

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

// A Record is what one checkpoint changed.
type Record struct {
	Changes []Change // sorted by name, version, operation, without duplicates
	Log     []Digest // stored hashes that the record of the checkpoint before adds to the log
}

// MarshalRecord returns the one encoding of a record, at most 16 MiB.
func MarshalRecord(r Record) ([]byte, error) { panic("not yet") }

// ParseRecord is the inverse of [MarshalRecord]. It accepts no other encoding.
func ParseRecord(data []byte) (Record, error) { panic("not yet") }
