package hsmkeys

import (
	"context"

	"github.com/hsmkeys/hsmkeys/ledger"
)

// Renew signs a checkpoint that changes nothing: it tells those who refuse an old state, see
// [Options], that the state is still the same.
func (k *Keyring) Renew(ctx context.Context) error {
	return k.recorder.changing(ctx, Use{Operation: OpCheckpoint}, "", func(ctx context.Context, _ *intent) error {
		if err := k.refresh(ctx); err != nil {
			return err
		}
		if err := k.mustOwn("sign a checkpoint"); err != nil {
			return err
		}
		return k.recordOther(ctx, ledger.Proposal{Fresh: true}, inFile)
	})
}
