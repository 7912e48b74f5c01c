package hsmkeys

import (
	"context"
	"time"

	"github.com/hsmkeys/hsmkeys/ledger"
)

// RecordEvery sets how often an operation over many keys makes a checkpoint.
func RecordEvery(d time.Duration) { recordEvery = d }

// PinsFor sets how long pins that were read count.
func PinsFor(d time.Duration) { pinsFor = d }

// Options returns the options of the keyring, so that a test can change them.
func (k *Keyring) Options() *Options { return &k.options }

// Fresh is the keyring as it is when it was just opened, for benchmarks.
func (k *Keyring) Fresh() *Keyring {
	return &Keyring{
		options: k.options, store: k.store, pair: k.pair, pins: k.pins, self: k.self, signer: k.signer,
		state: k.state, head: k.view(),
	}
}

// SetStatus changes the status of a version to a worse one.
func (k *Keyring) SetStatus(ctx context.Context, name string, version int, status ledger.Status) error {
	e, err := k.view().Entry(ctx, name)
	if err != nil {
		return err
	}
	n := takeInEdit{name: name, last: highest(e), worse: map[int]ledger.Status{version: status}}
	return k.recordEdit(ctx, n.edit(), inFile)
}
