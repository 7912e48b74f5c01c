package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// recovered returns a blob that a recovery has made of one that the state names and that
// the token's pair is a holder of, or nil. Of several it is one that opens, if any does.
func (k *Keyring) recovered(ctx context.Context, f keyVersion, b *blob.Blob) (*blob.Blob, error) {
	if f.entry.Name == "" {
		return nil, nil
	}
	all := k.members()
	for number := all.List().Number; number > 1; number-- {
		if all.ListNumber(number).Recovery == nil || !all.MemberSince(number, string(k.self)) {
			continue
		}
		blobs, err := k.recoveredBlobs(ctx, f, b, number)
		if err != nil {
			return nil, err
		}
		blobs = slices.DeleteFunc(blobs, func(one *blob.Blob) bool {
			_, ours := k.recipient(one, string(k.self))
			return !ours
		})
		if len(blobs) > 0 {
			return k.firstThatOpens(ctx, blobs)
		}
	}
	return nil, nil
}

// firstThatOpens returns the first blob that opens with the token, or the last where none
// does. A single one is not tried.
func (k *Keyring) firstThatOpens(ctx context.Context, blobs []*blob.Blob) (*blob.Blob, error) {
	for _, one := range blobs[:len(blobs)-1] {
		if ok, err := k.opens(ctx, one); ok || err != nil {
			return one, err
		}
	}
	return blobs[len(blobs)-1], nil
}

// recoveredBlobs returns what the recovery that began with a list of members has made of a
// blob: the same key, signed by the authority that began it, and wrapped to members only.
// Blobs of that revision that do not hold are passed over, as anybody can put them there.
func (k *Keyring) recoveredBlobs(ctx context.Context, f keyVersion, b *blob.Blob, list int) ([]*blob.Blob, error) {
	authority, err := k.introducer(ctx, list)
	if err != nil {
		return nil, err
	}
	d := b.Descriptor()
	var all []*blob.Blob
	for path, err := range k.store.List(ctx, fmt.Sprintf("%s%s/%d.%d.", blob.KeysPrefix, d.Name, d.Version, d.Revision+1)) {
		if err != nil {
			return nil, fmt.Errorf("look for what was recovered of key %q: %w", f.ref(), err)
		}
		name, version, revision, digest, ok := blob.ParseKeyPath(path)
		if !ok || name != d.Name || version != d.Version || revision != d.Revision+1 {
			continue
		}
		one, err := k.loadDigest(ctx, name, version, revision, digest)
		if errors.Is(err, blob.ErrIntegrity) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r := one.Descriptor().Recovery
		if r == nil || r.List != list || string(one.SignerKeyID()) != authority || !replacesBlob(one, b) || !sameKey(one, b) || !k.heldByMembersSince(one, list) {
			continue
		}
		all = append(all, one)
	}
	return all, nil
}

// heldByMembersSince reports whether a blob is wrapped to nobody but members of a list
// from the given number on.
func (k *Keyring) heldByMembersSince(b *blob.Blob, list int) bool {
	all := k.members()
	return !slices.ContainsFunc(b.Recipients(), func(r blob.Recipient) bool {
		return !all.MemberSince(list, string(all.Key(r.Identifier)))
	})
}

// introducer returns the subject key identifier of the key that has signed the checkpoint
// which introduced a list of members.
func (k *Keyring) introducer(ctx context.Context, list int) (string, error) {
	c, err := k.view().Introduced(ctx, list)
	if err != nil {
		return "", err
	}
	return string(c.SignerKeyID()), nil
}
