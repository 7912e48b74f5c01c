package hsmkeys

import (
	"context"
	"crypto/sha256"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A reachable finds out which blobs can be reached from the state. It keeps the versions of the key
// that it was asked for last, because older ones are in a chain: to look each up on its own would
// take time that grows with the square of their number.
type reachable struct {
	k        *Keyring
	view     *ledger.Ledger
	name     string
	versions []keyVersion               // of the keys that have or had the name; nil before load
	sources  map[[sha256.Size]byte]bool // what their first revisions replace; nil until it is needed
}

// A place is what the state says of a blob in the store.
type place int

const (
	unknown   place = iota
	known           // the state names it, or a blob that it names has replaced it
	destroyed       // likewise, of a destroyed key: it should be gone
)

// find returns what the state says of the blob under a path.
func (r *reachable) find(ctx context.Context, path string) (place, error) {
	name, version, revision, digest, ok := blob.ParseKeyPath(path)
	if !ok {
		return known, nil // no blob
	}
	if err := r.load(ctx, name); err != nil {
		return unknown, err
	}
	for _, f := range r.versions {
		v := f.version
		switch {
		case v.Number != version:
		case v.Status == ledger.Destroyed && (v.Blob == digest || revision < v.Revision):
			return destroyed, nil // what it replaced cannot be told without it
		case v.Status == ledger.Destroyed:
		case v.Blob == digest && v.Revision == revision, revision < v.Revision && r.isEarlier(ctx, f, revision, digest):
			return known, nil
		}
	}
	if r.isSource(ctx, digest) {
		return known, nil
	}
	return unknown, ctx.Err()
}

// isEarlier reports whether a blob is an earlier revision of a version. What does not verify is
// reported elsewhere.
func (r *reachable) isEarlier(ctx context.Context, f keyVersion, revision int, digest [sha256.Size]byte) bool {
	for b, err := range r.k.revisions(ctx, f) {
		if err != nil {
			return false
		}
		if b.Descriptor().Revision <= revision {
			return b.Digest() == digest
		}
	}
	return false
}

// isSource reports whether the first revision of a version names a blob as what it replaces: a
// merge makes a version anew of what another copy has. Versions that do not verify are reported
// elsewhere.
func (r *reachable) isSource(ctx context.Context, digest [sha256.Size]byte) bool {
	if r.sources == nil {
		r.sources = map[[sha256.Size]byte]bool{}
		for _, f := range r.versions {
			for b, err := range r.k.revisions(ctx, f) {
				if err == nil && len(b.Descriptor().Replaces) == sha256.Size {
					r.sources[[sha256.Size]byte(b.Descriptor().Replaces)] = true
				}
			}
		}
	}
	return r.sources[digest]
}

// load reads all versions of the keys that have or had a name, none where the state does not name it.
func (r *reachable) load(ctx context.Context, name string) error {
	if r.name == name && r.versions != nil {
		return nil
	}
	entries, err := r.k.everNamed(ctx, name)
	if err != nil {
		return err
	}
	versions := []keyVersion{}
	for _, e := range entries {
		for v, err := range r.view.Versions(ctx, e) {
			if err != nil {
				return err
			}
			versions = append(versions, keyVersion{e, v})
		}
	}
	r.name, r.versions, r.sources = name, versions, nil
	return nil
}
