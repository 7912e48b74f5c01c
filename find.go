package hsmkeys

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

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
		if err != nil && (path == "" || path == "keys/"+name) {
			return nil, fmt.Errorf("key %q: %w", name, err)
		}
		n, v, r, ok := blob.ParseKeyPath(path)
		if err != nil || ok && n != name {
			break // names below it come last, and there may be a million
		}
		if ok {
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
	best, likeness, looked := "", 0.0, 0
	for other, listErr := range k.keys(ctx) {
		if looked++; looked > lookAt {
			break
		}
		if listErr != nil {
			continue
		}
		if l := smetrics.JaroWinkler(name, other.name, 0.7, 4); l > likeness || l == likeness && other.name < best {
			best, likeness = other.name, l
		}
	}
	switch {
	case looked == 0:
		return hint(err, "the keyring has no key; hsmkeys create NAME makes one")
	case likeness < 0.8:
		return hint(err, "hsmkeys list shows the names")
	}
	return hint(err, fmt.Sprintf("did you mean %q?", best))
}

// lookAt is among how many keys the one is looked for that was perhaps meant.
const lookAt = 10_000

// stored is a key in the store, with its blobs, oldest first. They say what is there, not
// that it is genuine.
type stored struct {
	name string
	all  revisions
}

// keys lists the keys of the store as the store gives them: a store may have more of them
// than fit into memory, and who looks at them need not wait for the last. A key that cannot
// be listed gives an error with its name, and the others come; an error without a name is
// about all that would come.
func (k *Keyring) keys(ctx context.Context) iter.Seq2[stored, error] { return k.keysBelow(ctx, "") }

// keysBelow is keys for those whose names are below a directory, which is empty or ends
// in '/'.
func (k *Keyring) keysBelow(ctx context.Context, directory string) iter.Seq2[stored, error] {
	return func(yield func(stored, error) bool) {
		var key stored
		for path, err := range k.store.List(ctx, "keys/"+directory) {
			if err != nil {
				name := ""
				if below, ok := strings.CutPrefix(path, "keys/"); ok {
					name = below
				}
				if !yield(stored{name: name}, err) || name == "" {
					return
				}
				continue
			}
			name, v, r, ok := blob.ParseKeyPath(path)
			if !ok {
				continue
			}
			if name != key.name { // those of one name come together
				if key.name != "" && !yield(key.sorted(), nil) {
					return
				}
				key = stored{name: name}
			}
			key.all = append(key.all, revision{v, r})
		}
		if key.name != "" {
			yield(key.sorted(), nil)
		}
	}
}

func (s stored) sorted() stored {
	s.all.sort()
	return s
}

// load reads one blob and verifies it, see check.
func (k *Keyring) load(ctx context.Context, name string, at revision) (*blob.Blob, error) {
	b, err := k.verify(ctx, name, at)
	if err != nil {
		return nil, inKey(name, at, err)
	}
	return b, nil
}

func (k *Keyring) verify(ctx context.Context, name string, at revision) (*blob.Blob, error) {
	return k.read(ctx, name, at, k.check)
}

// read reads one blob and has it checked for its place.
func (k *Keyring) read(ctx context.Context, name string, at revision, check func(context.Context, []byte, blob.Place) (*blob.Blob, error)) (*blob.Blob, error) {
	der, err := k.store.Get(ctx, blob.KeyPath(name, at.version, at.revision))
	if err != nil {
		return nil, err
	}
	return check(ctx, der, blob.Place{KeyringID: k.ID(), Name: name, Version: at.version, Revision: at.revision})
}

// loadRef loads the newest revision of a key.
func (k *Keyring) loadRef(ctx context.Context, ref Ref) (*blob.Blob, error) {
	at, err := k.newest(ctx, ref)
	if err != nil {
		return nil, err
	}
	return k.load(ctx, ref.Name, at)
}

