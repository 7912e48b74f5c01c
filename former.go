package hsmkeys

import (
	"context"
	"errors"
	"iter"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Removing a member changes who new keys are wrapped to, and takes nothing back: it
// could open every version that was ever wrapped to it, and may have kept the key or
// the blob. A rewrapped blob holds the same key. Only a new version is a key that a
// former member has never seen, so that is what Rotate is for and what the functions
// here look for.

// FormerHolders returns the former members that can open a version of a key, because
// one of its stored revisions is or was wrapped to them. An earlier revision that is
// gone or does not verify names nobody; the newest must verify.
func (k *Keyring) FormerHolders(ctx context.Context, ref Ref) ([]Holder, error) {
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	if len(k.FormerMembers()) == 0 {
		return nil, nil // nobody has ever left
	}
	_, b, err := k.loadRef(ctx, ref)
	if err != nil {
		return nil, err
	}
	return k.formerHolders(ctx, b)
}

// formerHolders is FormerHolders for the newest revision of a version.
func (k *Keyring) formerHolders(ctx context.Context, newest *blob.Blob) ([]Holder, error) {
	left := len(k.FormerMembers())
	var former []Holder
	// However many revisions: each rewrap adds one, and who held the first holds the key.
	for at := newest; left > len(former); {
		for _, h := range k.entry(at).Holders {
			if h.Former && !holds(former, h) {
				former = append(former, h)
			}
		}
		before, err := k.revisionBefore(ctx, at)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			break
		}
		at = before
	}
	return former, nil
}

// RotateFormer makes a new version of each named key, or of every key, whose newest
// version a former member can open. Keys that no former member can open are left
// alone, so RotateFormer can be interrupted and started again. So are legacy keys, keys of
// which no version encrypts, and keys from passwords, which are wrapped to nobody.
func (k *Keyring) RotateFormer(ctx context.Context, reason string, names ...string) (iter.Seq[Result], int, error) {
	if err := errors.Join(k.mustOwn("rotate keys"), validReason(reason)); err != nil {
		return nil, 0, k.recorder.refused(ctx, Use{Operation: ledger.Rotate.String()}, reason, err)
	}
	versions, err := k.Versions(ctx, names...)
	if err != nil {
		return nil, 0, err
	}
	var refs []Ref
	for _, ref := range versions {
		if len(refs) == 0 || refs[len(refs)-1].Name != ref.Name {
			refs = append(refs, Ref{Name: ref.Name})
		}
	}
	return k.change(ctx, ledger.Rotate.String(), reason, refs, onToken, func(ctx context.Context, ref Ref) Result {
		r, err := k.rotateFormer(ctx, ref, reason)
		r.Ref, r.Err = Ref{ref.Name, r.Entry.Version}, err
		return r
	}), len(refs), nil
}

// rotateFormer prepares the edit that rotates a key, if a former member can open it.
func (k *Keyring) rotateFormer(ctx context.Context, ref Ref, reason string) (Result, error) {
	e, err := k.entryNamed(ctx, ref.Name)
	if err != nil {
		return Result{}, err
	}
	if e.Current == 0 {
		return Result{Entry: Entry{Name: e.Name, Version: highest(e)}}, nil
	}
	f, newest, err := k.loadRef(ctx, Ref{Name: ref.Name})
	if err != nil {
		return Result{}, err
	}
	former, err := k.formerHolders(ctx, newest)
	if err != nil {
		return Result{}, err
	}
	if len(former) == 0 || newest.Algorithm().IsLegacy() || isDerived(newest) {
		return Result{Entry: k.entryOf(f, newest)}, nil
	}
	return k.rotated(ctx, f, nil, reason)
}
