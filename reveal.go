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
	var value []byte
	err := k.useNewest(ctx, OpReveal, ref, func(ctx context.Context, b *blob.Blob) (err error) {
		value, err = k.reveal(ctx, ref, b)
		return err
	})
	if err != nil {
		clear(value)
		return nil, err
	}
	return value, nil
}

func (k *Keyring) reveal(ctx context.Context, ref Ref, b *blob.Blob) (value []byte, err error) {
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

// useNewest calls use with the blob of a key, for what is not encryption, and records the operation. It
// warns of a compromised key.
func (k *Keyring) useNewest(ctx context.Context, op string, ref Ref, use func(context.Context, *blob.Blob) error) error {
	ctx = WithUse(ctx, Use{Operation: op, Key: ref.Name, Version: ref.Version})
	f, b, err := k.newestBlob(ctx, ref)
	if err == nil {
		ctx = k.using(ctx, f, b)
		err = use(ctx, b)
	}
	return k.recorder.used(ctx, err)
}

func (k *Keyring) newestBlob(ctx context.Context, ref Ref) (keyVersion, *blob.Blob, error) {
	if k.pair == nil {
		return keyVersion{}, nil, errNoToken
	}
	if err := k.refresh(ctx); err != nil {
		return keyVersion{}, nil, err
	}
	f, err := k.findNewest(ctx, ref)
	if err != nil {
		return f, nil, err
	}
	f, b, err := k.verifiedBlob(ctx, f.ref())
	if err == nil && f.version.Status == ledger.Compromised {
		k.warn(withFacts(k.compromised(ctx, f), ErrCompromised))
	}
	return f, b, err
}
