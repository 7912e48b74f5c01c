package keyspec

import "context"

// A Record is a small private value that is kept beside a key exchange pair.
type Record struct {
	Label  string
	Value  []byte // at most 1024 bytes
	Object uint   // names the record to the [Records] that returned it
}

// Records keeps records where nobody without the pair's PIN can make, change or see one.
type Records interface {
	// Records returns all records. One that is made or deleted at this moment may be missing.
	Records(context.Context) ([]Record, error)
	// AddRecord makes a record. The error is an [errors.ErrUnsupported] if none can be kept.
	AddRecord(ctx context.Context, label string, value []byte) error
	// DeleteRecord deletes a record. It is no error if the record is gone already.
	DeleteRecord(context.Context, Record) error
}
