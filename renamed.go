package hsmkeys

import (
	"context"
	"errors"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A key that was renamed keeps its blobs, and the files that name it, under the names that it had:
// they are signed with these. The state says which these are.

// names returns the names under which blobs of a key can lie, that of today first.
func (f keyVersion) names() []string {
	names := []string{f.entry.Name}
	for i := len(f.entry.Earlier) - 1; i >= 0; i-- {
		names = append(names, f.entry.Earlier[i])
	}
	return names
}

// renamedKeys are the present names of keys by each of their former names, as of one state.
type renamedKeys struct {
	root ledger.Digest
	now  map[string][]string
}

// renamed returns the keys that once had a name. The first time it reads the whole state: files
// that are older than a renaming are rare.
func (k *Keyring) renamed(ctx context.Context, name string) ([]ledger.Entry, error) {
	view := k.view()
	index, err := k.renamedIn(ctx, view)
	if err != nil {
		return nil, err
	}
	var all []ledger.Entry
	for _, now := range index[name] {
		e, err := view.Entry(ctx, now)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

func (k *Keyring) renamedIn(ctx context.Context, view *ledger.Ledger) (map[string][]string, error) {
	k.mu.Lock()
	known := k.formerNames
	k.mu.Unlock()
	if known.now != nil && known.root == view.Trie().Root {
		return known.now, nil
	}
	known = renamedKeys{view.Trie().Root, map[string][]string{}}
	for e, err := range view.Trie().All(ctx, view.Source()) {
		if err != nil {
			return nil, err
		}
		for _, former := range e.Earlier {
			known.now[former] = append(known.now[former], e.Name)
		}
	}
	k.mu.Lock()
	k.formerNames = known
	k.mu.Unlock()
	return known.now, nil
}

// everNamed returns the keys that have a name or had it.
func (k *Keyring) everNamed(ctx context.Context, name string) ([]ledger.Entry, error) {
	var all []ledger.Entry
	switch e, err := k.view().Entry(ctx, name); {
	case err == nil:
		all = append(all, e)
	case !errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrIntegrity):
		return nil, err
	}
	renamed, err := k.renamed(ctx, name)
	return append(all, renamed...), err
}
