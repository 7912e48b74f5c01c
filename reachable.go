package hsmkeys

import (
	"context"
	"crypto/sha256"
	"errors"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A reachable finds out which blobs can be reached from the state. It keeps the versions of the key
// that it was asked for last, because older ones are in a chain: to look each up on its own would
// take time that grows with the square of their number.
type reachable struct {
	k        *Keyring
	view     *ledger.Ledger
	entry    ledger.Entry
	versions map[int]ledger.Version     // of the entry
	sources  map[[sha256.Size]byte]bool // what their first revisions replace; nil until it is needed
}

// has reports whether the state names a blob, or it is one that the blob which it names
// has replaced.
func (r *reachable) has(ctx context.Context, path string) (bool, error) {
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
	for b, err := range r.k.revisions(ctx, keyVersion{r.entry, v}) {
		if err != nil {
			return false, nil // verifying the key reports it
		}
		if b.Descriptor().Revision <= revision {
			return b.Digest() == digest || r.isSource(ctx, digest), ctx.Err()
		}
	}
	return false, nil
}

// isSource reports whether the first revision of a version names a blob as what it replaces: a
// merge makes a version anew of what another copy has. Versions that do not verify are reported
// elsewhere.
func (r *reachable) isSource(ctx context.Context, digest [sha256.Size]byte) bool {
	if r.sources == nil {
		r.sources = map[[sha256.Size]byte]bool{}
		for _, v := range r.versions {
			for b, err := range r.k.revisions(ctx, keyVersion{r.entry, v}) {
				if err == nil && len(b.Descriptor().Replaces) == sha256.Size {
					r.sources[[sha256.Size]byte(b.Descriptor().Replaces)] = true
				}
			}
		}
	}
	return r.sources[digest]
}

// load reads all versions of a key, none where the state does not name it.
func (r *reachable) load(ctx context.Context, name string) error {
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
