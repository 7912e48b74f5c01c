package hsmkeys

import (
	"context"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A Key is a session key that was verified and unwrapped, ready for use. Each use of it is recorded, see
// [Options.Record].
type Key struct {
	Entry Entry
	keyspec.SessionKey

	raw     keyspec.SessionKey // whose uses are not recorded
	keyring *Keyring
	found   keyVersion // in the state; zero if that does not know it
	id      blob.ID
}

// Open verifies a key's blob and unwraps the key in the token, in that order; a key from a password
// is computed, see [Keyring.Passwords]. The caller must close it. The error is an [ErrPurpose] for
// a key of a legacy algorithm, with which nothing is done here.
func (k *Keyring) Open(ctx context.Context, ref Ref) (*Key, error) { return k.openAs(ctx, OpOpen, ref) }

// openAs is Open for an operation, which is recorded if that fails.
func (k *Keyring) openAs(ctx context.Context, op string, ref Ref) (*Key, error) {
	ctx = WithUse(ctx, Use{Operation: op, Key: ref.Name, Version: ref.Version})
	var key *Key
	f, b, err := k.verifiedBlob(ctx, ref)
	if err == nil {
		ctx = k.using(ctx, f, b)
		key, err = k.openBlob(ctx, ref, f, b)
	}
	if err != nil {
		return nil, k.recorder.used(ctx, err)
	}
	return key, nil
}

// open is Open, and records nothing.
func (k *Keyring) open(ctx context.Context, ref Ref) (*Key, error) {
	f, b, err := k.verifiedBlob(ctx, ref)
	if err != nil {
		return nil, err
	}
	return k.openBlob(ctx, ref, f, b)
}

// openBlob opens a key that was found and verified.
func (k *Keyring) openBlob(ctx context.Context, ref Ref, f keyVersion, b *blob.Blob) (*Key, error) {
	ctx = k.using(ctx, f, b)
	if b.Algorithm().IsLegacy() {
		return nil, withFacts(fmt.Errorf("open key %q, %v: %w", ref, b.Algorithm(), ErrPurpose), ErrLegacyUse)
	}
	var session keyspec.SessionKey
	used, err := k.useKey(ctx, b,
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
	key := &Key{Entry: k.entryOf(f, used), SessionKey: session, raw: session, keyring: k, found: f, id: b.Descriptor().KeyID}
	if k.recorder.record != nil {
		key.SessionKey = &recordedKey{session, key}
	}
	return key, nil
}

// using returns a context for the use of a key that was found and verified.
func (k *Keyring) using(ctx context.Context, f keyVersion, b *blob.Blob) context.Context {
	d := b.Descriptor()
	u := Use{Key: d.Name, Version: d.Version, KeyID: d.KeyID}.with(k.recorder.about)
	if f.entry.Name != "" { // it may have been renamed
		u.Key, u.Version = f.entry.Name, f.version.Number
	}
	return WithUse(ctx, u)
}

// verifiedBlob returns a key's blob, for use with the token, see forUs.
func (k *Keyring) verifiedBlob(ctx context.Context, ref Ref) (keyVersion, *blob.Blob, error) {
	if k.pair == nil {
		return keyVersion{}, nil, errNoToken
	}
	if err := k.refresh(ctx); err != nil {
		return keyVersion{}, nil, err
	}
	f, b, err := k.loadRef(ctx, ref)
	if err == nil {
		b, err = k.blobForPair(ctx, f, b)
	}
	return f, b, err
}

// blobForPair returns a blob if the token's pair is one of its holders, or else the one that a
// recovery has made of it for the pair.
func (k *Keyring) blobForPair(ctx context.Context, f keyVersion, b *blob.Blob) (*blob.Blob, error) {
	if _, ours := k.recipient(b, string(k.self)); ours || isDerived(b) {
		return b, nil
	}
	if recovered, err := k.recovered(ctx, f, b); err != nil || recovered != nil {
		return recovered, err
	}
	return b, nil
}

// useKey calls one of two functions with a verified key: wrapped, with the key as it is wrapped to
// the token's pair, see openRevision; or value, with a key that was computed from a password, which
// is then overwritten. It returns the revision that was used.
func (k *Keyring) useKey(ctx context.Context, b *blob.Blob, wrapped func(keyspec.WrappedKey) error, value func([]byte) error) (*blob.Blob, error) {
	if isDerived(b) {
		computed, err := k.value(ctx, b)
		if err != nil {
			return nil, err
		}
		defer clear(computed)
		return b, value(computed)
	}
	return k.openRevision(ctx, b, wrapped)
}

// ownWrapped returns what in a blob is wrapped to the token's pair.
func (k *Keyring) ownWrapped(b *blob.Blob) (keyspec.WrappedKey, error) {
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

// openForFile opens the key that a file names, by its id: under the version that the file
// names, another one that a merge has given it, or from a blob that the state does not name.
func (k *Keyring) openForFile(ctx context.Context, ref Ref, id blob.ID) (*Key, error) {
	if k.pair == nil {
		return nil, errNoToken
	}
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	f, ok, err := k.versionOfFile(ctx, ref.Name, id)
	if err != nil {
		return nil, err
	}
	if ok {
		if f.version.Status == ledger.Compromised {
			k.warn(withFacts(k.compromised(ctx, f), ErrCompromised))
		}
		return k.open(ctx, f.ref())
	}
	b, err := k.unknownBlob(ctx, ref, id)
	if err != nil {
		return nil, err
	}
	if b == nil {
		if _, err := k.find(ctx, ref); err != nil {
			return nil, err
		}
		return nil, withFacts(fmt.Errorf("the file is under another key that is also called %q: %w", ref, blob.ErrNotFound), ErrOtherKeyNamed)
	}
	k.warn(withFacts(fmt.Errorf("key %q (id %v) is not in the state of this keyring: %q signed it in another copy", ref, id, k.signedBy(b.SignerKeyID()).Label), ErrNotInState))
	return k.openBlob(ctx, ref, keyVersion{}, b)
}

// recipient returns what is wrapped to a key in a blob, under the identifier in the key's present
// certificate or a former one.
func (k *Keyring) recipient(b *blob.Blob, key string) (blob.Recipient, bool) {
	all := k.members()
	if m, ok := all.Member(key); ok {
		if r, ok := b.Recipient([]byte(identifier(m))); ok {
			return r, true
		}
	}
	recipients := b.Recipients()
	i := slices.IndexFunc(recipients, func(r blob.Recipient) bool { return string(all.Key(r.Identifier)) == key })
	if i < 0 {
		return blob.Recipient{}, false
	}
	return recipients[i], true
}
