package hsmkeys

import (
	"context"
	"iter"

	"github.com/hsmkeys/hsmkeys/ledger"
)

// Log returns who did what to which key when and why, from the checkpoints after a number
// to the head, oldest first. An error ends it.
func (k *Keyring) Log(ctx context.Context, since int) iter.Seq2[ledger.Event, error] {
	return k.view().Log(ctx, since)
}
