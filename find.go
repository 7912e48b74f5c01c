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
		return keyVersion{}, k.noCurrent(ctx, e)
	}
	v, err := k.view().Version(ctx, e, ref.Version)
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity) {
		return keyVersion{}, withFacts(fmt.Errorf("key %q, version %d: %w", ref.Name, ref.Version, blob.ErrNotFound), &NoSuchVersion{ref.Name})
	}
	return keyVersion{e, v}, err
}

// noCurrent returns the error for a key of which no version encrypts.
func (k *Keyring) noCurrent(ctx context.Context, e ledger.Entry) error {
	f, err := k.newest(ctx, e)
	switch {
	case err != nil:
		return err
	case f.version.Status == ledger.Destroyed:
		return withFacts(inVersion(e.Name, f.version, k.destroyed(ctx, f)), ErrNameDestroyed)
	case f.version.Status == ledger.Active: // the newest was destroyed
		return withFacts(fmt.Errorf("key %q: no version that encrypts: %w", e.Name, blob.ErrNotFound), &NoCurrentVersion{e.Name})
	}
	return withFacts(fmt.Errorf("key %q %s: %w", f.ref(), k.statusSince(ctx, f), ErrNotActive), &NotActive{f.ref(), f.version.Status})
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
	if now, e := k.renamed(ctx, name); e == nil && len(now) > 0 {
		return withFacts(err, &KeyRenamed{now[0].Name})
	}
	view := k.view()
	for range view.Entries(ctx, name+"/") {
		return withFacts(err, &NamePrefix{name + "/"})
	}
	best, likeness, looked := "", 0.0, 0
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

// versionWithID returns the version with a key id of a key that has or had a name, also one that was
// destroyed, and reports whether there is one.
func (k *Keyring) versionWithID(ctx context.Context, name string, id blob.ID) (keyVersion, bool, error) {
	e, err := k.view().Entry(ctx, name)
	if err == nil {
		f, ok, err := k.withID(ctx, id, e)
		if ok || err != nil {
			return f, ok, err
		}
	} else if !errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrIntegrity) {
		return keyVersion{}, false, err
	}
	renamed, err := k.renamed(ctx, name)
	if err != nil {
		return keyVersion{}, false, err
	}
	return k.withID(ctx, id, renamed...)
}

// versionOfFile is versionWithID for a key that a file names. The name can be that of another copy of the
// keyring, which has renamed the key before a merge: then every key is looked at.
func (k *Keyring) versionOfFile(ctx context.Context, name string, id blob.ID) (keyVersion, bool, error) {
	f, ok, err := k.versionWithID(ctx, name, id)
	if ok || err != nil {
		return f, ok, err
	}
	for e, err := range k.view().Trie().All(ctx, k.view().Source()) {
		if err != nil {
			return keyVersion{}, false, err
		}
		if f, ok, err := k.withID(ctx, id, e); ok || err != nil {
			return f, ok, err
		}
	}
	return keyVersion{}, false, nil
}

// withID looks for a version with a key id among those of some keys.
func (k *Keyring) withID(ctx context.Context, id blob.ID, among ...ledger.Entry) (keyVersion, bool, error) {
	for _, e := range among {
		for v, err := range k.view().Versions(ctx, e) {
			if err != nil {
				return keyVersion{}, false, err
			}
			if v.KeyID == id {
				return keyVersion{e, v}, true, nil
			}
		}
	}
	return keyVersion{}, false, nil
}
