package hsmkeys

import (
	"context"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// HeldBy counts the versions of keys that are wrapped to one of the present members that who chooses, of all
// that are: destroyed ones, and those that come from a password, do not count. missing are the others, up to a
// hundred of them. It reads no blob.
func (k *Keyring) HeldBy(ctx context.Context, who func(blob.Member) bool) (held, all int, missing []Ref, err error) {
	chosen := map[string]bool{}
	for _, m := range k.Members() {
		chosen[keyID(m)] = who(m)
	}
	known := map[holderSet]bool{}
	for e, err := range k.entries(ctx, nil) {
		if err != nil {
			return held, all, missing, err
		}
		versions, err := k.chosen(ctx, e, true)
		if err != nil {
			return held, all, missing, err
		}
		for _, v := range versions {
			if v.Status == ledger.Destroyed || v.Derived {
				continue
			}
			all++
			h := holderSet{v.List, v.Key()}
			holds, ok := known[h]
			if !ok {
				for _, m := range k.members().ListNumber(v.List).Members {
					holds = holds || chosen[keyID(m)] && h.spec.WrapsTo(m.Certificate.PublicKey)
				}
				known[h] = holds
			}
			if holds {
				held++
			} else if len(missing) < 100 {
				missing = append(missing, Ref{Name: e.Name, Version: v.Number})
			}
		}
	}
	return held, all, missing, ctx.Err()
}
