package hsmkeys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"

	"github.com/xrash/smetrics"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A found is a version of a key, as the state has it.
type found struct {
	entry   ledger.Entry
	version ledger.Version
}

func (f found) ref() Ref { return Ref{f.entry.Name, f.version.Number} }

// find looks a key up in the state. One that is not there is a [blob.ErrNotFound].
func (k *Keyring) find(ctx context.Context, ref Ref) (found, error) {
	e, err := k.entryNamed(ctx, ref.Name)
	if err != nil {
		return found{}, err
	}
	if ref.Version == 0 && e.Current == 0 {
		return found{}, withFacts(fmt.Errorf("key %q: no version that encrypts: %w", ref.Name, blob.ErrNotFound), &NoCurrentVersion{ref.Name})
	}
	v, err := k.view().Version(ctx, e, ref.Version)
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity) {
		return found{}, withFacts(fmt.Errorf("key %q, version %d: %w", ref.Name, ref.Version, blob.ErrNotFound), &NoSuchVersion{ref.Name})
	}
	return found{e, v}, err
}

// entryNamed is find for all versions of a key.
func (k *Keyring) entryNamed(ctx context.Context, name string) (ledger.Entry, error) {
	if err := blob.ValidName(name); err != nil {
		return ledger.Entry{}, err
	}
	e, err := k.view().Entry(ctx, name)
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity) {
		return e, k.notFound(ctx, name)
	}
	return e, err
}

// notFound names the key that was perhaps meant.
func (k *Keyring) notFound(ctx context.Context, name string) error {
	err := fmt.Errorf("key %q: %w", name, blob.ErrNotFound)
	best, likeness, looked := "", 0.0, 0
	view := k.view()
	for other, listErr := range view.Trie().All(ctx, view.Source()) {
		if looked++; looked > lookAt || listErr != nil {
			break
		}
		if l := smetrics.JaroWinkler(name, other.Name, 0.7, 4); l > likeness || l == likeness && other.Name < best {
			best, likeness = other.Name, l
		}
	}
	switch {
	case looked == 0:
		return withFacts(err, ErrNoKeys)
	case likeness < 0.8:
		return withFacts(err, ErrNoSuchName)
	}
	return withFacts(err, &SimilarName{best})
}

// ErrMissing is for a blob that the state of the keyring names, or another blob, and that
// the store does not have. It is a [blob.ErrMisplaced], as it was there once, and a
// [blob.ErrNotFound].
var ErrMissing = keyspec.NewKind("its blob is gone from the store", blob.ErrMisplaced, blob.ErrNotFound)

// lookAt is among how many keys the one is looked for that was perhaps meant.
const lookAt = 10_000

