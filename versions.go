package hsmkeys

import (
	"context"
	"slices"

	"github.com/hsmkeys/hsmkeys/ledger"
)

// Versions returns every version of the named keys, or of all keys, except those that were
// destroyed. Files are encrypted under old versions too, so what is done to all keys is done to all
// versions.
func (k *Keyring) Versions(ctx context.Context, names ...string) ([]Ref, error) {
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	var refs []Ref
	add := func(e ledger.Entry) error {
		versions, err := k.chosen(ctx, e, true)
		for _, v := range versions {
			if v.Status != ledger.Destroyed {
				refs = append(refs, Ref{e.Name, v.Number})
			}
		}
		return err
	}
	names = slices.Clone(names)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		e, err := k.entryNamed(ctx, name)
		if err == nil {
			err = add(e)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(names) > 0 {
		return refs, nil
	}
	for e, err := range k.view().Entries(ctx, "") {
		if err == nil {
			err = add(e)
		}
		if err != nil {
			return nil, err
		}
	}
	return refs, nil
}
