package hsmkeys

import (
	"context"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Show verifies and describes one version of a key; if ref names none, the current one, or the
// newest if no version encrypts. Of a version that was destroyed it returns what the state says. Unlike [Keyring.List] it also reads the earlier revisions of that
// version, and finds the former members who could open them.
func (k *Keyring) Show(ctx context.Context, ref Ref) (Entry, error) {
	if err := k.refresh(ctx); err != nil {
		return Entry{}, err
	}
	f, err := k.findNewest(ctx, ref)
	if err != nil {
		return Entry{}, err
	}
	if f.version.Status == ledger.Destroyed {
		e := k.lister().entry(f.entry, f.version)
		e.StatusBy, e.StatusWhy = k.whoChanged(ctx, f)
		return e, nil
	}
	b, err := k.loadVersion(ctx, f)
	if err != nil {
		return Entry{}, err
	}
	former, err := k.formerHolders(ctx, b)
	if err != nil {
		return Entry{}, err
	}
	e := k.entryOf(f, b)
	if f.version.Status != ledger.Active {
		e.StatusBy, e.StatusWhy = k.whoChanged(ctx, f)
	}
	e.setEarlier(former)
	return e, nil
}

// ShowID is [Keyring.Show] for a version that is known by its key id, under a name that the key has or
// had, as in a file. It reports whether there is one.
func (k *Keyring) ShowID(ctx context.Context, name string, id blob.ID) (Entry, bool, error) {
	if err := k.refresh(ctx); err != nil {
		return Entry{}, false, err
	}
	f, ok, err := k.versionOfFile(ctx, name, id)
	if err != nil || !ok {
		return Entry{}, false, err
	}
	e, err := k.Show(ctx, f.ref())
	return e, true, err
}

// findNewest is find, where a Ref without a version may be a key of which no version encrypts.
func (k *Keyring) findNewest(ctx context.Context, ref Ref) (keyVersion, error) {
	if ref.Version > 0 {
		return k.find(ctx, ref)
	}
	e, err := k.entryNamed(ctx, ref.Name)
	if err != nil {
		return keyVersion{}, err
	}
	return k.newest(ctx, e)
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
			all = append(all, k.entryOf(keyVersion{e, v}, b))
		}
	}
	for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
		all[i], all[j] = all[j], all[i]
	}
	return all, nil
}
