package hsmkeys

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Join opens a keyring for the first time with the token of a member: a further owner, the new
// owner after a recovery, or a backup authority. The Voucher, the certificate of a member who has
// signed a checkpoint (of its signing key if it has one), vouches for the keyring, or the
// Checkpoint that another member has shown. Neither may come from the storage. Join pins the head;
// from then on [Open] is enough. Joining for the first time accepts all recoveries so far. A new
// owner who joins again accepts the recovery that made it an owner, and those before it.
//
// A pair that opens nothing is refused, see [Pair.CheckOpens].
func Join(ctx context.Context, o Options) (k *Keyring, err error) {
	err = recorderOf(o).changing(ctx, Use{Operation: OpJoin}, "", func(ctx context.Context, i *intent) (err error) {
		k, err = join(ctx, o, i)
		return err
	})
	return k, err
}

func join(ctx context.Context, o Options, i *intent) (*Keyring, error) {
	if err := o.Pair.CheckOpens(ctx); err != nil {
		return nil, err
	}
	k, err := open(ctx, o, false)
	if err != nil {
		return nil, err
	}
	i.about(k.recorder.about, k.view().At())
	if k.state.Older != nil {
		return nil, k.Trusted()
	}
	if o.Voucher != nil {
		if err := k.checkVoucher(o.Voucher); err != nil {
			return nil, err
		}
	}
	if k.state.Before.Number > 0 { // or else joining accepts all of it
		k.state.Recoveries = k.afterOwn(k.state.Recoveries)
	} else {
		k.state.Recoveries = nil
	}
	k.state.Unpinned = false
	if len(k.state.Recoveries) > 0 {
		return k, nil
	}
	if err := i.begin(Use{}); err != nil {
		return nil, err
	}
	k.acceptRecoveries()
	return k, k.keepPin(ctx, onToken)
}

// afterOwn returns the recoveries after the last one that made this pair an owner.
func (k *Keyring) afterOwn(all []ledger.RecoveryEvent) []ledger.RecoveryEvent {
	for i, r := range slices.Backward(all) {
		if keyID(r.To) == string(k.self) {
			return all[i+1:]
		}
	}
	return all
}

// checkVoucher returns an error if the voucher has never signed for the keyring.
func (k *Keyring) checkVoucher(voucher *x509.Certificate) error {
	id, err := blob.PublicKeyID(voucher.PublicKey)
	if err != nil {
		return err
	}
	m, ok := k.members().EverSigner(string(id))
	if m.Quorum != nil {
		return withFacts(fmt.Errorf("the voucher's key %x is that of the quorum %q: %w", id, m.Label, blob.ErrUntrusted), ErrQuorumVouches)
	}
	if !ok {
		return fmt.Errorf("the voucher's key %x is that of no member who has ever signed: %w", id, blob.ErrUntrusted)
	}
	return nil
}
