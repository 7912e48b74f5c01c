package hsmkeys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"filippo.io/age"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Identity returns an age identity that opens the key that a file names.
func (k *Keyring) Identity(ctx context.Context) age.Identity { return &identity{ctx, k, nil} }

// IdentityIf is [Keyring.Identity] for the keys for whose name allow returns nil. It is asked for the name
// in the file, and for the one that the keyring has for the key today.
func (k *Keyring) IdentityIf(ctx context.Context, allow func(key string) error) age.Identity {
	return &identity{ctx, k, allow}
}

type identity struct {
	ctx     context.Context
	keyring *Keyring
	allow   func(key string) error // nil for every key
}

func (i *identity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	file := i.keyring.fileIdentity(i.ctx)
	if i.allow != nil {
		file.allow = i.allow
	}
	return file.Unwrap(stanzas)
}

// A fileIdentity is an identity for one file.
type fileIdentity struct {
	*fileUse
	keyring *Keyring
	allow   func(key string) error
}

func (k *Keyring) fileIdentity(ctx context.Context) *fileIdentity {
	return &fileIdentity{newFileUse(ctx, k.recorder), k, func(string) error { return nil }}
}

func (i *fileIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	fileKey, err := i.unwrapOne(stanzas)
	return i.opened(fileKey, err)
}

func (i *fileIdentity) unwrapOne(stanzas []*age.Stanza) ([]byte, error) {
	var missing, forbidden error
	tried := 0
	for _, s := range stanzas {
		if s.Type != stanzaType {
			continue
		}
		if tried++; tried > maxStanzas {
			return nil, fmt.Errorf("more than %d hsmkeys stanzas: %w", maxStanzas, blob.ErrIntegrity)
		}
		fileKey, err := i.unwrap(s)
		if errors.Is(err, blob.ErrNotFound) {
			missing = err // another keyring's, perhaps; the next one may open
			continue
		}
		if refused := (*notAllowed)(nil); errors.As(err, &refused) {
			forbidden = refused.error
			continue
		}
		return fileKey, err
	}
	if err := cmp.Or(forbidden, missing); err != nil {
		return nil, err
	}
	what := ErrFileOfOthers
	if slices.ContainsFunc(stanzas, IsPairStanza) {
		what = ErrFileToPair
	}
	return nil, withFacts(fmt.Errorf("the file has no hsmkeys stanza: %w", blob.ErrNotFound), what)
}

// unwrap opens the key that a stanza names. The name proves nothing: the blob has
// to verify, its key id has to be the stanza's, and the key has to unwrap the
// file key; then age holds the header's MAC against the file key.
func (i *fileIdentity) unwrap(s *age.Stanza) ([]byte, error) {
	ref, id, err := parseStanza(s)
	if err != nil {
		return nil, err
	}
	i.ctx = WithUse(i.ctx, Use{Key: ref.Name, Version: ref.Version, KeyID: id})
	if err := i.allow(ref.Name); err != nil {
		return nil, &notAllowed{err}
	}
	key, err := i.keyring.openForFile(i.ctx, ref, id)
	if errors.Is(err, ErrPurpose) { // Encrypt never makes such a file
		err = fmt.Errorf("%w: %w", err, blob.ErrIntegrity)
	}
	if err != nil {
		return nil, err
	}
	defer key.Close()
	i.ctx = key.using(i.ctx, OpDecrypt)
	if err := i.allow(key.Entry.Name); err != nil { // it was renamed
		return nil, &notAllowed{err}
	}
	if err := key.wrapsKeys(); err != nil { // nor so
		return nil, fmt.Errorf("%w: %w", err, blob.ErrIntegrity)
	}
	fileKey, err := key.raw.UnwrapData(i.ctx, s.Body)
	if errors.Is(err, keyspec.ErrWrapped) {
		return nil, fmt.Errorf("%w: %w", err, blob.ErrIntegrity)
	}
	return fileKey, err
}

// A notAllowed is the error for a key that this identity may not open. Another one of the file may be
// allowed.
type notAllowed struct{ error }

// maxStanzas is how many hsmkeys stanzas are tried for one file: each costs two operations of the
// token, and anybody can write a header.
const maxStanzas = 16
