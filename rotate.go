package hsmkeys

import (
	"context"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Rotate makes the next version of a key: a new session key with the algorithm
// and purpose of the current version; for a key from a password, with the same
// password and a new salt. When others rotate the same key at the same time, each
// gets a version of its own.
func (k *Keyring) Rotate(ctx context.Context, name string) (Entry, error) {
	return k.rotate(ctx, name, nil)
}

// rotate is Rotate with a new password, or nil.
func (k *Keyring) rotate(ctx context.Context, name string, password []byte) (Entry, error) {
	if err := k.refresh(ctx); err != nil {
		return Entry{}, err
	}
	if err := k.mustOwn("rotate a key"); err != nil {
		return Entry{}, err
	}
	return retryStale(ctx, k, func() (Entry, error) { return k.rotateOnce(ctx, name, password) })
}

func (k *Keyring) rotateOnce(ctx context.Context, name string, password []byte) (Entry, error) {
	f, model, err := k.rotationModel(ctx, name)
	if err != nil {
		return Entry{}, err
	}
	b, edit, err := k.nextVersion(ctx, f, model, password)
	if err != nil {
		return Entry{}, fmt.Errorf("rotate key %q: %w", name, err)
	}
	defer k.storing.end(b)
	err = k.recordEdit(ctx, edit, onToken)
	if isStale(err) {
		return Entry{}, errors.Join(err, k.discard(ctx, b))
	}
	if err != nil {
		return Entry{}, fmt.Errorf("rotate key %q: %w", name, err)
	}
	return k.entry(b), nil
}

// rotationModel returns what the next version of a key is to be like: the current version, or the
// newest where none encrypts, as of a name that came with a merge.
func (k *Keyring) rotationModel(ctx context.Context, name string) (keyVersion, *blob.Blob, error) {
	e, err := k.entryNamed(ctx, name)
	if err != nil {
		return keyVersion{}, nil, err
	}
	ref := Ref{Name: name, Version: e.Current}
	if e.Current == 0 {
		ref.Version = highest(e)
	}
	return k.loadRef(ctx, ref)
}

// nextVersion makes the next version of a key, and the edit that records it.
func (k *Keyring) nextVersion(ctx context.Context, f keyVersion, model *blob.Blob, password []byte) (*blob.Blob, ledger.Edit, error) {
	digest := model.Digest()
	last, list := highest(f.entry), k.ListNumber()
	d := blob.Descriptor{Name: f.entry.Name, Version: last + 1, Purpose: model.Descriptor().Purpose, Replaces: digest[:]}
	b, err := k.makeLike(ctx, d, model, password)
	if err != nil {
		return nil, ledger.Edit{}, err
	}
	return b, rotateEdit(f.entry.Name, last, k.version(b, list)), nil
}

// makeLike makes a key of the kind of another one.
func (k *Keyring) makeLike(ctx context.Context, d blob.Descriptor, model *blob.Blob, password []byte) (*blob.Blob, error) {
	derivation, ok := model.Derivation()
	switch {
	case ok:
		return k.deriveLike(ctx, d, model, derivation.KDF, password)
	case password != nil:
		return nil, fmt.Errorf("the key is a stored one, not from a password: %w", ErrDerivation)
	case model.Algorithm().IsLegacy():
		return nil, withFacts(fmt.Errorf("no new %v keys are made: %w", model.Algorithm(), ErrPurpose), ErrLegacyNew)
	}
	return k.make(ctx, d, model.Algorithm())
}
