package hsmkeys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// ErrMissing is the error for a blob that the state of the keyring or another blob names, and that
// the store does not have. It is a [blob.ErrMisplaced], since the blob was there once, and a
// [blob.ErrNotFound].
var ErrMissing = keyspec.NewKind("its blob is gone from the store", blob.ErrMisplaced, blob.ErrNotFound)

// loadVersion reads the blob of a version that the state names, and verifies it: it must be the
// one with that digest, and signed by somebody who is or was a member.
func (k *Keyring) loadVersion(ctx context.Context, f keyVersion) (*blob.Blob, error) {
	v := f.version
	if v.Status == ledger.Destroyed {
		return nil, inVersion(f.entry.Name, v, k.destroyed(ctx, f))
	}
	b, err := underItsName(f, func(name string) (*blob.Blob, error) {
		return k.loadDigest(ctx, name, v.Number, v.Revision, v.Blob)
	})
	if err != nil {
		return nil, k.inState(f, err)
	}
	if err := k.agrees(b, v); err != nil {
		return nil, inVersion(f.entry.Name, v, err)
	}
	return b, nil
}

// loadDigest reads and verifies the blob with a digest. What is missing was there once, as
// its digest is known from a signature.
func (k *Keyring) loadDigest(ctx context.Context, name string, version, revision int, digest [sha256.Size]byte) (*blob.Blob, error) {
	place := blob.Place{KeyringID: k.ID(), Name: name, Version: version, Revision: revision}
	if b := k.blobs.get(digest); b != nil && b.Descriptor().Place() == place {
		return b, nil
	}
	der, err := k.read(ctx, name, version, revision, digest)
	if err != nil {
		return nil, err
	}
	b, err := k.verifyBlob(der, place)
	if err != nil {
		return nil, err
	}
	k.blobs.put(digest, b)
	return b, nil
}

// read reads the blob with a digest, and does not verify it.
func (k *Keyring) read(ctx context.Context, name string, version, revision int, digest [sha256.Size]byte) ([]byte, error) {
	path := blob.KeyPath(name, version, revision, digest)
	der, err := k.store.Get(ctx, path)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, withFacts(ErrMissing, &BlobGone{Path: path})
	}
	if err != nil {
		return nil, err
	}
	if got := sha256.Sum256(der); got != digest {
		return nil, withFacts(fmt.Errorf("the blob that is there has the digest %x: %w", got[:8], blob.ErrMisplaced), &BlobGone{Path: path, Replaced: true})
	}
	return der, nil
}

// checkStored returns an error unless the blob of a version is in the store, as the state names it. What
// the state says of the version is signed, so it does not have to be verified for that.
func (k *Keyring) checkStored(ctx context.Context, f keyVersion) error {
	v := f.version
	_, err := underItsName(f, func(name string) ([]byte, error) { return k.read(ctx, name, v.Number, v.Revision, v.Blob) })
	return k.inState(f, err)
}

// inState adds to an error what the state says of a version.
func (k *Keyring) inState(f keyVersion, err error) error {
	if err == nil {
		return nil
	}
	v := f.version
	err = fmt.Errorf("%w (the state names blob %x since checkpoint %d of %s)", err, v.Blob[:8], v.Changed, v.ChangedAt.UTC().Format("2006-01-02 15:04 UTC"))
	return inVersion(f.entry.Name, v, err)
}

// underItsName calls get with the names of a key, until what it looks for is not missing under one: a
// version has the name that the key had when it was made.
func underItsName[T any](f keyVersion, get func(name string) (T, error)) (found T, err error) {
	for i, name := range f.names() {
		var at error
		found, at = get(name)
		if !errors.Is(at, ErrMissing) {
			return found, at
		}
		if i == 0 { // it is missing where it should be today
			err = at
		}
	}
	return found, err
}

// agrees returns an error unless a blob and the state describe the version alike.
func (k *Keyring) agrees(b *blob.Blob, v ledger.Version) error {
	is := k.version(b, v.List)
	is.Status, is.Changed, is.ChangedAt, is.Created = v.Status, v.Changed, v.ChangedAt, v.Created
	if is != v || !b.Descriptor().Created.Equal(v.Created) {
		return fmt.Errorf("the blob and the state of the keyring say different things of the key: %w", blob.ErrMisplaced)
	}
	return nil
}

// revisionBefore loads the revision that a blob replaces.
func (k *Keyring) revisionBefore(ctx context.Context, b *blob.Blob) (*blob.Blob, error) {
	d := b.Descriptor()
	if d.Revision == 1 || d.Replaces == nil {
		return nil, fmt.Errorf("key %q, version %d, has no earlier revision: %w", d.Name, d.Version, blob.ErrNotFound)
	}
	source, err := k.loadDigest(ctx, d.Name, d.Version, d.Revision-1, [sha256.Size]byte(d.Replaces))
	if err != nil {
		return nil, inKey(d.Name, d.Version, d.Revision-1, err)
	}
	if !sameKey(b, source) {
		return nil, inKey(d.Name, d.Version, d.Revision, fmt.Errorf("it is another key than revision %d: %w", d.Revision-1, blob.ErrMisplaced))
	}
	return source, nil
}

// loadRef loads the blob of a key.
func (k *Keyring) loadRef(ctx context.Context, ref Ref) (keyVersion, *blob.Blob, error) {
	f, err := k.find(ctx, ref)
	if err != nil {
		return f, nil, err
	}
	b, err := k.loadVersion(ctx, f)
	return f, b, err
}

// revisions verifies the blobs of a version, newest first, up to the first that does not
// hold.
func (k *Keyring) revisions(ctx context.Context, f keyVersion) iter.Seq2[*blob.Blob, error] {
	return func(yield func(*blob.Blob, error) bool) {
		b, err := k.loadVersion(ctx, f)
		for yield(b, err) && err == nil && b.Descriptor().Revision > 1 {
			b, err = k.revisionBefore(ctx, b)
		}
	}
}

// replacesBlob reports whether a blob names source as the one that it replaces.
func replacesBlob(b, source *blob.Blob) bool {
	digest := source.Digest()
	return bytes.Equal(b.Descriptor().Replaces, digest[:])
}

func inVersion(name string, v ledger.Version, err error) error {
	return inKey(name, v.Number, v.Revision, err)
}

func inKey(name string, version, revision int, err error) error {
	return fmt.Errorf("key %q, version %d, revision %d: %w", name, version, revision, err)
}
