package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// The keys are the versions of the plugin's key that are open. Opening one takes an operation with the
// key exchange pair.
type keys struct {
	keyring   *hsmkeys.Keyring
	name      string
	exchanged func(error) // is told that the directory of the store was exchanged

	mu       sync.Mutex
	open     map[blob.ID]*hsmkeys.Key
	used     []blob.ID    // the one that was used last is the last
	at       ledger.Point // of the state by which they were opened
	current  *hsmkeys.Key // the newest version; nil if it has to be opened
	last     string       // its identifier, also if it encrypts nothing
	looked   time.Time    // when the keyring was last asked for its newest state
	away     error        // why it did not answer then; nil if it did
	answered time.Time    // when it last did
}

// maxOpen is how many versions are open at the same time.
const maxOpen = 16

// lookEvery is how long the newest version may be another one before the plugin notices. The keyring is
// a file or a bucket, which is asked so often and no more.
const lookEvery = time.Second

// goOnFor is how long open keys decrypt while the keyring does not answer: in the meantime one may have
// been destroyed.
const goOnFor = time.Hour

// lookFor is how long the keyring may take to answer. The API server waits for three seconds, and what
// is open decrypts without an answer.
const lookFor = 2 * time.Second

func newKeys(k *hsmkeys.Keyring, name string) *keys {
	return &keys{keyring: k, name: name, exchanged: func(error) {}, open: map[blob.ID]*hsmkeys.Key{}}
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
	if time.Since(k.looked) >= lookEvery {
		k.away = k.look(ctx)
		k.looked = time.Now()
		if k.away == nil {
			k.answered = k.looked
		}
		if errors.Is(k.away, dir.ErrExchanged) {
			k.exchanged(k.away)
		}
	}
	if k.away != nil {
		return nil, k.away
	}
	if k.current == nil {
		key, err := k.keyring.Open(ctx, hsmkeys.Ref{Name: k.name})
		if err != nil {
			return nil, err
		}
		k.drop(key.ID())
		k.add(key)
		k.current = key
	}
	return k.current, nil
}

// look asks the keyring for its newest state. In a new one every version may have another status: all are
// opened anew, and judged by it.
func (k *keys) look(ctx context.Context) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), lookFor) // other calls wait for it as well
	defer stop()
	e, err := k.keyring.Show(ctx, hsmkeys.Ref{Name: k.name})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the keyring has not answered within %v: %w", lookFor, blob.ErrUnavailable)
	}
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	if id, fail := parseID(e.KeyID); err == nil && fail == nil {
		k.last = keyID{k.keyring.ID(), id, hsmkeys.Ref{Name: e.Name, Version: e.Version}}.String()
	}
	if at := k.keyring.State().At; at != k.at {
		for id := range k.open {
			k.drop(id)
		}
		k.at = at
	}
	return nil
}

// withID returns the version of the key that has an identifier, open. A key of another name is refused,
// also one of the same keyring: it may be that of another cluster. While the keyring does not answer,
// what is open goes on for goOnFor.
func (k *keys) withID(ctx context.Context, id keyID) (*hsmkeys.Key, error) {
	_, _ = k.newest(ctx) // what is no longer to be used is closed by that
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.away != nil && (!errors.Is(k.away, blob.ErrUnavailable) || time.Since(k.answered) > goOnFor) {
		return nil, k.away
	}
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

func (k *keys) touch(id blob.ID) { k.used = append(k.unused(id), id) }

// unused returns the identifiers in k.used without one.
func (k *keys) unused(id blob.ID) []blob.ID {
	return slices.DeleteFunc(k.used, func(other blob.ID) bool { return other == id })
}

// drop closes a key. A call that uses it at this moment ends first.
func (k *keys) drop(id blob.ID) {
	key := k.open[id]
	if key == nil {
		return
	}
	_ = key.Close() // its errors are those of a token that went away
	delete(k.open, id)
	k.used = k.unused(id)
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

// count returns how many versions are open.
func (k *keys) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.open)
}

func (k *keys) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range k.open {
		k.drop(id)
	}
}
