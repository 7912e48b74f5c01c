package hsmkeys

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/xrash/smetrics"

	"github.com/hsmkeys/hsmkeys/blob"
)

// revisions are the blobs of one key that are in the store, by version and
// revision. They say what is there, not that it is genuine.
type revisions []revision

type revision struct{ version, revision int }

// find lists the blobs of one key, oldest first. A key that is not there gives
// [blob.ErrNotFound].
func (k *Keyring) find(ctx context.Context, name string) (revisions, error) {
	all, err := k.list(ctx, name)
	if err == nil && len(all) == 0 {
		return nil, k.notFound(ctx, name)
	}
	return all, err
}

// list is find for a key that may not be there.
func (k *Keyring) list(ctx context.Context, name string) (revisions, error) {
	if err := blob.ValidName(name); err != nil {
		return nil, err
	}
	var all revisions
	for path, err := range k.store.List(ctx, "keys/"+name+"/") {
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", name, err)
		}
		if n, v, r, ok := blob.ParseKeyPath(path); ok && n == name {
			all = append(all, revision{v, r})
		}
	}
	all.sort()
	return all, nil
}

func (r revisions) sort() {
	slices.SortFunc(r, func(a, b revision) int {
		return cmp.Or(cmp.Compare(a.version, b.version), cmp.Compare(a.revision, b.revision))
	})
}

// newest is the newest revision of a version, or of the newest version where
// version is 0.
func (r revisions) newest(version int) (revision, bool) {
	for _, one := range slices.Backward(r) {
		if version == 0 || one.version == version {
			return one, true
		}
	}
	return revision{}, false
}

// notFound names the key that was perhaps meant.
func (k *Keyring) notFound(ctx context.Context, name string) error {
	err := fmt.Errorf("key %q: %w", name, blob.ErrNotFound)
	all, listErr := k.all(ctx)
	if listErr != nil || len(all) == 0 {
		return hint(err, "the keyring has no key; hsmkeys create NAME makes one")
	}
	best, likeness := "", 0.0
	for other := range all {
		if l := smetrics.JaroWinkler(name, other, 0.7, 4); l > likeness || l == likeness && other < best {
			best, likeness = other, l
		}
	}
	if likeness < 0.8 {
		return hint(err, "hsmkeys list shows the names")
	}
	return hint(err, fmt.Sprintf("did you mean %q?", best))
}

// all lists every blob in the store by the name of its key.
func (k *Keyring) all(ctx context.Context) (map[string]revisions, error) {
	keys := map[string]revisions{}
	for path, err := range k.store.List(ctx, "keys/") {
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
		if name, v, r, ok := blob.ParseKeyPath(path); ok {
			keys[name] = append(keys[name], revision{v, r})
		}
	}
	for _, r := range keys {
		r.sort()
	}
	return keys, nil
}

// load reads one blob and verifies it, see check.
func (k *Keyring) load(ctx context.Context, name string, at revision) (*blob.Blob, error) {
	b, err := k.verify(ctx, name, at)
	if err != nil {
		return nil, fmt.Errorf("key %q, version %d, revision %d: %w", name, at.version, at.revision, err)
	}
	return b, nil
}

func (k *Keyring) verify(ctx context.Context, name string, at revision) (*blob.Blob, error) {
	der, err := k.store.Get(ctx, blob.KeyPath(name, at.version, at.revision))
	if err != nil {
		return nil, err
	}
	return k.check(ctx, der, blob.Place{KeyringID: k.ID(), Name: name, Version: at.version, Revision: at.revision})
}

// loadRef loads the newest revision of a key.
func (k *Keyring) loadRef(ctx context.Context, ref Ref) (*blob.Blob, error) {
	all, err := k.find(ctx, ref.Name)
	if err != nil {
		return nil, err
	}
	at, ok := all.newest(ref.Version)
	if !ok {
		return nil, hint(fmt.Errorf("key %q, version %d: %w", ref.Name, ref.Version, blob.ErrNotFound),
			fmt.Sprintf("hsmkeys history %s shows its versions", ref.Name))
	}
	return k.load(ctx, ref.Name, at)
}

