package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Init makes a keyring in a store that has none, with the pair of the options as its only owner,
// and pins it. It makes the pair's certificate if there is none yet, see [CertificateOf], and signs
// the first checkpoint, which introduces the list of members. The error is a [blob.ErrExists] if the
// store has a keyring.
func Init(ctx context.Context, o Options, label string) (k *Keyring, err error) {
	err = recorderOf(o).changing(ctx, Use{Operation: OpInit, To: label}, "", func(ctx context.Context, i *intent) (err error) {
		k, err = found(ctx, o, label, i)
		return err
	})
	return k, err
}

func found(ctx context.Context, o Options, label string, i *intent) (*Keyring, error) {
	pair, store := o.Pair, o.Store
	taken := fmt.Errorf("make a keyring: %w", ErrHasKeyring)
	switch there, err := hasCheckpoint(ctx, store, 1); { // before a certificate is made
	case err != nil:
		return nil, err
	case there:
		return nil, taken
	}
	if err := i.begin(Use{}); err != nil {
		return nil, err
	}
	certificate, err := CertificateOf(ctx, pair, label)
	if err != nil {
		return nil, err
	}
	signing, err := signingCertificateOf(ctx, pair)
	if err != nil {
		return nil, fmt.Errorf("make a keyring: %w", err)
	}
	id, err := randomID(pair)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	l, err := ledger.Init(ctx, store, blob.MemberList{
		KeyringID: id, Created: now,
		Members: []blob.Member{{Role: blob.Owner, Label: label, Certificate: certificate, Signing: signing}},
	}, signerOf(pair, signing, certificate), now, nonce(pair))
	if errors.Is(err, blob.ErrExists) {
		return nil, taken
	}
	if err != nil {
		return nil, fmt.Errorf("make a keyring: %w", err)
	}
	i.about(Use{Keyring: id}, l.At())
	i.made(l.At())
	k, err := open(ctx, o, true)
	if err == nil && k.view().Pin().First != l.Pin().First { // the storage shows one that the pair has founded before
		err = ErrOtherKeyring
	}
	if err != nil {
		return nil, fmt.Errorf("make a keyring: %w", err)
	}
	return k, k.keepPin(ctx, onToken)
}

// ResumeInit opens and pins the keyring of an [Init] that may have been interrupted after it stored
// the first checkpoint: the pair has signed that checkpoint, and there is no other. The error is a
// [blob.ErrExists] for any other keyring.
func ResumeInit(ctx context.Context, o Options) (k *Keyring, err error) {
	err = recorderOf(o).changing(ctx, Use{Operation: OpInit}, "", func(ctx context.Context, i *intent) (err error) {
		k, err = resumeInit(ctx, o, i)
		return err
	})
	return k, err
}

func resumeInit(ctx context.Context, o Options, i *intent) (*Keyring, error) {
	k, err := open(ctx, o, true)
	if errors.Is(err, ErrNotJoined) || err == nil && k.view().At().Number > 1 && k.state.Before.Number == 0 {
		return nil, fmt.Errorf("make a keyring: %w", ErrHasKeyring)
	}
	if err != nil {
		return nil, err
	}
	i.about(k.recorder.about, k.view().At())
	if err := i.begin(Use{}); err != nil {
		return nil, err
	}
	return k, k.keepPin(ctx, onToken)
}

// InitInterrupted reports whether a store may be what an interrupted [Init] has left: it has a
// first checkpoint, no second one, and no key.
func InitInterrupted(ctx context.Context, store blob.Store) (bool, error) {
	first, err := hasCheckpoint(ctx, store, 1)
	if err != nil || !first {
		return false, err
	}
	second, err := hasCheckpoint(ctx, store, 2)
	if err != nil || second {
		return false, err
	}
	for _, err := range store.List(ctx, blob.KeysPrefix) {
		return false, err
	}
	return true, nil
}

// hasCheckpoint reports whether a store has the checkpoint with a number.
func hasCheckpoint(ctx context.Context, store blob.Store, number int) (bool, error) {
	_, err := store.Get(ctx, blob.SlotPath(number))
	if errors.Is(err, blob.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// ErrHasKeyring, a kind of [blob.ErrExists], is the error of [Init] for a store that has a keyring.
var ErrHasKeyring = fmt.Errorf("the store has a keyring: %w", blob.ErrExists)
