package hsmkeys

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Programs that run for long keep keys open, and have data that names a key by its identifier. They use
// what follows.

// OpenID opens the key that has an identifier: under the name and version of ref, or those that it has
// today after it was renamed or merged. The caller must close it. The errors are those of
// [Keyring.Open], and [blob.ErrNotFound] for an identifier that the keyring does not know.
func (k *Keyring) OpenID(ctx context.Context, ref Ref, id blob.ID) (*Key, error) {
	ctx = WithUse(ctx, Use{Operation: OpDecrypt, Key: ref.Name, Version: ref.Version, KeyID: id})
	key, err := k.openForFile(ctx, ref, id)
	if err != nil {
		return nil, k.recorder.used(ctx, err)
	}
	return key, nil
}

// ID returns the identifier of the key, 16 bytes.
func (key *Key) ID() blob.ID { return key.id }

// MayEncrypt returns an error if nothing is encrypted under the key: an [ErrPurpose] for a key that wraps
// no keys, and others for a version that is not active, for one that has expired, and for a state of
// the keyring that is too old. It goes by the state of the keyring that was read last.
func (key *Key) MayEncrypt(ctx context.Context) error {
	return errors.Join(key.wrapsKeys(), key.keyring.mayEncryptUnder(ctx, key.found))
}

// Check reports an error if the key no longer works, such as a [keyspec.ErrLost]: it asks the token, and
// wraps 16 random bytes and unwraps them again. That is not recorded as a use.
func (key *Key) Check(ctx context.Context) error {
	if err := key.keyring.pair.Check(ctx); err != nil { // the key itself may be in memory
		return err
	}
	var data [16]byte
	_, _ = rand.Read(data[:]) // never fails
	wrapped, err := key.raw.WrapData(ctx, data[:])
	if err != nil {
		return err
	}
	again, err := key.raw.UnwrapData(ctx, wrapped)
	if err == nil && subtle.ConstantTimeCompare(again, data[:]) != 1 {
		err = fmt.Errorf("read back what key %q has wrapped: something else came out: %w", key.Entry.Name, keyspec.ErrWrapped)
	}
	return err
}
