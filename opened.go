package hsmkeys

import (
	"crypto/sha256"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
)

// opened remembers blobs that were verified, by the SHA-256 of their bytes: a program that
// opens the same keys again and again reads and verifies each once. A blob with a digest
// never changes, and who has signed for it stays known to the keyring.
type opened struct {
	mu    sync.Mutex
	blobs map[[sha256.Size]byte]*blob.Blob
}

// maxOpened is how many are remembered. When there are more all are forgotten: that costs
// one verification for each, and no thought.
const maxOpened = 1024

func (o *opened) get(digest [sha256.Size]byte) *blob.Blob {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.blobs[digest]
}

func (o *opened) put(digest [sha256.Size]byte, b *blob.Blob) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.blobs == nil || len(o.blobs) >= maxOpened {
		o.blobs = map[[sha256.Size]byte]*blob.Blob{}
	}
	o.blobs[digest] = b
}
