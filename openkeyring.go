package hsmkeys

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Errors of opening a keyring. Those of package ledger come as they are: an old state is
// a [ledger.ErrRollback], two copies that were written to are a [ledger.ErrFork].
var (
	// ErrNotJoined is the error for a keyring that the token has neither made nor joined. It comes
	// with a [blob.ErrIntegrity]: the keyring may be somebody else's, put into the storage.
	ErrNotJoined = errors.New("this token has not joined the keyring")

	// ErrOtherKeyring, a kind of [blob.ErrIntegrity], is the error for another keyring than the
	// caller expects in the store.
	ErrOtherKeyring = ledger.ErrOtherKeyring

	// ErrStale is the error for a state under which nothing is encrypted or signed: an older one
	// that was asked for, one that no pin vouches for, or one that is too old.
	ErrStale = errors.New("the state of the keyring is not known to be the newest")
)

// Open opens a keyring, with the token of a member.
//
// Trust starts at the pin: which checkpoint this pair has accepted last. A storage that
// shows an older one, or another one in its place, is refused with [ledger.ErrRollback] or
// [ledger.ErrFork]; a newer one is accepted when it is signed by an owner and descends from
// the pin, and is pinned in its place. Where there is no pin, trust starts at the newest
// checkpoint that the pair itself has signed; nothing is encrypted or signed then before
// the token has joined anew. A pair that has signed none must [Join].
func Open(ctx context.Context, o Options) (*Keyring, error) {
	k, err := open(ctx, o, false)
	if err != nil {
		return nil, recorderOf(o).refused(ctx, Use{Operation: OpOpen, Keyring: o.Keyring}, "", err)
	}
	return k, k.accept(ctx, inFile)
}

// OpenWithCertificate opens a keyring without a token, to list and verify it. Trust starts
// at the public key of the Voucher, which must not come from the storage and must be that
// of an owner in force. With Pins, the head is pinned in their directory, and an older one is
// noticed from then on.
func OpenWithCertificate(ctx context.Context, o Options) (*Keyring, error) {
	o.Pair = nil
	k, err := open(ctx, o, false)
	if err != nil {
		return nil, err
	}
	if m, _ := k.members().Signer(string(k.self)); m.Role != blob.Owner {
		return nil, withFacts(fmt.Errorf("the certificate's key %x is not that of an owner in force: %w", k.self, blob.ErrUntrusted), ErrNotOwner)
	}
	return k, k.accept(ctx, inFile)
}

// OpenVouched opens a keyring without a token, to look at it before it is joined: at its
// head, believed because of somebody who has signed a checkpoint, or of a checkpoint that
// another member has shown. Nothing is pinned.
func OpenVouched(ctx context.Context, o Options) (*Keyring, error) {
	o.Pair, o.Pins = nil, nil
	k, err := open(ctx, o, false)
	if err == nil && o.Voucher != nil {
		err = k.checkVoucher(o.Voucher)
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// open opens a keyring at its head, with the pair of a member or none, and pins nothing. With founding a
// head that only the pair's own signature vouches for is as good as one that is pinned.
func open(ctx context.Context, o Options, founding bool) (*Keyring, error) {
	k, err := openAnybody(ctx, o, founding)
	if err != nil || k.pair == nil {
		return k, err
	}
	if _, ok := k.members().Member(string(k.self)); ok {
		return k, nil
	}
	removed := k.notNamed(k.self)
	if o.OlderState && k.openOlderState(ctx, removed) {
		return k, nil
	}
	return nil, removed
}

// openAnybody is open with the pair of whomever.
func openAnybody(ctx context.Context, o Options, founding bool) (*Keyring, error) {
	k := &Keyring{options: o, store: o.Store, pair: o.Pair, pins: o.Pins}
	if err := k.identify(o); err != nil {
		return nil, err
	}
	trust, err := k.trust(ctx)
	if err != nil {
		return nil, err
	}
	own := k.pair != nil && o.Voucher == nil
	head, report, err := ledger.Open(ctx, o.Store, trust)
	if err != nil {
		return nil, openError(o, err, own)
	}
	now := time.Now()
	k.head = head
	k.recorder = recorderOf(o)
	k.recorder.about.Keyring = head.ID()
	k.looked.Store(&now)
	k.pinsRead.Store(&now)
	k.setState(ctx, report, own && !founding)
	return k, nil
}

// trust returns where trust in the keyring starts.
func (k *Keyring) trust(ctx context.Context) (ledger.Trust, error) {
	o := k.options
	trust := ledger.Trust{Keyring: o.Keyring, Quick: o.Once, Checkpoint: o.Checkpoint, OlderState: o.OlderState}
	if k.pins != nil {
		pins, err := k.pins.load(ctx, hex.EncodeToString(k.self))
		if err != nil {
			return trust, err
		}
		for _, p := range pins {
			trust.Pins = append(trust.Pins, p.Pin)
		}
	}
	if o.Voucher != nil {
		trust.Voucher = o.Voucher.PublicKey
	} else if k.pair != nil {
		signer, _ := k.pair.Signer()
		trust.Voucher = signer.Public()
	}
	return trust, nil
}

// openOlderState goes back to the state that was accepted last if this pair was a member then, and
// reports whether there is one: what the pair could decrypt then it can still decrypt.
func (k *Keyring) openOlderState(ctx context.Context, removed error) bool {
	trust, err := k.trust(ctx)
	if err != nil {
		return false
	}
	trust.AtPoint = true
	head, report, err := ledger.Open(ctx, k.store, trust)
	if err != nil {
		return false
	}
	k.head = head
	k.setState(ctx, report, false)
	k.state.Older = removed
	_, ok := k.members().Member(string(k.self))
	return ok
}

// identify sets the key identifiers of the pair, or of the certificate that is trusted in its
// place.
func (k *Keyring) identify(o Options) (err error) {
	if k.pair == nil {
		if o.Voucher != nil {
			k.self, err = blob.PublicKeyID(o.Voucher.PublicKey)
		}
		return err
	}
	if k.pins == nil {
		k.pins = NewPins(k.pair.Records(), "")
	}
	if k.self, err = blob.PublicKeyID(k.pair.Public()); err != nil {
		return err
	}
	signer, _ := k.pair.Signer()
	if k.signer, err = blob.PublicKeyID(signer.Public()); err != nil {
		return fmt.Errorf("signing key: %w", err)
	}
	return nil
}

// openError adds facts to the error for a keyring that was not opened. own is set if the pair's own
// signature was looked for.
func openError(o Options, err error, own bool) error {
	nothing := errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity)
	switch {
	case nothing && o.Keyring != blob.ID{}:
		return fmt.Errorf("the store has no keyring, and keyring %s belongs there: %w", o.Keyring, ErrOtherKeyring)
	case nothing:
		return withFacts(err, ErrNoKeyring)
	case errors.Is(err, ledger.ErrUnpinned) && own:
		return fmt.Errorf("%w: %w", ErrNotJoined, err)
	}
	return err
}
