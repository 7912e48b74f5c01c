package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token"
)

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

// seal wraps a session key to the members of the list in force, signs the blob and stores it.
// Members that cannot hold the key are skipped, as those with an EC pair cannot hold a short key;
// the owner that a recovery is for is not. What is wrapped to the token's own pair is read back
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
	if err := k.recorder.begin(intentOf(ctx), Use{Version: d.Version, KeyID: d.KeyID}); err != nil {
		return nil, err
	}
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
