package hsmkeys

import (
	"context"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Show verifies and describes one version of a key; if ref names none, the current one, or the
// newest if no version encrypts. Unlike [Keyring.List] it also reads the earlier revisions of that
// version, and finds the former members who could open them.
func (k *Keyring) Show(ctx context.Context, ref Ref) (Entry, error) {
	if err := k.refresh(ctx); err != nil {
		return Entry{}, err
	}
	load := func() (keyVersion, *blob.Blob, error) { return k.loadRef(ctx, ref) }
	if ref.Version == 0 {
		load = func() (keyVersion, *blob.Blob, error) { return k.rotationModel(ctx, ref.Name) }
	}
	f, b, err := load()
	if err != nil {
		return Entry{}, err
	}
	former, err := k.formerHolders(ctx, b)
	if err != nil {
		return Entry{}, err
	}
	e := k.entry(b)
	e.Status = f.version.Status.String()
	e.setEarlier(former)
	return e, nil
}

// History verifies and describes every version of a key with all of its revisions, oldest first.
// Each revision must replace the one before it.
func (k *Keyring) History(ctx context.Context, name string) ([]Entry, error) {
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	e, err := k.entryNamed(ctx, name)
	if err != nil {
		return nil, err
	}
	var all []Entry
	for v, err := range k.view().Versions(ctx, e) { // newest first
		if err != nil {
			return nil, err
		}
		if v.Status == ledger.Destroyed {
			all = append(all, k.lister().entry(e, v))
			continue
		}
		for b, err := range k.revisions(ctx, keyVersion{e, v}) {
			if err != nil {
				return nil, err
			}
			one := k.entry(b)
			one.Status = v.Status.String()
			all = append(all, one)
		}
	}
	for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
		all[i], all[j] = all[j], all[i]
	}
	return all, nil
}
