package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/token"
)

// Create makes a session key on the token, has the token wrap it to every member
// and sign the blob, and stores the blob durably. It refuses with
// [blob.ErrExists] when there is a key of that name.
//
// Purpose 0 is the usual one for the algorithm: [blob.WrapKeys] for AES, which
// is what files are encrypted under, [blob.Authenticate] for HMAC.
func (k *Keyring) Create(ctx context.Context, name string, algorithm blob.Algorithm, purpose blob.Purpose) (Entry, error) {
	if err := k.mustOwn("create a key"); err != nil {
		return Entry{}, err
	}
	taken := hint(fmt.Errorf("create key %q: %w", name, blob.ErrExists), "hsmkeys rotate makes a new version of it")
	switch all, err := k.list(ctx, name); { // before the token makes a key for nothing
	case err != nil:
		return Entry{}, err
	case len(all) > 0:
		return Entry{}, taken
	}
	if purpose == 0 {
		purpose = blob.WrapKeys
		if algorithm.IsHMAC() {
			purpose = blob.Authenticate
		}
	}
	b, err := k.make(ctx, blob.Descriptor{Name: name, Version: 1, Purpose: purpose}, algorithm)
	if errors.Is(err, blob.ErrExists) { // somebody was faster
		return Entry{}, taken
	}
	if err != nil {
		return Entry{}, fmt.Errorf("create key %q: %w", name, err)
	}
	return k.entry(b), nil
}

// Rotate makes the next version of a key: a new session key with the algorithm
// and purpose of the newest version. When others rotate the same key at the same
// time, each gets a version of its own.
func (k *Keyring) Rotate(ctx context.Context, name string) (Entry, error) {
	if err := k.mustOwn("rotate a key"); err != nil {
		return Entry{}, err
	}
	for {
		newest, err := k.loadRef(ctx, Ref{Name: name})
		if err != nil {
			return Entry{}, err
		}
		digest := newest.Digest()
		b, err := k.make(ctx, blob.Descriptor{
			Name: name, Version: newest.Descriptor().Version + 1,
			Purpose: newest.Descriptor().Purpose, Replaces: digest[:],
		}, newest.Algorithm())
		if errors.Is(err, blob.ErrExists) {
			continue // that version was taken meanwhile; the next one is free
		}
		if err != nil {
			return Entry{}, fmt.Errorf("rotate key %q: %w", name, err)
		}
		return k.entry(b), nil
	}
}

// make stores a new session key as the first revision of what the descriptor says. A
// key that is lost with its token before it is stored is made anew.
func (k *Keyring) make(ctx context.Context, d blob.Descriptor, algorithm blob.Algorithm) (*blob.Blob, error) {
	b, err := k.makeOnce(ctx, d, algorithm)
	for try := 1; try < lostTries && errors.Is(err, token.ErrLost) && ctx.Err() == nil; try++ {
		b, err = k.makeOnce(ctx, d, algorithm)
	}
	return b, err
}

func (k *Keyring) makeOnce(ctx context.Context, d blob.Descriptor, algorithm blob.Algorithm) (*blob.Blob, error) {
	key, err := k.pair.Generate(ctx, spec(algorithm, d.Purpose))
	if err != nil {
		return nil, err
	}
	defer key.Close()
	if d.CheckValue, err = key.CheckValue(ctx); err != nil {
		return nil, err
	}
	if d.KeyID, err = randomID(k.token); err != nil {
		return nil, err
	}
	d.KeyringID, d.Revision, d.Created = k.ID(), 1, time.Now()
	return k.seal(ctx, d, algorithm, key)
}

// seal wraps a session key to today's members, signs the blob and stores it.
func (k *Keyring) seal(ctx context.Context, d blob.Descriptor, algorithm blob.Algorithm, key token.Transit) (*blob.Blob, error) {
	content := blob.Content{Algorithm: algorithm}
	for _, m := range k.chain.newest.Members {
		r, err := wrapTo(ctx, key, m)
		if err != nil {
			return nil, fmt.Errorf("wrap to %q: %w", m.Label, err)
		}
		content.Recipients = append(content.Recipients, r)
	}
	b, err := blob.Sign(d, content, k.pair.Signing(), scheme(k.pair), time.Now())
	if err != nil {
		return nil, err
	}
	return b, k.store.Put(ctx, blob.KeyPath(d.Name, d.Version, d.Revision), b.Bytes())
}

func wrapTo(ctx context.Context, key token.Transit, m blob.Member) (blob.Recipient, error) {
	id, err := blob.SubjectKeyID(m.Certificate.PublicKey)
	if err != nil {
		return blob.Recipient{}, err
	}
	wrapped, err := key.Wrap(ctx, m.Certificate.PublicKey, token.CertifiedOAEPHash(m.Certificate))
	if err != nil {
		return blob.Recipient{}, err
	}
	r := blob.Recipient{SubjectKeyID: id}
	if wrapped.Ephemeral != nil {
		r.Agreement = &blob.KeyAgreement{Ephemeral: wrapped.Ephemeral, EncryptedKey: wrapped.Key}
	} else {
		r.Transport = &blob.KeyTransport{OAEPHash: wrapped.Hash, EncryptedKey: wrapped.Key}
	}
	return r, nil
}

// spec translates what a blob says of its key into what a token is asked for.
func spec(algorithm blob.Algorithm, purpose blob.Purpose) token.Spec {
	uses := map[blob.Purpose]token.Use{
		blob.WrapKeys: token.WrapKeys, blob.Encrypt: token.EncryptData, blob.Authenticate: token.Authenticate,
	}
	return token.Spec{Use: uses[purpose], Size: algorithm.KeySize()}
}
