package hsmkeys

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"filippo.io/age"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Recipient returns an age recipient that encrypts under the key, whose purpose must be to wrap
// keys.
func (key *Key) Recipient(ctx context.Context) age.Recipient { return &recipient{ctx, key} }

// A recipient carries the context, as age's interfaces have none.
type recipient struct {
	ctx context.Context
	key *Key
}

func (r *recipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	e, ctx := r.key.Entry, r.key.using(r.ctx, OpEncrypt)
	wrapped, err := r.wrap(ctx, fileKey)
	if wrapped, err = r.key.used(ctx, wrapped, err); err != nil {
		return nil, err
	}
	return []*age.Stanza{{
		Type: stanzaType,
		Args: []string{e.Name, strconv.Itoa(e.Version), base64.RawStdEncoding.EncodeToString(r.key.id[:])},
		Body: wrapped,
	}}, nil
}

func (r *recipient) wrap(ctx context.Context, fileKey []byte) ([]byte, error) {
	if err := errors.Join(r.key.wrapsKeys(), r.key.keyring.mayEncryptUnder(ctx, r.key.found)); err != nil {
		return nil, err
	}
	r.key.keyring.warnOfExpiry(r.key.found)
	wrapped, err := r.key.wrap(ctx, fileKey)
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", r.key.Entry.Name, err)
	}
	return wrapped, nil
}

// wrap wraps a file key and unwraps it again: otherwise nobody would notice that a file cannot be
// decrypted before it is needed.
func (key *Key) wrap(ctx context.Context, fileKey []byte) ([]byte, error) {
	wrapped, err := key.raw.WrapData(ctx, fileKey)
	if err != nil {
		return nil, err
	}
	again, err := key.raw.UnwrapData(ctx, wrapped)
	if err != nil {
		return nil, fmt.Errorf("read back the wrapped file key: %w", err)
	}
	defer clear(again)
	if subtle.ConstantTimeCompare(again, fileKey) != 1 {
		return nil, fmt.Errorf("read back the wrapped file key: another one came out: %w", keyspec.ErrWrapped)
	}
	return wrapped, nil
}