// load reads the blob of a version that the state names, and verifies it: it must be the
// one with that digest, and signed by somebody who is or was a member.
func (k *Keyring) load(ctx context.Context, f found) (*blob.Blob, error) {
	v := f.version
	if v.Status == ledger.Destroyed {
		return nil, inVersion(f.entry.Name, v, fmt.Errorf("it was destroyed on %s: %w", v.ChangedAt.UTC().Format("2006-01-02"), blob.ErrNotFound))
	}
	b, err := k.loadDigest(ctx, f.entry.Name, v.Number, v.Revision, v.Blob)
	if err != nil {
		err = fmt.Errorf("%w (the state names blob %x since checkpoint %d of %s)", err, v.Blob[:8], v.Changed, v.ChangedAt.UTC().Format("2006-01-02 15:04 UTC"))
		return nil, inVersion(f.entry.Name, v, err)
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
	if b := k.opened.get(digest); b != nil && b.Descriptor().Place() == place {
		return b, nil
	}
	der, err := k.store.Get(ctx, blob.KeyPath(name, version, revision, digest))
	if errors.Is(err, blob.ErrNotFound) {
		return nil, withFacts(ErrMissing, &BlobGone{Path: blob.KeyPath(name, version, revision, digest)})
	}
	if err != nil {
		return nil, err
	}
	if got := sha256.Sum256(der); got != digest {
		return nil, withFacts(fmt.Errorf("the blob that is there has the digest %x: %w", got[:8], blob.ErrMisplaced), &BlobGone{Path: blob.KeyPath(name, version, revision, digest), Replaced: true})
	}
	b, err := k.verify(der, place)
	if err != nil {
		return nil, err
	}
	k.opened.put(digest, b)
	return b, nil
}

// agrees holds a blob against what the state says of it.
func (k *Keyring) agrees(b *blob.Blob, v ledger.Version) error {
	is := k.version(b, v.List)
	is.Status, is.Changed, is.ChangedAt, is.Created = v.Status, v.Changed, v.ChangedAt, v.Created
	if is != v || !b.Descriptor().Created.Equal(v.Created) {
		return fmt.Errorf("the blob and the state of the keyring say different things of the key: %w", blob.ErrMisplaced)
	}
	return nil
}

// before loads the revision that a blob replaces.
func (k *Keyring) before(ctx context.Context, b *blob.Blob) (*blob.Blob, error) {
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

func inVersion(name string, v ledger.Version, err error) error {
	return inKey(name, v.Number, v.Revision, err)
}

func inKey(name string, version, revision int, err error) error {
	return fmt.Errorf("key %q, version %d, revision %d: %w", name, version, revision, err)
}

// loadRef loads the blob of a key.
func (k *Keyring) loadRef(ctx context.Context, ref Ref) (found, *blob.Blob, error) {
	f, err := k.find(ctx, ref)
	if err != nil {
		return f, nil, err
	}
	b, err := k.load(ctx, f)
	return f, b, err
}

// Show verifies and describes one key, and of one of which no version encrypts the newest. Unlike [Keyring.List] it also reads the earlier
// revisions of that version, and tells which former members could open them.
func (k *Keyring) Show(ctx context.Context, ref Ref) (Entry, error) {
	if err := k.refresh(ctx); err != nil {
		return Entry{}, err
	}
	load := func() (found, *blob.Blob, error) { return k.loadRef(ctx, ref) }
	if ref.Version == 0 {
		load = func() (found, *blob.Blob, error) { return k.model(ctx, ref.Name) }
	}
	f, b, err := load()
	if err != nil {
		return Entry{}, err
	}
	former, err := k.formerHolders(ctx, b)
	if err != nil {
		return Entry{}, err
	}
	e := k.entry(b)
	e.Status = f.version.Status.String()
	e.setEarlier(former)
	return e, nil
}

// History verifies and describes every version of a key, each with all of its revisions,
// oldest first, and that each replaces the one before it.
func (k *Keyring) History(ctx context.Context, name string) ([]Entry, error) {
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	e, err := k.entryNamed(ctx, name)
	if err != nil {
		return nil, err
	}
	var all []Entry
	for v, err := range k.view().Versions(ctx, e) { // newest first
		if err != nil {
			return nil, err
		}
		if v.Status == ledger.Destroyed {
			all = append(all, k.lister().entry(e, v))
			continue
		}
		for b, err := range k.revisions(ctx, found{e, v}) {
			if err != nil {
				return nil, err
			}
			one := k.entry(b)
			one.Status = v.Status.String()
			all = append(all, one)
		}
	}
	for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
		all[i], all[j] = all[j], all[i]
	}
	return all, nil
}

// revisions verifies the blobs of a version, newest first, up to the first that does not
// hold.
func (k *Keyring) revisions(ctx context.Context, f found) iter.Seq2[*blob.Blob, error] {
	return func(yield func(*blob.Blob, error) bool) {
		b, err := k.load(ctx, f)
		for yield(b, err) && err == nil && b.Descriptor().Revision > 1 {
			b, err = k.before(ctx, b)
		}
	}
}

// digestOf is the SHA-256 of the blob that another one replaces.
func replacesBlob(b, source *blob.Blob) bool {
	digest := source.Digest()
	return bytes.Equal(b.Descriptor().Replaces, digest[:])
}
