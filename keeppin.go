package hsmkeys

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"syscall"

	"github.com/hsmkeys/hsmkeys/ledger"
)

// pinned is the head as a pin of this pair.
func (k *Keyring) pinned() Pin { return Pin{hex.EncodeToString(k.self), k.view().Pin()} }

// keepPin pins the head. What is pinned must be durable, whoever has stored it.
func (k *Keyring) keepPin(ctx context.Context, where pinPlaces) error {
	if k.pins == nil {
		return nil
	}
	pin := k.pinned()
	if pin.At != k.state.Before {
		err := k.view().Sync(ctx)
		if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
			return err
		}
	}
	if err := k.pins.store(ctx, pin, where, k.consistent); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = pin.At
	return nil
}

// consistent refuses a pin that is there and neither of this process nor of one chain with
// the head.
func (k *Keyring) consistent(ctx context.Context, pinned ledger.Point) error {
	k.mu.Lock()
	kept := k.kept
	k.mu.Unlock()
	if pinned == kept || pinned == k.state.Before {
		return nil
	}
	return k.view().Consistent(ctx, pinned)
}
