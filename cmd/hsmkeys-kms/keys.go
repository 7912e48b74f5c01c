package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// The keys are the versions of the plugin's key that are open. Opening one takes an operation with the
// key exchange pair.
type keys struct {
	keyring *hsmkeys.Keyring
	name    string

	mu      sync.Mutex
	open    map[blob.ID]*hsmkeys.Key
	used    []blob.ID    // the one that was used last is the last
	at      ledger.Point // of the state by which they were opened
	current *hsmkeys.Key // the newest version; nil if it has to be opened
	last    string       // its identifier, also when it cannot be used any more
	looked  time.Time    // when the keyring was last asked for its newest state
}

// maxOpen is how many versions are open at the same time.
const maxOpen = 16

// lookEvery is how long the newest version may be another one before the plugin notices. The keyring is
// a file or a bucket, which is asked so often and no more.
const lookEvery = time.Second

func newKeys(k *hsmkeys.Keyring, name string) *keys {
	return &keys{keyring: k, name: name, open: map[blob.ID]*hsmkeys.Key{}}
}

// lookNow makes the next call of newest ask the keyring.
func (k *keys) lookNow() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looked = time.Time{}
}

// lastID returns the identifier of the newest version that is known.
func (k *keys) lastID() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last
}

// newest returns the newest version of the key, open.
func (k *keys) newest(ctx context.Context) (*hsmkeys.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current != nil && time.Since(k.looked) < lookEvery {
		return k.current, nil
	}
	if err := k.look(ctx); err != nil {
		return nil, err
	}
	if k.current == nil {
		key, err := k.keyring.Open(ctx, hsmkeys.Ref{Name: k.name})
		if err != nil {
			return nil, err
		}
		k.drop(key.ID())
		k.add(key)
		k.current, k.last = key, k.idOf(key).String()
	}
	return k.current, nil
}

// look asks the keyring for its newest state. In a new one every version may have another status: all are
// opened anew, and judged by it.
func (k *keys) look(ctx context.Context) error {
	if _, err := k.keyring.Show(ctx, hsmkeys.Ref{Name: k.name}); err != nil && !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	if at := k.keyring.State().At; at != k.at {
		for id := range k.open {
			k.drop(id)
		}
		k.at = at
	}
	k.looked = time.Now()
	return nil
}

// withID returns the version of the key that has an identifier, open. A key of another name is refused,
// also one of the same keyring: it may be that of another cluster.
func (k *keys) withID(ctx context.Context, id keyID) (*hsmkeys.Key, error) {
	if _, err := k.newest(ctx); err != nil && k.lastID() == "" {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.open[id.id]; key != nil {
		k.touch(id.id)
		return key, nil
	}
	key, err := k.keyring.OpenID(ctx, id.ref, id.id)
	if err != nil {
		return nil, err
	}
	if key.Entry.Name != k.name {
		_ = key.Close()
		return nil, fmt.Errorf("%w: it is called %q, and this plugin serves %q", errOtherKey, key.Entry.Name, k.name)
	}
	k.add(key)
	return key, nil
}

// add keeps a key, and closes the one that was not used for the longest time if there are too many.
func (k *keys) add(key *hsmkeys.Key) {
	k.open[key.ID()] = key
	k.touch(key.ID())
	for len(k.used) > maxOpen {
		k.drop(k.used[0])
	}
}

func (k *keys) touch(id blob.ID) {
	for i, other := range k.used {
		if other == id {
			k.used = append(k.used[:i], k.used[i+1:]...)
			break
		}
	}
	k.used = append(k.used, id)
}

// drop closes a key. A call that uses it at this moment ends first.
func (k *keys) drop(id blob.ID) {
	key := k.open[id]
	if key == nil {
		return
	}
	_ = key.Close() // its errors are those of a token that went away
	delete(k.open, id)
	for i, other := range k.used {
		if other == id {
			k.used = append(k.used[:i], k.used[i+1:]...)
			break
		}
	}
	if k.current == key {
		k.current = nil
	}
}

// forget closes a key that no longer works.
func (k *keys) forget(key *hsmkeys.Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.open[key.ID()] == key { // another call may have opened it anew
		k.drop(key.ID())
	}
}

// idOf returns the identifier of a key.
func (k *keys) idOf(key *hsmkeys.Key) keyID {
	return keyID{k.keyring.ID(), key.ID(), hsmkeys.Ref{Name: key.Entry.Name, Version: key.Entry.Version}}
}

func (k *keys) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range k.open {
		k.drop(id)
	}
}