// newest finds the newest revision of what a Ref names.
func (k *Keyring) newest(ctx context.Context, ref Ref) (revision, error) {
	all, err := k.find(ctx, ref.Name)
	if err != nil {
		return revision{}, err
	}
	return all.of(ref)
}

// of is the newest revision of what a Ref names.
func (r revisions) of(ref Ref) (revision, error) {
	at, ok := r.newest(ref.Version)
	if !ok {
		return at, hint(fmt.Errorf("key %q, version %d: %w", ref.Name, ref.Version, blob.ErrNotFound),
			fmt.Sprintf("hsmkeys history %s shows its versions", ref.Name))
	}
	return at, nil
}

// Show verifies and describes one key. Unlike [Keyring.List] it also reads the earlier
// revisions of that version, and tells which former members could open them.
func (k *Keyring) Show(ctx context.Context, ref Ref) (Entry, error) {
	b, err := k.loadRef(ctx, ref)
	if err != nil {
		return Entry{}, err
	}
	former, err := k.formerHolders(ctx, b)
	if err != nil {
		return Entry{}, err
	}
	e := k.entry(b)
	e.Earlier = slices.DeleteFunc(former, func(h Holder) bool { return holds(e.Holders, h) })
	return e, nil
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
	for b, err := range k.blobs(ctx, name, all) {
		if err != nil {
			return entries, err
		}
		entries = append(entries, k.entry(b))
	}
	return entries, nil
}

// verifyHistory is history for who wants to know that all is well.
func (k *Keyring) verifyHistory(ctx context.Context, name string, all revisions) error {
	for _, err := range k.blobs(ctx, name, all) {
		if err != nil {
			return err
		}
	}
	return nil
}

// blobs verifies the blobs of a key, oldest first, up to the first that does not hold.
func (k *Keyring) blobs(ctx context.Context, name string, all revisions) iter.Seq2[*blob.Blob, error] {
	return func(yield func(*blob.Blob, error) bool) {
		before := map[revision]*blob.Blob{}
		for _, at := range all {
			b, err := k.load(ctx, name, at)
			if err == nil {
				if err = checkReplaces(b, at, before); err != nil {
					err = inKey(name, at, err)
				}
			}
			if !yield(b, err) || err != nil {
				return
			}
			before[at] = b
		}
		missing, err := k.chain.kept.missing(ctx, name, all)
		if err == nil && len(missing) > 0 {
			err = hint(fmt.Errorf("key %q, version %d, revision %d is gone: %w", name, missing[0].version, missing[0].revision, blob.ErrMisplaced),
				"an inventory of the keyring names it; somebody has deleted it, put it back from a copy of the store")
		}
		if err != nil {
			yield(nil, err)
		}
	}
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
// places, and what replaces what; of all keys also that none is gone which an inventory
// names. It yields one result for each key; a key that fails does not stop the others.
func (k *Keyring) Verify(ctx context.Context, names ...string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if len(names) == 0 {
			if k.verifyKeys(ctx, k.keys(ctx), yield) {
				for name, err := range k.chain.kept.gone(ctx, k) {
					if !yield(name, err) {
						return
					}
				}
			}
			return
		}
		for _, name := range names {
			if _, err := k.History(ctx, name); !yield(name, err) || ctx.Err() != nil {
				return
			}
		}
	}
}

// verifyKeys verifies keys side by side. It reports whether the caller wants more.
func (k *Keyring) verifyKeys(ctx context.Context, keys iter.Seq2[stored, error], yield func(string, error) bool) bool {
	type verdict struct {
		name string
		err  error
	}
	for v := range inOrder(ctx, keys, func(key stored, err error) verdict {
		if err == nil {
			err = k.verifyHistory(ctx, key.name, key.all)
		}
		return verdict{key.name, err}
	}) {
		if !yield(v.name, v.err) {
			return false
		}
	}
	return ctx.Err() == nil
}
