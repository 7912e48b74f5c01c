package hsmkeys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// check is the way from bytes to a blob that can be believed: signed by somebody
// who is or was a member, for the place where it was found, and allowed to.
func (k *Keyring) check(ctx context.Context, der []byte, at blob.Place) (*blob.Blob, error) {
	b, err := k.signed(ctx, der, at)
	if err != nil {
		return nil, err
	}
	if b.Descriptor().Recovery != nil {
		return b, k.checkRecovered(ctx, b)
	}
	return b, k.checkSigner(ctx, b)
}

// signed is the first half of check: a blob that somebody who is or was a member has
// signed for the place where it was found.
func (k *Keyring) signed(_ context.Context, der []byte, at blob.Place) (*blob.Blob, error) {
	unverified, err := blob.Parse(der)
	if err != nil {
		return nil, err
	}
	trusted, name := parties(k.chain.newest.Members, blob.Owner), unverified.SignerIdentifier()
	if m, ok := k.chain.signed[string(k.chain.names.key(name))]; ok {
		trusted = []blob.Party{{Key: m.Signer(), ID: name}} // what it may sign is looked at next
	}
	b, err := unverified.Verify(trusted, at)
	if errors.Is(err, blob.ErrUntrusted) {
		return nil, hint(k.chain.former(err, name), "somebody put a blob into the storage that no member of this keyring has signed")
	}
	return b, err
}

// checkSigner says whether a blob that is no recovery is signed by an owner, or with
// a key with which an owner signed when the blob was made, as an inventory says.
func (k *Keyring) checkSigner(ctx context.Context, b *blob.Blob) error {
	if k.chain.signers[string(b.SignerKeyID())].Role == blob.Owner {
		return nil
	}
	kept, err := k.chain.kept.hold(ctx, b.Digest())
	if err != nil || kept {
		return err
	}
	signer, since := k.chain.signed[string(b.SignerKeyID())], k.chain.leftAt(b.SignerKeyID(), signerID)
	if signer.Role == blob.BackupAuthority {
		return hint(fmt.Errorf("signed by the backup authority %q outside a recovery: %w", signer.Label, blob.ErrUntrusted),
			"the signature of an authority counts only in a recovery")
	}
	if now := k.chain.members[keyID(signer)]; now.Role == blob.Owner {
		return hint(fmt.Errorf("signed by %q with a key that is not its signing key since list of members %d, and not there when that was made: %w",
			now.Label, since, blob.ErrUntrusted), "somebody has signed it later with the former key")
	}
	return hint(fmt.Errorf("signed by %q, who is no owner since list of members %d, and not there when that was made: %w",
		signer.Label, since, blob.ErrUntrusted),
		"a former owner has signed it later; if that was before it knew, add it as an owner again, and remove it")
}

// checkRecovered says whether a blob that a backup authority has signed is what a
// recovery makes: the key that was there when the recovery began, for members.
func (k *Keyring) checkRecovered(ctx context.Context, b *blob.Blob) error {
	r := b.Descriptor().Recovery
	refuse := func(format string, args ...any) error {
		return hint(fmt.Errorf("not a recovery of this keyring: "+format+": %w", append(args, blob.ErrUntrusted)...),
			"the signature of an authority counts only in a recovery")
	}
	if r.List > len(k.chain.lists) {
		return refuse("list of members %d is not there", r.List)
	}
	list := k.chain.lists[r.List-1]
	began := list.List().Recovery
	switch {
	case began == nil:
		return refuse("list of members %d is no recovery", r.List)
	case !bytes.Equal(list.SignerKeyID(), b.SignerKeyID()):
		return refuse("its signer did not sign list of members %d", r.List)
	case !bytes.Equal(began.From, r.From):
		return refuse("list of members %d recovers from another owner", r.List)
	}
	for _, holder := range b.Recipients() {
		if !k.chain.since(r.List, k.chain.names.key(holder.SubjectKeyID)) {
			return refuse("it is wrapped to %x, whom no list of members names since", holder.SubjectKeyID)
		}
	}
	if k.chain.signers[string(b.SignerKeyID())].Role != blob.BackupAuthority {
		kept, err := k.chain.kept.hold(ctx, b.Digest())
		if err != nil {
			return err
		}
		if !kept {
			return refuse("%q is no authority any more, and it was not there when that changed", k.chain.signed[string(b.SignerKeyID())].Label)
		}
	}
	return k.checkSource(ctx, b, refuse)
}

// checkSource holds a recovered blob against the one that it replaces: what was there when
// the recovery began, or what the same recovery has made before, see
// [Recovery.DamagedKeys], and that replaces what was there.
func (k *Keyring) checkSource(ctx context.Context, b *blob.Blob, refuse func(string, ...any) error) error {
	there, err := k.chain.kept.of(ctx, b.Descriptor().Recovery.List)
	if err != nil {
		return err
	}
	for at := b; ; { // to ever lower revisions, and any number of them: recover --damaged may be run as often
		d := at.Descriptor()
		before := revision{d.Version, d.Revision - 1}
		if there.digests[[32]byte(d.Replaces)] {
			source, err := k.load(ctx, d.Name, before)
			if err != nil {
				return fmt.Errorf("what it was recovered from: %w", err)
			}
			return isSource(at, source, refuse)
		}
		source, err := k.read(ctx, d.Name, before, k.signed)
		if err != nil && !errors.Is(err, blob.ErrIntegrity) && !errors.Is(err, blob.ErrNotFound) {
			return fmt.Errorf("what it was recovered from: %w", err)
		}
		if err != nil || !sameRecovery(b, source) {
			return refuse("what it replaces was not there when the recovery began")
		}
		if err := isSource(at, source, refuse); err != nil {
			return err
		}
		at = source
	}
}

// isSource says whether a recovered blob is the same key as the one that it replaces.
func isSource(b, source *blob.Blob, refuse func(string, ...any) error) error {
	d := b.Descriptor()
	if digest := source.Digest(); !bytes.Equal(digest[:], d.Replaces) {
		return refuse("it replaces another blob than revision %d", d.Revision-1)
	}
	if !sameKey(b, source) {
		return refuse("it is another key than revision %d", d.Revision-1)
	}
	return nil
}

// sameRecovery says whether a blob makes anew what the same recovery has made before, see
// [Recovery.DamagedKeys]. That was verified, so it came from what was there when it began.
func sameRecovery(b, source *blob.Blob) bool {
	r, was := b.Descriptor().Recovery, source.Descriptor().Recovery
	return was != nil && was.List == r.List && bytes.Equal(source.SignerKeyID(), b.SignerKeyID())
}

// sameKey says whether two blobs say that they hold the same key.
func sameKey(a, b *blob.Blob) bool {
	d, e := a.Descriptor(), b.Descriptor()
	madeA, _ := a.Derivation()
	madeB, _ := b.Derivation()
	return d.KeyID == e.KeyID && d.Created.Equal(e.Created) && d.Purpose == e.Purpose &&
		a.Algorithm() == b.Algorithm() && isDerived(a) == isDerived(b) && madeA == madeB && d.Legacy.Equal(e.Legacy) && d.Imported == e.Imported &&
		slices.Equal(d.CheckValue, e.CheckValue) && slices.Equal(d.Confirmation, e.Confirmation)
}
