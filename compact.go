package hsmkeys

import (
	"context"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Compact writes all nodes of the state anew, close together, records that in a checkpoint
// unless the newest one has done so, and deletes the packs that none of the last keep checkpoints
// needs. It returns how many it has deleted. It can be killed and run again.
//
// A token that has accepted none of the kept checkpoints cannot sign until it has been shown a
// later one, see [ReplacePin].
func (k *Keyring) Compact(ctx context.Context, keep int) (deleted int, err error) {
	err = k.recorder.changing(ctx, Use{Operation: ledger.Compact.String()}, "", func(ctx context.Context, _ *intent) (err error) {
		deleted, err = k.compact(ctx, keep)
		return err
	})
	return deleted, err
}

func (k *Keyring) compact(ctx context.Context, keep int) (deleted int, err error) {
	if err := k.refresh(ctx); err != nil {
		return 0, err
	}
	if err := k.mustOwn("compact the store"); err != nil {
		return 0, err
	}
	if err := k.recordOther(ctx, ledger.Proposal{Compact: true}, onToken); err != nil {
		return 0, fmt.Errorf("compact the store: %w", err)
	}
	packs, err := k.view().OutdatedPacks(ctx, keep)
	if err != nil {
		return 0, fmt.Errorf("look for packs that nothing needs: %w", err)
	}
	for _, id := range packs {
		if err := ctx.Err(); err != nil {
			return deleted, err
		}
		if err := k.store.Delete(ctx, blob.PackPath(id)); err != nil {
			return deleted, fmt.Errorf("delete a pack that nothing needs: %w", err)
		}
		deleted++
	}
	return deleted, nil
}
