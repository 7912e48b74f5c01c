package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Verify verifies the named keys, or all keys: that every blob which the state names is
// there, with every earlier revision, and that their signatures hold. It yields one result
// for each key, in the order of names; a key that fails does not stop the others.
func (k *Keyring) Verify(ctx context.Context, names ...string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := k.refresh(ctx); err != nil {
			yield("", err)
			return
		}
		if len(names) == 0 {
			k.verifyKeys(ctx, k.view().Entries(ctx, ""), yield)
			return
		}
		for _, name := range names {
			e, err := k.entryNamed(ctx, name)
			if err == nil {
				err = k.verifyKey(ctx, e)
			}
			if !yield(name, err) || ctx.Err() != nil {
				return
			}
		}
	}
}

// VerifyChain checks every checkpoint from the first on, see [ledger.Ledger.Audit]: its signature,
// that its signer was entitled to it, and that what it changed is what it says. It returns how
// many checkpoints cannot be checked in full any more, after a compaction.
func (k *Keyring) VerifyChain(ctx context.Context) (unchecked int, err error) {
	return k.view().Audit(ctx)
}

// verifyKey verifies all versions of a key, and their revisions.
func (k *Keyring) verifyKey(ctx context.Context, e ledger.Entry) error {
	for v, err := range k.view().Versions(ctx, e) {
		if err != nil {
			return err
		}
		if v.Status == ledger.Destroyed {
			continue
		}
		for _, err := range k.revisions(ctx, keyVersion{e, v}) {
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// verifyKeys verifies keys concurrently, and yields the results in their order.
func (k *Keyring) verifyKeys(ctx context.Context, keys iter.Seq2[ledger.Entry, error], yield func(string, error) bool) {
	type verdict struct {
		name string
		err  error
	}
	for v := range inOrder(ctx, keys, func(e ledger.Entry, err error) verdict {
		if err == nil {
			err = k.verifyKey(ctx, e)
		}
		return verdict{e.Name, err}
	}) {
		if !yield(v.name, v.err) {
			return
		}
	}
}

// CountUnnamed returns how many blobs of the store the state does not name: those that it does not know,
// and those of destroyed keys, which [Keyring.Destroy] deletes.
func (k *Keyring) CountUnnamed(ctx context.Context) (unknowns, destroyeds int, err error) {
	for _, is := range k.walkBlobs(ctx) {
		switch {
		case errors.Is(is.err, context.Canceled) || errors.Is(is.err, context.DeadlineExceeded):
			return unknowns, destroyeds, is.err
		case is.err != nil && !errors.Is(is.err, blob.ErrIntegrity):
			return unknowns, destroyeds, fmt.Errorf("look for blobs that the state does not name: %w", is.err)
		case is.place == destroyed:
			destroyeds++
		case is.err != nil || is.place == unknown:
			unknowns++
		}
	}
	return unknowns, destroyeds, nil
}
