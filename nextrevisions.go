package hsmkeys

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
)

// nextRevisions is the set of revisions after the first for which the store contains blobs. Collecting it takes one
// list of the store, instead of one list per key. A nil set means that they are unknown.
type nextRevisions map[[sha256.Size / 2]byte]bool

// listFrom is the number of keys from which listing the whole store is cheaper than a list per key.
const listFrom = 100

// nextRevisions lists the store if the number of keys justifies that, and otherwise returns nil.
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

// mayHave reports whether the store may contain blobs of the revision that follows b.
func (n nextRevisions) mayHave(b *blob.Blob) bool {
	d := b.Descriptor()
	return n == nil || n[revisionSum(d.Name, d.Version, d.Revision+1)]
}

func revisionSum(name string, version, revision int) [sha256.Size / 2]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s@%d.%d", name, version, revision))
	return [sha256.Size / 2]byte(sum[:])
}
