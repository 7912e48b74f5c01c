package hsmkeys

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// A token can have made something wrong when it wrapped a key. The blob is genuine then,
// its signature verifies, and the key in it does not open, or is another one than the blob
// was signed for. Only a holder's token can find that out. The key is not lost as long as
// an earlier revision holds it.

// Unproven returns the holders of a new key for whom it is not known that they can open it: only
// their own tokens can find out, see [Keyring.Prove]. Without reading back this token's holder is
// one of them. A quorum is none: it has no token, and its custodians prove their shares.
func (k *Keyring) Unproven(e Entry) []Holder {
	known := map[string]bool{k.holder(k.self).SubjectKeyID: !k.options.NoReadBack}
	for _, m := range k.Members() {
		if m.Quorum != nil {
			known[hex.EncodeToString([]byte(keyID(m)))] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(e.Holders), func(h Holder) bool { return known[h.SubjectKeyID] })
}

// maxFallback is how many revisions of a key are tried: each costs an operation of the token.
const maxFallback = 8

// openRevision has a verified blob's key opened, as it is wrapped to the token's pair. Where
// that does not hold, it goes back to the revision before, which the blob names by its
// digest and which says that it is the same key, and warns. It returns the blob that was
// opened.
func (k *Keyring) openRevision(ctx context.Context, b *blob.Blob, open func(keyspec.WrappedKey) error) (*blob.Blob, error) {
	wrapped, err := k.ownWrapped(b)
	if err == nil {
		err = open(wrapped)
	}
	if !errors.Is(err, keyspec.ErrWrapped) {
		return b, err
	}
	for at := b; at.Descriptor().Revision > 1 && b.Descriptor().Revision-at.Descriptor().Revision < maxFallback; {
		before, errBefore := k.revisionBefore(ctx, at)
		if errBefore != nil {
			break
		}
		at = before
		if wrapped, errBefore = k.ownWrapped(at); errBefore == nil {
			errBefore = open(wrapped)
		}
		if errBefore == nil {
			k.warn(withFacts(doesNotOpen(b, fmt.Errorf("%w; revision %d, which holds the same key, is used", err, at.Descriptor().Revision)), ErrEarlierRevision))
			return at, nil
		}
		if !errors.Is(errBefore, keyspec.ErrWrapped) && !errors.Is(errBefore, blob.ErrNotFound) { // it is not about this key
			return nil, errBefore
		}
	}
	return nil, withFacts(fmt.Errorf("%w: %w", doesNotOpen(b, err), blob.ErrIntegrity), &DoesNotOpen{b.Descriptor().Name})
}

// doesNotOpen names a revision.
func doesNotOpen(b *blob.Blob, err error) error {
	d := b.Descriptor()
	return inKey(d.Name, d.Version, d.Revision, fmt.Errorf("it does not open with this token: %w", err))
}

func (k *Keyring) warn(err error) {
	if k.options.Warn != nil {
		k.options.Warn(err)
	}
}

// CheckOpens has the token open a key, as [Keyring.Open] does, and warns, or returns an
// error that is a [blob.ErrIntegrity], where the newest revision does not hold. A key that
// the token does not hold, or that comes from a password, is not tried, and what else keeps
// the token from opening it is no verdict on the key.
func (k *Keyring) CheckOpens(ctx context.Context, ref Ref) error {
	if k.pair == nil {
		return nil
	}
	f, b, err := k.loadRef(ctx, ref)
	if err != nil || isDerived(b) {
		return err
	}
	ctx = WithUse(k.using(ctx, f, b), Use{Operation: OpCheck})
	_, err = k.openRevision(ctx, b, func(wrapped keyspec.WrappedKey) error {
		key, err := k.pair.UnwrapTransit(ctx, wrapped)
		if err != nil {
			return err
		}
		return key.Close()
	})
	if !errors.Is(err, ErrNotHolder) { // or it was not tried
		err = k.recorder.used(ctx, err)
	}
	if errors.Is(err, blob.ErrIntegrity) || errors.As(err, new(*Unrecorded)) {
		return err
	}
	return nil
}

// opens reports whether the key in a blob opens, and is the one that was signed for. A key
// from a password is not wrapped to anybody.
func (k *Keyring) opens(ctx context.Context, b *blob.Blob) (bool, error) {
	if isDerived(b) {
		return true, nil
	}
	wrapped, err := k.ownWrapped(b)
	if err != nil {
		return false, err
	}
	key, err := k.pair.UnwrapTransit(ctx, wrapped)
	if errors.Is(err, keyspec.ErrWrapped) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, key.Close()
}
