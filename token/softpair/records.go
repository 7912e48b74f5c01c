package softpair

import (
	"bytes"
	"context"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Records returns records that are in memory as well, and gone with the process.
func (p *Pair) Records() keyspec.Records { return (*records)(p) }

// records is a Pair as a [keyspec.Records].
type records Pair

func (r *records) Records(context.Context) ([]keyspec.Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.records), nil
}

func (r *records) AddRecord(_ context.Context, label string, value []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made++
	r.records = append(r.records, keyspec.Record{Label: label, Value: bytes.Clone(value), Object: r.made})
	return nil
}

func (r *records) DeleteRecord(_ context.Context, gone keyspec.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = slices.DeleteFunc(r.records, func(have keyspec.Record) bool { return have.Object == gone.Object })
	return nil
}
