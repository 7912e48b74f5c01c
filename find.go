package hsmkeys

import (
	"context"
	"errors"
	"fmt"

	"github.com/xrash/smetrics"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A keyVersion is a version of a key as the state describes it.
type keyVersion struct {
	entry   ledger.Entry
	version ledger.Version
}

func (f keyVersion) ref() Ref { return Ref{f.entry.Name, f.version.Number} }

// find looks a key up in the state. One that is not there is a [blob.ErrNotFound].
func (k *Keyring) find(ctx context.Context, ref Ref) (keyVersion, error) {
	e, err := k.entryNamed(ctx, ref.Name)
	if err != nil {
		return keyVersion{}, err
	}
	if ref.Version == 0 && e.Current == 0 {
		return keyVersion{}, withFacts(fmt.Errorf("key %q: no version that encrypts: %w", ref.Name, blob.ErrNotFound), &NoCurrentVersion{ref.Name})
	}
	v, err := k.view().Version(ctx, e, ref.Version)
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity) {
		return keyVersion{}, withFacts(fmt.Errorf("key %q, version %d: %w", ref.Name, ref.Version, blob.ErrNotFound), &NoSuchVersion{ref.Name})
	}
	return keyVersion{e, v}, err
}

// entryNamed looks up all versions of a key.
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

// notFound returns the error for a name that no key has, with the key that was perhaps meant.
func (k *Keyring) notFound(ctx context.Context, name string) error {
	err := fmt.Errorf("key %q: %w", name, blob.ErrNotFound)
	best, likeness, looked := "", 0.0, 0
	view := k.view()
	for other, listErr := range view.Trie().All(ctx, view.Source()) {
		if looked++; looked > maxCompared || listErr != nil {
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

// maxCompared is how many names are compared with one that was not found.
const maxCompared = 10_000

// versionWithID returns the version of a key with a key id, also one that was destroyed, and
// reports whether there is one.
func (k *Keyring) versionWithID(ctx context.Context, name string, id blob.ID) (keyVersion, bool, error) {
	e, err := k.view().Entry(ctx, name)
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity) {
		return keyVersion{}, false, nil
	}
	if err != nil {
		return keyVersion{}, false, err
	}
	for v, err := range k.view().Versions(ctx, e) {
		if err != nil {
			return keyVersion{}, false, err
		}
		if v.KeyID == id {
			return keyVersion{e, v}, true, nil
		}
	}
	return keyVersion{}, false, nil
}
