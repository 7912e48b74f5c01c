package hsmkeys

import (
	"context"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// accept pins the head, unless a person has to accept it first.
func (k *Keyring) accept(ctx context.Context, where pinPlaces) error {
	if s := k.known(); s.Unpinned || s.Older != nil || len(s.Recoveries) > 0 {
		return nil
	}
	return k.keepPin(ctx, where)
}

// Accept accepts the recoveries up to a checkpoint, and pins the head where none is left.
// The point must be that of the last recovery in [State].
func (k *Keyring) Accept(ctx context.Context, at ledger.Point) error {
	return k.recorder.changing(ctx, Use{Operation: OpAccept}, "", func(ctx context.Context, i *intent) error { return k.acceptAt(ctx, at, i) })
}

func (k *Keyring) acceptAt(ctx context.Context, at ledger.Point, i *intent) error {
	recoveries := k.known().Recoveries
	n := len(recoveries)
	if n == 0 {
		return fmt.Errorf("accept checkpoint %v: no recovery waits to be accepted there: %w", at, blob.ErrNotFound)
	}
	if recoveries[n-1].At != at {
		return fmt.Errorf("accept checkpoint %v: the recovery is checkpoint %v: %w", at, recoveries[n-1].At, blob.ErrMisplaced)
	}
	i.about(Use{}, at)
	if err := i.begin(Use{}); err != nil {
		return err
	}
	k.acceptRecoveries()
	return k.keepPin(ctx, onToken)
}

// acceptRecoveries accepts all recoveries that were found.
func (k *Keyring) acceptRecoveries() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.head, k.state.Recoveries = k.head.Accept(k.head.At()), nil
}
