package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token"
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
	return again(ctx, k, func() (Entry, error) { return k.createOnce(ctx, d, make) })
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
	err = k.recordEdit(ctx, creates(d.Name, k.version(b, list)), inFile)
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

// discard removes a blob that was stored and is not in the state.
func (k *Keyring) discard(ctx context.Context, b *blob.Blob) error {
	_ = k.storing.end(b) // whether it came to that or not
	return k.store.Delete(context.WithoutCancel(ctx), blobPath(b))
}

func blobPath(b *blob.Blob) string {
	d := b.Descriptor()
	return blob.KeyPath(d.Name, d.Version, d.Revision, b.Digest())
}

// Rotate makes the next version of a key: a new session key with the algorithm
// and purpose of the current version; for a key from a password, with the same
// password and a new salt. When others rotate the same key at the same time, each
// gets a version of its own.
func (k *Keyring) Rotate(ctx context.Context, name string) (Entry, error) {
	return k.rotate(ctx, name, nil)
}

// rotate is Rotate with a new password, or nil.
func (k *Keyring) rotate(ctx context.Context, name string, password []byte) (Entry, error) {
	if err := k.refresh(ctx); err != nil {
		return Entry{}, err
	}
	if err := k.mustOwn("rotate a key"); err != nil {
		return Entry{}, err
	}
	return again(ctx, k, func() (Entry, error) { return k.rotateOnce(ctx, name, password) })
}

func (k *Keyring) rotateOnce(ctx context.Context, name string, password []byte) (Entry, error) {
	f, model, err := k.model(ctx, name)
	if err != nil {
		return Entry{}, err
	}
	b, edit, err := k.nextVersion(ctx, f, model, password)
	if err != nil {
		return Entry{}, fmt.Errorf("rotate key %q: %w", name, err)
	}
	defer k.storing.end(b)
	err = k.recordEdit(ctx, edit, onToken)
	if isStale(err) {
		return Entry{}, errors.Join(err, k.discard(ctx, b))
	}
	if err != nil {
		return Entry{}, fmt.Errorf("rotate key %q: %w", name, err)
	}
	return k.entry(b), nil
}

// model returns what the next version of a key is to be like: the current version, or the
// newest where none encrypts, as of a name that came with a merge.
func (k *Keyring) model(ctx context.Context, name string) (found, *blob.Blob, error) {
	e, err := k.entryNamed(ctx, name)
	if err != nil {
		return found{}, nil, err
	}
	ref := Ref{Name: name, Version: e.Current}
	if e.Current == 0 {
		ref.Version = highest(e)
	}
	return k.loadRef(ctx, ref)
}

// nextVersion makes the next version of a key, and the edit that records it.
func (k *Keyring) nextVersion(ctx context.Context, f found, model *blob.Blob, password []byte) (*blob.Blob, ledger.Edit, error) {
	digest := model.Digest()
	last, list := highest(f.entry), k.ListNumber()
	d := blob.Descriptor{Name: f.entry.Name, Version: last + 1, Purpose: model.Descriptor().Purpose, Replaces: digest[:]}
	b, err := k.makeLike(ctx, d, model, password)
	if err != nil {
		return nil, ledger.Edit{}, err
	}
	return b, rotates(f.entry.Name, last, k.version(b, list)), nil
}

// makeLike makes a key of the kind of another one.
func (k *Keyring) makeLike(ctx context.Context, d blob.Descriptor, model *blob.Blob, password []byte) (*blob.Blob, error) {
	derivation, ok := model.Derivation()
	switch {
	case ok:
		return k.deriveLike(ctx, d, model, derivation.KDF, password)
	case password != nil:
		return nil, fmt.Errorf("the key is a stored one, not from a password: %w", ErrDerivation)
	case model.Algorithm().IsLegacy():
		return nil, withFacts(fmt.Errorf("no new %v keys are made: %w", model.Algorithm(), ErrPurpose), ErrLegacyNew)
	}
	return k.make(ctx, d, model.Algorithm())
}

