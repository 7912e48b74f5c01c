package hsmkeys

import (
	"bytes"
	"context"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Key is a session key that was verified and unwrapped, ready for use.
type Key struct {
	Entry Entry
	keyspec.SessionKey

	id      blob.ID
	refused error // why nothing is encrypted under it
}

// Open verifies a key's blob and unwraps the key in the token, in that order; a key
// from a password is computed, see [Keyring.Passwords]. The caller closes it. With a key
// of a legacy algorithm nothing is done here: it is an [ErrPurpose].
func (k *Keyring) Open(ctx context.Context, ref Ref) (*Key, error) {
	f, b, err := k.verified(ctx, ref)
	if err != nil {
		return nil, err
	}
	return k.openBlob(ctx, ref, f, b)
}

// openBlob opens a key that was found and verified.
func (k *Keyring) openBlob(ctx context.Context, ref Ref, f found, b *blob.Blob) (*Key, error) {
	if b.Algorithm().IsLegacy() {
		return nil, withFacts(fmt.Errorf("open key %q, %v: %w", ref, b.Algorithm(), ErrPurpose), ErrLegacyUse)
	}
	var session keyspec.SessionKey
	used, err := k.with(ctx, b,
		func(wrapped keyspec.WrappedKey) (err error) {
			session, err = k.pair.Unwrap(ctx, wrapped)
			return err
		},
		func(value []byte) (err error) {
			session, err = k.pair.Use(ctx, b.Key(), value)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("open key %q: %w", ref, err)
	}
	return &Key{Entry: k.entry(used), SessionKey: session, id: b.Descriptor().KeyID, refused: k.refuses(f)}, nil
}

// refuses returns why nothing is encrypted under a version of a key, or nil.
func (k *Keyring) refuses(f found) error {
	if err := k.mayEncrypt(); err != nil {
		return err
	}
	switch {
	case f.entry.Name == "":
		return fmt.Errorf("the state of the keyring does not know the key: %w", ErrStale)
	case f.version.Status != ledger.Active:
		return fmt.Errorf("key %q is %v: %w", f.ref(), f.version.Status, ErrPurpose)
	}
	return nil
}

// Reveal verifies a key and gives its value, for a program that must have it; the salt of
// a legacy key is not in it, see [Entry]. The caller overwrites it after use.
func (k *Keyring) Reveal(ctx context.Context, ref Ref) ([]byte, error) {
	_, b, err := k.verified(ctx, ref)
	if err != nil {
		return nil, err
	}
	var value []byte
	_, err = k.with(ctx, b,
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

// verified returns a key's blob, for use with the token, see forUs.
func (k *Keyring) verified(ctx context.Context, ref Ref) (found, *blob.Blob, error) {
	if k.pair == nil {
		return found{}, nil, errNoToken
	}
	if err := k.refresh(ctx); err != nil {
		return found{}, nil, err
	}
	f, b, err := k.loadRef(ctx, ref)
	if err == nil {
		b, err = k.forUs(ctx, f, b)
	}
	return f, b, err
}

// forUs returns what a recovery has made of a blob for the token's pair where that is not
// one of its holders, or the blob itself.
func (k *Keyring) forUs(ctx context.Context, f found, b *blob.Blob) (*blob.Blob, error) {
	if _, ours := k.recipient(b, string(k.self)); ours || isDerived(b) {
		return b, nil
	}
	if recovered, err := k.recovered(ctx, f, b); err != nil || recovered != nil {
		return recovered, err
	}
	return b, nil
}

// with gives a verified key to one of two functions: as it is wrapped to the token's
// pair, see opening, or where it comes from a password its value, which is overwritten
// then. It returns the revision that was used.
func (k *Keyring) with(ctx context.Context, b *blob.Blob, wrapped func(keyspec.WrappedKey) error, value func([]byte) error) (*blob.Blob, error) {
	if isDerived(b) {
		computed, err := k.value(ctx, b)
		if err != nil {
			return nil, err
		}
		defer clear(computed)
		return b, value(computed)
	}
	return k.opening(ctx, b, wrapped)
}

// ours returns what in a blob is wrapped to the token's pair.
func (k *Keyring) ours(b *blob.Blob) (keyspec.WrappedKey, error) {
	if r, ok := k.recipient(b, string(k.self)); ok {
		return wrappedTo(r, b.Key(), b.Descriptor()), nil
	}
	return keyspec.WrappedKey{}, withFacts(fmt.Errorf("not wrapped to this token's pair: %w", blob.ErrNotFound), ErrNotHolder)
}

// wrappedTo returns what a blob has of a session key for one holder.
func wrappedTo(r blob.Recipient, what keyspec.Key, d blob.Descriptor) keyspec.WrappedKey {
	w := keyspec.WrappedKey{Key: what, Wrapped: r.Key, Confirmation: d.Confirmation}
	if d.Legacy != nil {
		w.Confirmation = d.CheckValue
	}
	return w
}
