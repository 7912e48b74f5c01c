package hsmkeys

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"

	"github.com/hsmkeys/hsmkeys/blob"
)

// nextRevisions are the revisions of keys, from the second on, that the store has blobs of. It takes one list of
// the store to know them, where a list for each key would take a request each. Nil if they are not known.
type nextRevisions map[[sha256.Size / 2]byte]bool

// listFrom is how many keys it takes until one list of the whole store is the better way.
const listFrom = 100

// nextRevisions lists the store if that is worth it for so many keys.
func (k *Keyring) nextRevisions(ctx context.Context, keys int) (nextRevisions, error) {
	if keys < listFrom {
		return nil, nil
	}
	all := nextRevisions{}
	for path, err := range k.store.List(ctx, blob.KeysPrefix) {
		if err != nil {
			return nil, fmt.Errorf("look for what was recovered: %w", err)
		}
		if name, version, revision, _, ok := blob.ParseKeyPath(path); ok && revision > 1 {
			all[revisionSum(name, version, revision)] = true
		}
	}
	return all, nil
}

// mayHave reports whether the store may have blobs of the revision after that of a blob.
func (n nextRevisions) mayHave(b *blob.Blob) bool {
	d := b.Descriptor()
	return n == nil || n[revisionSum(d.Name, d.Version, d.Revision+1)]
}

func revisionSum(name string, version, revision int) [sha256.Size / 2]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s@%d.%d", name, version, revision))
	return [sha256.Size / 2]byte(sum[:])
}

// withNextRevisions calls do with what the store has beyond the revisions of keys.
func (k *Keyring) withNextRevisions(ctx context.Context, keys int, do func(nextRevisions) iter.Seq[Result]) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		known, err := k.nextRevisions(ctx, keys)
		if err != nil {
			yield(Result{Err: err})
			return
		}
		do(known)(yield)
	}
}
