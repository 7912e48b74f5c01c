package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Rotate makes the next version of a key: a new session key with the algorithm
// and purpose of the current version; for a key from a password, with the same
// password and a new salt. When others rotate the same key at the same time, each
// gets a version of its own. The reason is recorded, and may be empty.
func (k *Keyring) Rotate(ctx context.Context, name, reason string) (Entry, error) {
	return k.rotate(ctx, name, nil, reason)
}

// RotateMany is [Keyring.Rotate] for several keys. A Ref with a version is rotated only if that is the one
// that encrypts, and is left alone if somebody has rotated or deactivated the key since it was chosen. It
// asks for no passwords: for a key that comes from one the error is an [ErrDerivation].
func (k *Keyring) RotateMany(ctx context.Context, refs []Ref, reason string) iter.Seq[Result] {
	return k.changeAll(ctx, ledger.Rotate.String(), "rotate keys", reason, refs, onToken, func(ctx context.Context, ref Ref) (Result, error) {
		f, err := k.rotationModel(ctx, ref.Name)
		if err == nil && ref.Version > 0 && ref.Version != f.entry.Current {
			return Result{Entry: k.lister().entry(f.entry, f.version)}, nil
		}
		if err == nil && f.version.Derived {
			err = withFacts(fmt.Errorf("rotate key %q, which comes from a password, with others: %w", ref.Name, ErrDerivation), ErrAsksPassword)
		}
		if err != nil {
			return Result{}, err
		}
		return k.rotated(ctx, f, nil, reason)
	})
}

// rotate is Rotate with a new password, or nil.
func (k *Keyring) rotate(ctx context.Context, name string, password []byte, reason string) (Entry, error) {
	use := Use{Operation: ledger.Rotate.String(), Key: name}
	err := k.refresh(ctx)
	if err == nil {
		err = errors.Join(k.mustOwn("rotate a key"), validReason(reason))
	}
	if err != nil {
		return Entry{}, k.recorder.refused(ctx, use, reason, err)
	}
	return retryStale(ctx, k, use, reason, func(ctx context.Context) (Entry, error) {
		f, err := k.rotationModel(ctx, name)
		if err != nil {
			return Entry{}, err
		}
		r, err := k.rotated(ctx, f, password, reason)
		if err != nil {
			return Entry{}, err
		}
		return k.recordOne(ctx, r, onToken)
	})
}

// rotationModel returns what the next version of a key is to be like: the current version or, where
// none encrypts, the newest that was not destroyed. Its blob must be there, or else the storage has lost
// what files need.
func (k *Keyring) rotationModel(ctx context.Context, name string) (keyVersion, error) {
	e, err := k.entryNamed(ctx, name)
	if err != nil {
		return keyVersion{}, err
	}
	f, err := k.newest(ctx, e)
	switch {
	case err != nil:
		return f, err
	case f.version.Status == ledger.Destroyed:
		return f, withFacts(inVersion(e.Name, f.version, k.destroyed(ctx, f)), ErrNameDestroyed)
	}
	return f, k.checkStored(ctx, f)
}

// newest returns the current version of a key or, where none encrypts, the newest that was not
// destroyed; if all were, the newest.
func (k *Keyring) newest(ctx context.Context, e ledger.Entry) (keyVersion, error) {
	if e.Current > 0 {
		v, err := k.view().Version(ctx, e, e.Current)
		return keyVersion{e, v}, err
	}
	for v, err := range k.view().Versions(ctx, e) {
		if err != nil || v.Status != ledger.Destroyed {
			return keyVersion{e, v}, err
		}
	}
	return keyVersion{e, e.Versions[len(e.Versions)-1]}, nil
}

// rotated makes the next version of a key, and prepares the edit that records it.
func (k *Keyring) rotated(ctx context.Context, f keyVersion, password []byte, reason string) (Result, error) {
	last, list := highest(f.entry), k.ListNumber()
	d := blob.Descriptor{Name: f.entry.Name, Version: last + 1, Purpose: f.version.Purpose, Replaces: f.version.Blob[:]}
	b, err := k.makeLike(ctx, d, f, password)
	if err != nil {
		return Result{}, fmt.Errorf("rotate key %q: %w", f.entry.Name, err)
	}
	v := k.version(b, list)
	edit := rotateEdit(f.entry.Name, last, f.version, v, reason)
	after := f.entry
	after.Current = v.Number
	return k.preparedResult(after, v, b, edit), nil
}

// makeLike makes a key of the kind of another one.
func (k *Keyring) makeLike(ctx context.Context, d blob.Descriptor, f keyVersion, password []byte) (*blob.Blob, error) {
	switch {
	case f.version.Derived:
		model, err := k.loadVersion(ctx, f)
		if err != nil {
			return nil, err
		}
		derivation, _ := model.Derivation()
		return k.deriveLike(ctx, d, model, derivation.KDF, password)
	case password != nil:
		return nil, fmt.Errorf("the key is a stored one, not from a password: %w", ErrDerivation)
	case f.version.Algorithm.IsLegacy():
		return nil, withFacts(fmt.Errorf("no new %v keys are made: %w", f.version.Algorithm, ErrPurpose), ErrLegacyNew)
	}
	return k.make(ctx, d, f.version.Algorithm)
}
