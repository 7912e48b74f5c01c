package hsmkeys

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Blobs that the state of the keyring does not name come from a copy of the store that was written
// to as well. They open the files that name them, and serve for nothing else.

// unknownBlob returns a blob that the state does not name, for a key that a file names: signed
// by an owner in force, and with that name, version and id. A key id that the state has
// under the name, destroyed keys included, is not looked for.
func (k *Keyring) unknownBlob(ctx context.Context, ref Ref, id blob.ID) (*blob.Blob, error) {
	var newest *blob.Blob
	for path, err := range k.store.List(ctx, fmt.Sprintf("%s%s/%d.", blob.KeysPrefix, ref.Name, ref.Version)) {
		if err != nil {
			return nil, err
		}
		name, version, _, _, ok := blob.ParseKeyPath(path)
		if !ok || name != ref.Name || version != ref.Version {
			continue
		}
		b, err := k.unknownAt(ctx, path)
		if errors.Is(err, blob.ErrIntegrity) || errors.Is(err, blob.ErrNotFound) {
			continue // anybody can have put it there
		}
		if err != nil {
			return nil, err
		}
		_, ours := k.recipient(b, string(k.self))
		if b.Descriptor().KeyID == id && (ours || isDerived(b)) && (newest == nil || newest.Descriptor().Revision < b.Descriptor().Revision) {
			newest = b
		}
	}
	return newest, nil
}

// unknownAt reads and verifies a blob that an owner in force has signed.
func (k *Keyring) unknownAt(ctx context.Context, path string) (*blob.Blob, error) {
	name, version, revision, digest, _ := blob.ParseKeyPath(path)
	der, err := k.store.Get(ctx, path)
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(der) != digest { // before any signature is looked at: such a path costs nothing to make
		return nil, fmt.Errorf("%s is not what its name says: %w", path, blob.ErrMisplaced)
	}
	b, err := k.verifyBlob(der, blob.Place{KeyringID: k.ID(), Name: name, Version: version, Revision: revision})
	if err != nil {
		return nil, err
	}
	if m, _ := k.members().Signer(string(b.SignerKeyID())); m.Role != blob.Owner {
		return nil, fmt.Errorf("signed by %x, who is no owner in force: %w", b.SignerKeyID(), blob.ErrUntrusted)
	}
	return b, nil
}

// Unknown lists the blobs of the store that the state does not name, and that are no
// earlier revision of one that it names, by their paths; those of destroyed keys are not among them. An
// error with a path is about what is there.
func (k *Keyring) Unknown(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for path, is := range k.walkBlobs(ctx) {
			if is.err == nil && is.place != unknown {
				continue
			}
			if !yield(path, is.err) || path == "" {
				return
			}
		}
	}
}

// walkBlobs lists the blobs of the store, and what the state says of them.
func (k *Keyring) walkBlobs(ctx context.Context) iter.Seq2[string, placed] {
	return func(yield func(string, placed) bool) {
		state := reachable{k: k, view: k.view()}
		for path, err := range k.store.List(ctx, blob.KeysPrefix) {
			is := placed{err: err}
			if err == nil {
				is.place, is.err = state.find(ctx, path)
			}
			if !yield(path, is) {
				return
			}
		}
	}
}

// placed is what the state says of a blob, or why that is not known.
type placed struct {
	place place
	err   error
}

// adoptUnknown takes the blobs in that an owner has signed and that the state does not name, see
// [Keyring.Merge]. One that cannot be taken in is reported to skipped.
func (k *Keyring) adoptUnknown(ctx context.Context, signer string, skipped func(error)) error {
	for path, err := range k.Unknown(ctx) {
		if err != nil {
			skipped(err)
			continue
		}
		b, err := k.unknownAt(ctx, path)
		if err != nil || string(b.SignerKeyID()) != signer {
			continue
		}
		d := b.Descriptor()
		if _, known, err := k.versionWithID(ctx, d.Name, d.KeyID); known && err == nil {
			continue // the key is in the state already, or was destroyed
		}
		if _, err := k.takeIn(ctx, b, "its signer leaves"); err != nil {
			skipped(fmt.Errorf("%s: %w", path, err))
		}
	}
	return ctx.Err()
}
