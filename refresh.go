package hsmkeys

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/ledger"
)

// refresh is look, but does nothing if [Options.Once] is set and the last look was less than freshFor ago.
func (k *Keyring) refresh(ctx context.Context) error {
	if k.options.Once && time.Since(*k.looked.Load()) < freshFor {
		return nil
	}
	return k.look(ctx)
}

// look checks the store for a newer head, and pins it.
func (k *Keyring) look(ctx context.Context) error {
	if s := k.known(); s.Older != nil || len(s.Recoveries) > 0 {
		return nil // it stays where it is
	}
	was := k.view()
	next, err := was.Refresh(ctx, false)
	if recovered := (*ledger.Unaccepted)(nil); errors.As(err, &recovered) {
		k.setRecoveries(recovered.Recoveries)
		return nil
	}
	if err != nil {
		return err
	}
	now := time.Now()
	k.looked.Store(&now)
	moved := next.At() != was.At()
	if moved {
		k.moveTo(next)
	}
	if _, ok := k.members().Member(string(k.self)); !ok && k.pair != nil { // also if an earlier call has moved
		return k.notNamed(k.self)
	}
	if !moved {
		return k.lookAtPins(ctx)
	}
	return k.accept(ctx, inFile)
}

// lookAtPins returns a [ledger.Rollback] if another process with the same pins has accepted a newer state
// than the store has. A program that runs for long would otherwise go by a state that it alone remembers.
func (k *Keyring) lookAtPins(ctx context.Context) error {
	if k.pins == nil || k.options.Once || !k.pinsAreDue() {
		return nil
	}
	pins, err := k.pins.load(ctx, hex.EncodeToString(k.self))
	if err != nil {
		return err
	}
	own := k.view().Pin()
	for _, p := range pins {
		if p.Keyring != own.Keyring || p.First != own.First || p.At.Number <= k.view().At().Number {
			continue
		}
		next, err := k.view().Refresh(ctx, false) // it may have been made since the store was looked at
		if err != nil {
			return err
		}
		if at := next.At(); at.Number < p.At.Number {
			k.pinsRead.Store(nil) // the next look tells the same
			return &ledger.Rollback{Accepted: p.At, Found: ledger.Signed{At: at, Created: next.Head().Checkpoint().Created}}
		}
		k.moveTo(next)
	}
	return nil
}

// pinsAreDue reports whether the pins have to be read again, at most one call of several at once.
func (k *Keyring) pinsAreDue() bool {
	now := time.Now()
	read := k.pinsRead.Load()
	return (read == nil || now.Sub(*read) >= pinsFor) && k.pinsRead.CompareAndSwap(read, &now)
}

// pinsFor is how long pins that were read count: a card takes long to read them.
var pinsFor = 10 * time.Second

// freshFor is the minimum interval between two looks with [Options.Once].
const freshFor = 5 * time.Second

func (k *Keyring) moveTo(head *ledger.Ledger) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if head.At().Number > k.head.At().Number {
		k.head = head
	}
}

func (k *Keyring) setRecoveries(all []ledger.RecoveryEvent) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state.Recoveries = all
}

// retryStale calls do, which makes a change, until its result is not stale, at most maxRaces times. It
// records each call.
func retryStale(ctx context.Context, k *Keyring, u Use, reason string, do func(context.Context) (Entry, error)) (Entry, error) {
	for range maxRaces {
		attempt, i := k.recorder.intend(ctx, u, reason)
		done, err := do(attempt)
		if err = i.end(err); !isStale(err) || errors.As(err, new(*Unrecorded)) {
			return done, err
		}
		if err := k.look(ctx); err != nil {
			return Entry{}, err
		}
	}
	return Entry{}, fmt.Errorf("%w, %d times: %w", errStaleEntry, maxRaces, ledger.ErrRace)
}

// errStaleEntry is the error for a key that somebody else has changed since it was read. The
// operation is tried again.
var errStaleEntry = errors.New("the key was changed meanwhile")

// isStale reports whether an operation has to be tried again, because others have changed the key
// or the members that it was wrapped to.
func isStale(err error) bool { return errors.Is(err, errStaleEntry) || errors.Is(err, ledger.ErrList) }

// maxRaces is how often an operation on a key is tried when others are faster: of eight processes
// that change a key all the time, each wins about one race in eight.
const maxRaces = 128
