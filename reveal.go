package hsmkeys

import (
	"bytes"
	"context"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Reveal verifies a key and returns its value, for a program that must have it. The salt of a
// legacy key is not part of it, see [Entry]. A Ref without a version may be a key of which no version
// encrypts: then it is the newest. The caller must overwrite the value.
func (k *Keyring) Reveal(ctx context.Context, ref Ref) ([]byte, error) {
	b, err := k.newestBlob(ctx, ref)
	if err != nil {
		return nil, err
	}
	var value []byte
	_, err = k.useKey(ctx, b,
		func(wrapped keyspec.WrappedKey) (err error) {
			value, err = k.pair.Reveal(ctx, wrapped)
			return err
		},
		func(computed []byte) error {
			value = bytes.Clone(computed)
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("reveal key %q: %w", ref, err)
	}
	return value, nil
}

// newestBlob is verifiedBlob for what is not encryption, and warns of a compromised key.
func (k *Keyring) newestBlob(ctx context.Context, ref Ref) (*blob.Blob, error) {
	if k.pair == nil {
		return nil, errNoToken
	}
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	f, err := k.findNewest(ctx, ref)
	if err != nil {
		return nil, err
	}
	_, b, err := k.verifiedBlob(ctx, f.ref())
	if err == nil && f.version.Status == ledger.Compromised {
		k.warn(withFacts(k.compromised(ctx, f), ErrCompromised))
	}
	return b, err
}
