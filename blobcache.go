package hsmkeys

import (
	"crypto/sha256"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A blobCache remembers blobs that were verified, by the SHA-256 of their bytes, so that a program
// which opens the same keys again and again reads and verifies each once. A blob with a given
// digest never changes, and its signer stays known to the keyring.
type blobCache struct {
	mu    sync.Mutex
	blobs map[[sha256.Size]byte]*blob.Blob
}

// maxOpened is how many are remembered. At the next one all are forgotten, which costs one more
// verification of each.
const maxOpened = 1024

func (o *blobCache) get(digest [sha256.Size]byte) *blob.Blob {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.blobs[digest]
}

func (o *blobCache) put(digest [sha256.Size]byte, b *blob.Blob) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.blobs == nil || len(o.blobs) >= maxOpened {
		o.blobs = map[[sha256.Size]byte]*blob.Blob{}
	}
	o.blobs[digest] = b
}
