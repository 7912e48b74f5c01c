package hsmkeys

import (
	"context"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// takeIn adds a version for a key that the state does not name: the same key,
// wrapped to the members of today and signed by us. It is deactivated; under a name that we
// do not have it is the first, and encrypts.
func (k *Keyring) takeIn(ctx context.Context, b *blob.Blob, reason string) (Entry, error) {
	return retryStale(ctx, k, Use{Operation: ledger.Adopt.String(), Key: b.Descriptor().Name}, reason, func(ctx context.Context) (Entry, error) { return k.takeInOnce(ctx, b, reason) })
}

func (k *Keyring) takeInOnce(ctx context.Context, b *blob.Blob, reason string) (Entry, error) {
	n := takeInEdit{name: b.Descriptor().Name, reason: reason}
	entries, err := k.everNamed(ctx, n.name)
	if err != nil {
		return Entry{}, err
	}
	status := ledger.Deactivated
	switch {
	case len(entries) > 0:
		n.name, n.last = entries[0].Name, highest(entries[0])
	case !k.hasFormer(b):
		status, n.current = ledger.Active, 1
	}
	v, taken, err := k.wrapFor(ctx, b, n.name, n.last+1)
	if err != nil {
		return Entry{}, err
	}
	v.Status = status
	n.versions = []ledger.Version{v}
	err = k.recordEdit(ctx, n.edit(), onToken)
	if isStale(err) {
		return Entry{}, errors.Join(err, k.discard(ctx, taken))
	}
	if err != nil {
		return Entry{}, fmt.Errorf("take in key %q: %w", n.name, err)
	}
	e := k.entry(taken)
	e.Status = v.Status.String()
	return e, nil
}

// isOwner reports whether a member of another copy is an owner in force here.
func (k *Keyring) isOwner(m blob.Member) bool {
	if m.Certificate == nil {
		return false
	}
	here, _ := k.members().Signer(signerID(m))
	return here.Role == blob.Owner
}

// hasFormer reports whether a blob is wrapped to somebody who is no longer a member, which a blob
// that is made of it would not show.
func (k *Keyring) hasFormer(b *blob.Blob) bool { return !k.heldByMembersSince(b, k.ListNumber()) }

// wrapFor wraps the key in a blob that the state does not name to the members of the list in force,
// as a new version of a key.
func (k *Keyring) wrapFor(ctx context.Context, b *blob.Blob, name string, number int) (ledger.Version, *blob.Blob, error) {
	list, digest := k.ListNumber(), b.Digest()
	d := b.Descriptor()
	d.Name, d.Version, d.Revision, d.Replaces, d.Recovery = name, number, 1, digest[:], nil
	taken, err := k.wrapAs(ctx, b, d)
	if err != nil {
		return ledger.Version{}, nil, err
	}
	return k.version(taken, list), taken, nil
}