// List verifies and describes the newest revision of the newest version of every
// key, in the order of names. A key that does not verify gives an error, and the
// list goes on.
func (k *Keyring) List(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		all, err := k.all(ctx)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if err := ctx.Err(); err != nil {
				yield(Entry{}, err)
				return
			}
			at, _ := all[name].newest(0)
			b, err := k.load(ctx, name, at)
			if err != nil {
				if !yield(Entry{Name: name, Version: at.version, Revision: at.revision}, err) {
					return
				}
				continue
			}
			if !yield(k.entry(b), nil) {
				return
			}
		}
	}
}

// Show verifies and describes one key.
func (k *Keyring) Show(ctx context.Context, ref Ref) (Entry, error) {
	b, err := k.loadRef(ctx, ref)
	if err != nil {
		return Entry{}, err
	}
	return k.entry(b), nil
}

// History verifies and describes every revision of every version of a key that
// is in the store, oldest first, and that each replaces what it says it replaces.
func (k *Keyring) History(ctx context.Context, name string) ([]Entry, error) {
	all, err := k.find(ctx, name)
	if err != nil {
		return nil, err
	}
	return k.history(ctx, name, all)
}

func (k *Keyring) history(ctx context.Context, name string, all revisions) ([]Entry, error) {
	var entries []Entry
	before := map[revision]*blob.Blob{}
	for _, at := range all {
		b, err := k.load(ctx, name, at)
		if err != nil {
			return entries, err
		}
		if err := checkReplaces(b, at, before); err != nil {
			return entries, fmt.Errorf("key %q, version %d, revision %d: %w", name, at.version, at.revision, err)
		}
		before[at] = b
		entries = append(entries, k.entry(b))
	}
	missing, err := k.chain.kept.missing(ctx, name, all)
	if err == nil && len(missing) > 0 {
		err = hint(fmt.Errorf("key %q, version %d, revision %d is gone: %w", name, missing[0].version, missing[0].revision, blob.ErrMisplaced),
			"an inventory of the keyring names it; somebody has deleted it, put it back from a copy of the store")
	}
	return entries, err
}

// checkReplaces holds a blob against those before it. A later revision replaces the
// revision before it, and is the same key; a new version replaces one of the
// revisions of the version before it, whichever was the newest when it was made.
func checkReplaces(b *blob.Blob, at revision, before map[revision]*blob.Blob) error {
	replaces := b.Descriptor().Replaces
	if at == (revision{1, 1}) {
		if replaces != nil {
			return fmt.Errorf("the first blob of a key replaces another: %w", blob.ErrMisplaced)
		}
		return nil
	}
	for earlier, source := range before {
		if digest := source.Digest(); string(digest[:]) != string(replaces) {
			continue
		}
		switch {
		case at.revision == 1 && earlier.version == at.version-1:
			return nil
		case at.revision > 1 && earlier == (revision{at.version, at.revision - 1}):
			if !sameKey(b, source) {
				return fmt.Errorf("it is another key than revision %d: %w", earlier.revision, blob.ErrMisplaced)
			}
			return nil
		}
	}
	return hint(fmt.Errorf("the blob that it replaces is not in the store: %w", blob.ErrMisplaced),
		"a blob was deleted, or an older one was put back")
}

// Verify verifies every revision of the named keys, or of all keys: signatures,
// places, and what replaces what. It yields one result for each key; a key that
// fails does not stop the others.
func (k *Keyring) Verify(ctx context.Context, names ...string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if len(names) > 0 {
			for _, name := range names {
				if _, err := k.History(ctx, name); !yield(name, err) || ctx.Err() != nil {
					return
				}
			}
			return
		}
		all, err := k.all(ctx)
		if err == nil {
			err = k.chain.kept.addNames(ctx, all)
		}
		if err != nil {
			yield("", err)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if _, err := k.history(ctx, name, all[name]); !yield(name, err) || ctx.Err() != nil {
				return
			}
		}
	}
}
