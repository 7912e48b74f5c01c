package hsmkeys

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
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
	name, version, revision, digest, _ := blob.ParseKeyPath(path)
	der, err := k.store.Get(ctx, path)
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(der) != digest { // before any signature is looked at: such a path costs nothing to make
		return nil, fmt.Errorf("%s is not what its name says: %w", path, blob.ErrMisplaced)
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
	if k.pair == nil {
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
		return nil, withFacts(fmt.Errorf("the file is under another key that is also called %q: %w", ref, blob.ErrNotFound), ErrOtherKeyNamed)
	}
	k.warn(withFacts(fmt.Errorf("key %q (id %v) is not in the state of this keyring: %q signed it in another copy", ref, id, k.signedBy(b.SignerKeyID()).Label), ErrNotInState))
	return k.openBlob(ctx, ref, found{}, b)
}

// Unknown lists the blobs of the store that the state does not name, and that are no
// earlier revision of one that it names, by their paths. An error with a path is about
// what is there.
func (k *Keyring) Unknown(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		state := reached{k: k, view: k.view()}
		for path, err := range k.store.List(ctx, blob.KeysPrefix) {
			known := false
			if err == nil {
				known, err = state.has(ctx, path)
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

// A reached tells which blobs the state reaches. It keeps the versions of the key that it
// was asked for last, as older ones are in a chain: to look each up alone would take time
// with the square of their number.
type reached struct {
	k        *Keyring
	view     *ledger.Ledger
	entry    ledger.Entry
	versions map[int]ledger.Version     // of the entry
	sources  map[[sha256.Size]byte]bool // what their first revisions replace; nil until it is needed
}

// has reports whether the state names a blob, or it is one that the blob which it names
// has replaced.
func (r *reached) has(ctx context.Context, path string) (bool, error) {
	name, version, revision, digest, ok := blob.ParseKeyPath(path)
	if !ok {
		return true, nil // no blob
	}
	if err := r.load(ctx, name); err != nil {
		return false, err
	}
	v, ok := r.versions[version]
	if ok && v.Blob == digest && v.Revision == revision {
		return true, nil
	}
	if !ok || revision >= v.Revision {
		return r.isSource(ctx, digest), ctx.Err()
	}
	for b, err := range r.k.revisions(ctx, found{r.entry, v}) {
		if err != nil {
			return false, nil // that is told of where the key is verified
		}
		if b.Descriptor().Revision <= revision {
			return b.Digest() == digest || r.isSource(ctx, digest), ctx.Err()
		}
	}
	return false, nil
}

// isSource reports whether the first revision of a version names a blob as what it replaces:
// a merge makes a version anew of what another copy has. Versions that do not verify are
// told of elsewhere.
func (r *reached) isSource(ctx context.Context, digest [sha256.Size]byte) bool {
	if r.sources == nil {
		r.sources = map[[sha256.Size]byte]bool{}
		for _, v := range r.versions {
			for b, err := range r.k.revisions(ctx, found{r.entry, v}) {
				if err == nil && len(b.Descriptor().Replaces) == sha256.Size {
					r.sources[[sha256.Size]byte(b.Descriptor().Replaces)] = true
				}
			}
		}
	}
	return r.sources[digest]
}

// load reads all versions of a key, none where the state does not name it.
func (r *reached) load(ctx context.Context, name string) error {
	if r.entry.Name == name && r.versions != nil {
		return nil
	}
	versions := map[int]ledger.Version{}
	e, err := r.view.Entry(ctx, name)
	switch {
	case err == nil:
		for v, err := range r.view.Versions(ctx, e) {
			if err != nil {
				return err
			}
			versions[v.Number] = v
		}
	case errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity):
		e = ledger.Entry{Name: name}
	default:
		return err
	}
	r.entry, r.versions, r.sources = e, versions, nil
	return nil
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
