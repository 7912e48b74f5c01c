package hsmkeys

import (
	"context"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// A recordedKey is a session key each use of which is recorded. If that fails the result is overwritten.
// The key stays open for its caller: any further use needs a record as well.
type recordedKey struct {
	keyspec.SessionKey
	key *Key
}

// WrapData wraps a data key, see [keyspec.SessionKey].
func (r *recordedKey) WrapData(ctx context.Context, data []byte) ([]byte, error) {
	return r.record(ctx, OpEncrypt, r.SessionKey.WrapData, data)
}

// UnwrapData undoes WrapData.
func (r *recordedKey) UnwrapData(ctx context.Context, wrapped []byte) ([]byte, error) {
	return r.record(ctx, OpDecrypt, r.SessionKey.UnwrapData, wrapped)
}

// MAC computes an HMAC.
func (r *recordedKey) MAC(ctx context.Context, message []byte) ([]byte, error) {
	return r.record(ctx, OpMAC, r.SessionKey.MAC, message)
}

func (r *recordedKey) record(ctx context.Context, op string, do func(context.Context, []byte) ([]byte, error), data []byte) ([]byte, error) {
	ctx = r.key.using(ctx, op)
	result, err := do(ctx, data)
	return r.key.used(ctx, result, err)
}

// using returns a context for an operation with the key.
func (key *Key) using(ctx context.Context, op string) context.Context {
	return WithUse(ctx, Use{Operation: op, Key: key.Entry.Name, Version: key.Entry.Version, KeyID: key.id}.with(key.keyring.recorder.about))
}

// used records the use in ctx, and returns its result. If that fails it overwrites the result.
func (key *Key) used(ctx context.Context, result []byte, err error) ([]byte, error) {
	if err = key.keyring.recorder.used(ctx, err); err != nil {
		clear(result)
		return nil, err
	}
	return result, nil
}
