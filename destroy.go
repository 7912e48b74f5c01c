package hsmkeys

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Destroy records that keys are destroyed, and then deletes every blob of them from the store. Nothing
// opens any more what is encrypted under them. What the state says of them stays. A Ref without a
// version is all versions of a key.
//
// A result comes when the blobs are deleted. If its error is an [ErrBlobsLeft], the key is destroyed for
// everybody who reads the state, and a blob is still in the store: to call Destroy again deletes it.
// Copies of the store elsewhere, and the key on tokens onto which it was loaded, Destroy cannot reach.
func (k *Keyring) Destroy(ctx context.Context, refs []Ref, reason string) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		recorded := map[Ref]Result{}
		var remove []Ref
		for r := range k.setStatus(ctx, refs, ledger.Destroy, reason) {
			if r.Err == nil && r.Ref.Name != "" {
				recorded[r.Ref], remove = r, append(remove, r.Ref)
			} else if !yield(r) {
				return // what was recorded is destroyed, and its blobs are found by the next call
			}
		}
		var done []Result
		for r := range each(context.WithoutCancel(ctx), remove, func(uncancelled context.Context, ref Ref) Result {
			r := recorded[ref]
			err := ctx.Err()
			if err == nil {
				err = k.deleteRecorded(uncancelled, ref, reason)
			}
			if err != nil {
				r.Err = withFacts(fmt.Errorf("key %q is destroyed: %w: %w", ref, ErrBlobsLeft, err), &NotActive{ref, ledger.Destroyed})
			}
			return r
		}) {
			done = append(done, r)
		}
		slices.SortFunc(done, func(a, b Result) int { return cmp.Compare(a.order, b.order) })
		for _, r := range done {
			if !yield(r) {
				return
			}
		}
	}
}

// ErrBlobsLeft is the error for blobs of a destroyed key that could not be deleted.
var ErrBlobsLeft = errors.New("not all of its blobs could be deleted")

// deleteRecorded is deleteBlobs, and records it.
func (k *Keyring) deleteRecorded(ctx context.Context, ref Ref, reason string) error {
	use := Use{Operation: OpDeleteBlobs, Key: ref.Name, Version: ref.Version}
	return k.recorder.changing(ctx, use, reason, func(ctx context.Context, i *intent) error {
		if err := i.begin(Use{}); err != nil {
			return err
		}
		return k.deleteBlobs(ctx, ref)
	})
}

// deleteBlobs deletes the blobs of destroyed versions: every one that says that it has the key of such
// a version, whoever has signed it, and whichever version number it had in another copy of the keyring.
func (k *Keyring) deleteBlobs(ctx context.Context, ref Ref) error {
	e, err := k.entryNamed(ctx, ref.Name)
	if err != nil {
		return err
	}
	names := (keyVersion{entry: e}).names()
	gone, kept := map[blob.ID]bool{}, map[[sha256.Size]byte]bool{}
	for v, err := range k.view().Versions(ctx, e) {
		switch {
		case err != nil:
			return err
		case v.Status != ledger.Destroyed:
			kept[v.Blob] = true
		case ref.Version == 0 || ref.Version == v.Number:
			gone[v.KeyID] = true
			// The list below may lack the blob: it may lag, and does not contain what was deleted in a
			// bucket that keeps versions.
			for _, name := range names {
				if err := purge(ctx, k.store, blob.KeyPath(name, v.Number, v.Revision, v.Blob)); err != nil {
					return err
				}
			}
		}
	}
	for _, name := range names {
		for path, err := range k.store.List(ctx, blob.KeysPrefix+name+"/") {
			if err != nil {
				return err
			}
			if n, _, _, digest, ok := blob.ParseKeyPath(path); !ok || n != name || kept[digest] {
				continue
			}
			if err := k.deleteBlob(ctx, path, gone); err != nil {
				return err
			}
		}
	}
	return nil
}

// deleteBlob deletes a blob if it has one of the keys. What nobody has signed for this keyring stays.
func (k *Keyring) deleteBlob(ctx context.Context, path string, gone map[blob.ID]bool) error {
	der, err := k.store.Get(ctx, path)
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	name, version, revision, _, _ := blob.ParseKeyPath(path)
	b, err := k.verifyBlob(der, blob.Place{KeyringID: k.ID(), Name: name, Version: version, Revision: revision})
	if err != nil || !gone[b.Descriptor().KeyID] {
		return nil
	}
	return purge(ctx, k.store, path)
}

// purge deletes an object and any earlier versions of it that the store keeps.
func purge(ctx context.Context, store blob.Store, path string) error {
	if p, ok := store.(blob.Purger); ok {
		return p.Purge(ctx, path)
	}
	return store.Delete(ctx, path)
}
