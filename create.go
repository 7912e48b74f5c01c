package hsmkeys

import (
	"context"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Create makes a session key on the token, has the token wrap it to every member
// and sign the blob, and stores the blob durably. It refuses with
// [blob.ErrExists] when there is a key of that name.
//
// Purpose 0 is the usual one for the algorithm: [keyspec.WrapKeys] for AES, which
// is what files are encrypted under, [keyspec.Authenticate] for HMAC.
func (k *Keyring) Create(ctx context.Context, name string, algorithm keyspec.Algorithm, purpose keyspec.Purpose) (Entry, error) {
	return k.create(ctx, blob.Descriptor{Name: name, Purpose: usualPurpose(purpose, algorithm)}, func(ctx context.Context, d blob.Descriptor) (*blob.Blob, error) {
		return k.make(ctx, d, algorithm)
	})
}

// usualPurpose is what purpose 0 stands for.
func usualPurpose(purpose keyspec.Purpose, algorithm keyspec.Algorithm) keyspec.Purpose {
	switch {
	case purpose != 0:
		return purpose
	case algorithm.IsHMAC():
		return keyspec.Authenticate
	}
	return keyspec.WrapKeys
}

// create makes the first version of a key, in whatever way.
func (k *Keyring) create(ctx context.Context, d blob.Descriptor, make func(context.Context, blob.Descriptor) (*blob.Blob, error)) (Entry, error) {
	if err := k.refresh(ctx); err != nil {
		return Entry{}, err
	}
	if err := k.mustOwn("create a key"); err != nil {
		return Entry{}, err
	}
	if err := blob.ValidNewName(d.Name); err != nil {
		return Entry{}, err
	}
	return retryStale(ctx, k, func() (Entry, error) { return k.createOnce(ctx, d, make) })
}

func (k *Keyring) createOnce(ctx context.Context, d blob.Descriptor, make func(context.Context, blob.Descriptor) (*blob.Blob, error)) (Entry, error) {
	taken := withFacts(fmt.Errorf("create key %q: %w", d.Name, blob.ErrExists), ErrNameTaken)
	switch _, err := k.view().Entry(ctx, d.Name); { // before a key is made for nothing
	case err == nil:
		return Entry{}, taken
	case !errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrIntegrity):
		return Entry{}, err
	}
	d.Version = 1
	list := k.ListNumber()
	b, err := make(ctx, d)
	if err != nil {
		return Entry{}, fmt.Errorf("create key %q: %w", d.Name, err)
	}
	defer k.storing.end(b)
	err = k.recordEdit(ctx, createEdit(d.Name, k.version(b, list)), inFile)
	switch {
	case errors.Is(err, blob.ErrExists): // somebody was faster
		return Entry{}, errors.Join(taken, k.discard(ctx, b))
	case isStale(err):
		return Entry{}, errors.Join(err, k.discard(ctx, b))
	case err != nil:
		return Entry{}, fmt.Errorf("create key %q: %w", d.Name, err)
	}
	return k.entry(b), nil
}