// make stores a new session key as the first revision of what the descriptor says. A
// key that is lost with its token before it is stored is made anew.
func (k *Keyring) make(ctx context.Context, d blob.Descriptor, algorithm keyspec.Algorithm) (*blob.Blob, error) {
	b, err := k.makeOnce(ctx, d, algorithm)
	for try := 1; try < lostTries && errors.Is(err, keyspec.ErrLost) && ctx.Err() == nil; try++ {
		b, err = k.makeOnce(ctx, d, algorithm)
	}
	return b, err
}

func (k *Keyring) makeOnce(ctx context.Context, d blob.Descriptor, algorithm keyspec.Algorithm) (*blob.Blob, error) {
	key, err := k.pair.Generate(ctx, d.Key(algorithm))
	if err != nil {
		return nil, err
	}
	defer key.Close()
	return k.sealNew(ctx, d, algorithm, key)
}

// sealNew is seal for the first revision of a key.
func (k *Keyring) sealNew(ctx context.Context, d blob.Descriptor, algorithm keyspec.Algorithm, key keyspec.Transit) (_ *blob.Blob, err error) {
	if d.CheckValue, err = key.CheckValue(ctx); err != nil {
		return nil, err
	}
	if d.Legacy == nil {
		if d.Confirmation, err = key.Confirmation(ctx); err != nil {
			return nil, err
		}
	}
	if d.KeyID, err = randomID(k.pair); err != nil {
		return nil, err
	}
	d.KeyringID, d.Revision, d.Created = k.ID(), 1, time.Now()
	return k.seal(ctx, d, algorithm, key)
}

// seal wraps a session key to today's members, signs the blob and stores it. Members that
// cannot hold the key are skipped, as those with an EC pair cannot hold a short key; the
// owner that a recovery is for is not. What is wrapped to the token's own pair is read back
// before anything is signed; the rest only its holders can open.
func (k *Keyring) seal(ctx context.Context, d blob.Descriptor, algorithm keyspec.Algorithm, key keyspec.Transit) (*blob.Blob, error) {
	content := blob.Content{Algorithm: algorithm}
	what := d.Key(algorithm)
	for _, m := range k.Members() {
		if !what.WrapsTo(m.Certificate.PublicKey) {
			if d.Recovery != nil && keyID(m) == keyID(k.members().RecoveredTo(d.Recovery.List)) {
				return nil, withFacts(fmt.Errorf("wrap to %q: a key of %d bytes cannot be wrapped to an EC pair: %w", m.Label, what.Size, errors.ErrUnsupported), ErrShortKey)
			}
			continue
		}
		r, err := wrapTo(ctx, key, m)
		if err != nil {
			return nil, fmt.Errorf("wrap to %q: %w", m.Label, err)
		}
		if keyID(m) == string(k.self) && !k.options.NoReadBack {
			if err := k.pair.ReadBack(ctx, key, wrappedTo(r, what, d)); err != nil {
				return nil, err
			}
		}
		content.Recipients = append(content.Recipients, r)
	}
	return k.put(ctx, d, content)
}

// put signs a blob, and begins to store it: storing.end waits for that. It counts once the
// state names it.
func (k *Keyring) put(ctx context.Context, d blob.Descriptor, content blob.Content) (*blob.Blob, error) {
	b, err := blob.Sign(d, content, k.signs(), time.Now())
	if err != nil {
		return nil, err
	}
	k.storing.begin(ctx, k.store, b)
	return b, nil
}

func wrapTo(ctx context.Context, key keyspec.Transit, m blob.Member) (blob.Recipient, error) {
	id, err := blob.Identifier(m.Certificate)
	if err != nil {
		return blob.Recipient{}, err
	}
	wrapped, err := key.Wrap(ctx, m.Certificate.PublicKey, token.CertifiedOAEPHash(m.Certificate))
	if err != nil {
		return blob.Recipient{}, err
	}
	return blob.Recipient{Identifier: id, Key: wrapped}, nil
}
