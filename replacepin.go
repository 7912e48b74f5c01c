package hsmkeys

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// ReplacePin opens a keyring at a checkpoint that another member has shown, whatever was pinned
// before, and pins it. An owner's token records it in a checkpoint of its own. Where recoveries
// have followed the checkpoint that was shown, that one is pinned and nothing is recorded: [State]
// has them, to be accepted.
func ReplacePin(ctx context.Context, o Options) (k *Keyring, err error) {
	err = recorderOf(o).changing(ctx, Use{Operation: ledger.ReplacePin.String()}, "", func(ctx context.Context, i *intent) (err error) {
		k, err = replacePin(ctx, o, i)
		return err
	})
	return k, err
}

func replacePin(ctx context.Context, o Options, i *intent) (*Keyring, error) {
	if o.Checkpoint == nil {
		return nil, fmt.Errorf("replace the pin: no checkpoint of another member: %w", ErrStale)
	}
	before := o.Pins
	if before == nil {
		before = NewPins(o.Pair.Records(), "")
	}
	o.Pins = &Pins{} // what is pinned is what went wrong
	k, err := open(ctx, o, false)
	if err != nil {
		return nil, err
	}
	i.about(k.recorder.about, *o.Checkpoint)
	if k.state.Older != nil {
		return nil, k.Trusted()
	}
	was, err := before.load(ctx, hex.EncodeToString(k.self))
	if err != nil {
		return nil, err
	}
	if err := i.begin(Use{}); err != nil {
		return nil, err
	}
	k.pins = before
	pin := k.pinned()
	if k.state.Recoveries = k.afterOwn(k.state.Recoveries); len(k.state.Recoveries) > 0 {
		pin.At = *o.Checkpoint
		return k, k.pins.store(ctx, pin, onToken, nil)
	}
	k.acceptRecoveries()
	if err := k.pins.store(ctx, pin, onToken, nil); err != nil {
		return nil, err
	}
	if k.Self().Role != blob.Owner || k.checkOwnSigner("") != nil {
		return k, nil // an authority signs nothing but recoveries
	}
	reason := fmt.Sprintf("pin of %s replaced by checkpoint %d", k.Self().Label, k.state.At.Number)
	for _, p := range was {
		if p.of(k.pinned()) {
			reason = fmt.Sprintf("pin of %s at checkpoint %d:%x replaced by checkpoint %d", k.Self().Label, p.At.Number, p.At.Digest[:4], k.state.At.Number)
		}
	}
	return k, k.recordOther(ctx, ledger.Proposal{Notes: []ledger.Change{{Op: ledger.ReplacePin, Reason: reason}}}, onToken)
}
