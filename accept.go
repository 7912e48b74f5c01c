package hsmkeys

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// accept pins the head, unless a person has to accept it first.
func (k *Keyring) accept(ctx context.Context, where place) error {
	if s := k.known(); s.Unpinned || s.Older != nil || len(s.Recoveries) > 0 {
		return nil
	}
	return k.keepPin(ctx, where)
}

// Accept accepts the recoveries up to a checkpoint, and pins the head where none is left.
// The point must be that of the last recovery in [State].
func (k *Keyring) Accept(ctx context.Context, at ledger.Point) error {
	recoveries := k.known().Recoveries
	n := len(recoveries)
	if n == 0 {
		return fmt.Errorf("accept checkpoint %v: no recovery waits to be accepted there: %w", at, blob.ErrNotFound)
	}
	if recoveries[n-1].At != at {
		return fmt.Errorf("accept checkpoint %v: the recovery is checkpoint %v: %w", at, recoveries[n-1].At, blob.ErrMisplaced)
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

// pinned is the head as a pin of this pair.
func (k *Keyring) pinned() Pin { return Pin{hex.EncodeToString(k.self), k.view().Pin()} }

// keepPin pins the head. What is pinned must be durable, whoever has stored it.
func (k *Keyring) keepPin(ctx context.Context, where place) error {
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
	if err := k.pins.keep(ctx, pin, where, k.consistent); err != nil {
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

// Trusted returns why the state is not known to be the newest and accepted, so that nothing
// is encrypted or signed; or nil.
func (k *Keyring) Trusted() error { return k.trusted() }

// trusted refuses to build upon a state that is not known to be the newest, or that a
// recovery has led to which was not accepted.
func (k *Keyring) trusted() error {
	switch s := k.known(); {
	case s.Older != nil:
		return fmt.Errorf("%w: %w", ErrStale, s.Older)
	case s.Unpinned:
		return withFacts(fmt.Errorf("%w: no pin of it is on the token or in a file", ErrStale), ErrNotPinned)
	case len(s.Recoveries) > 0:
		last := s.Recoveries[len(s.Recoveries)-1]
		return withFacts(fmt.Errorf("checkpoint %d puts %q in the place of %q: %w", last.At.Number, last.To.Label, last.From.Label, ledger.ErrUnaccepted), &NotAccepted{last.At})
	}
	return nil
}

// mayEncrypt refuses to encrypt under a state that is not known to be the newest, or that
// is older than the caller has set.
func (k *Keyring) mayEncrypt() error {
	if err := k.trusted(); err != nil || k.options.MaxAge == 0 {
		return err
	}
	created := k.view().Head().Checkpoint().Created
	switch now := time.Now(); { // a time.Duration ends after 292 years
	case created.Before(now.Add(-k.options.MaxAge)):
		return withFacts(fmt.Errorf("%w: checkpoint %d is of %s, older than %v", ErrStale, k.view().At().Number, created.UTC().Format(time.RFC3339), k.options.MaxAge), ErrTooOld)
	case created.After(now.Add(clockSkew)):
		return fmt.Errorf("%w: checkpoint %d is of %s, ahead of this clock", ErrStale, k.view().At().Number, created.UTC().Format(time.RFC3339))
	}
	return nil
}

// clockSkew is how far ahead of this clock a checkpoint may be.
const clockSkew = 10 * time.Minute
