package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Blobs that the state of the keyring does not name come from a copy of the store that was
// written to as well. They decrypt the files that name them, and do nothing else.

// unknown returns a blob that the state does not name, for a key that a file names: signed
// by an owner in force, and with that name, version and id. A key id that the state has
// under the name, destroyed keys included, is not looked for.
func (k *Keyring) unknown(ctx context.Context, ref Ref, id blob.ID) (*blob.Blob, error) {
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
	name, version, revision, _, _ := blob.ParseKeyPath(path)
	der, err := k.store.Get(ctx, path)
	if err != nil {
		return nil, err
	}
	b, err := k.verify(der, blob.Place{KeyringID: k.ID(), Name: name, Version: version, Revision: revision})
	if err != nil {
		return nil, err
	}
	if m, _ := k.members().Signer(string(b.SignerKeyID())); m.Role != blob.Owner {
		return nil, fmt.Errorf("signed by %x, who is no owner in force: %w", b.SignerKeyID(), blob.ErrUntrusted)
	}
	return b, nil
}

// knows reports whether the state names a key under a name by its id, also one that was
// destroyed, and which version that is.
func (k *Keyring) versionWithID(ctx context.Context, name string, id blob.ID) (found, bool, error) {
	e, err := k.view().Entry(ctx, name)
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity) {
		return found{}, false, nil
	}
	if err != nil {
		return found{}, false, err
	}
	for v, err := range k.view().Versions(ctx, e) {
		if err != nil {
			return found{}, false, err
		}
		if v.KeyID == id {
			return found{e, v}, true, nil
		}
	}
	return found{}, false, nil
}

// openForFile opens the key that a file names, by its id: under the version that the file
// names, another one that a merge has given it, or from a blob that the state does not name.
func (k *Keyring) openForFile(ctx context.Context, ref Ref, id blob.ID) (*Key, error) {
	if k.token == nil {
		return nil, errNoToken
	}
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	f, ok, err := k.versionWithID(ctx, ref.Name, id)
	if err != nil {
		return nil, err
	}
	if ok {
		return k.Open(ctx, f.ref())
	}
	b, err := k.unknown(ctx, ref, id)
	if err != nil {
		return nil, err
	}
	if b == nil {
		if _, err := k.find(ctx, ref); err != nil {
			return nil, err
		}
		return nil, hint(fmt.Errorf("the file is under another key that is also called %q: %w", ref, blob.ErrNotFound),
			"it was encrypted with another keyring; choose its --store")
	}
	k.warn(fmt.Errorf("key %q (id %v) is not in the state of this keyring: %q signed it in another copy; hsmkeys merge takes it in", ref, id, k.signedBy(b.SignerKeyID()).Label))
	return k.openBlob(ctx, ref, found{}, b)
}

// Unknown lists the blobs of the store that the state does not name, and that are no
// earlier revision of one that it names, by their paths. An error with a path is about
// what is there.
func (k *Keyring) Unknown(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for path, err := range k.store.List(ctx, blob.KeysPrefix) {
			known := false
			if err == nil {
				known, err = k.isKnown(ctx, path)
			}
			if known {
				continue
			}
			if !yield(path, err) || path == "" {
				return
			}
		}
	}
}

// isKnown reports whether the state reaches a blob: it names it, or it is one that the
// blob which it names has replaced.
func (k *Keyring) isKnown(ctx context.Context, path string) (bool, error) {
	name, version, revision, digest, ok := blob.ParseKeyPath(path)
	if !ok {
		return true, nil // no blob
	}
	e, err := k.view().Entry(ctx, name)
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	v, err := k.view().Version(ctx, e, version)
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity) {
		return false, nil
	}
	if err != nil || v.Blob == digest || revision >= v.Revision {
		return v.Blob == digest, err
	}
	for b, err := range k.revisions(ctx, found{e, v}) {
		if err != nil {
			return false, nil // that is told of where the key is verified
		}
		if b.Digest() == digest {
			return true, nil
		}
		if b.Descriptor().Revision <= revision {
			break
		}
	}
	return false, nil
}

// adoptUnknown takes the blobs in that an owner has signed and that the state does not
// name, see [Keyring.Merge]. One that cannot be taken in is told of through skipped.
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
		if _, err := k.takeIn(ctx, b, "its signer leaves"); err != nil {
			skipped(fmt.Errorf("%s: %w", path, err))
		}
	}
	return ctx.Err()
}
