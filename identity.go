package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"filippo.io/age"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Identity returns an age identity that opens the key that a file names.
func (k *Keyring) Identity(ctx context.Context) age.Identity { return &identity{ctx, k} }

type identity struct {
	ctx     context.Context
	keyring *Keyring
}

func (i *identity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	return i.keyring.fileIdentity(i.ctx).Unwrap(stanzas)
}

// A fileIdentity is an identity for one file.
type fileIdentity struct {
	*fileUse
	keyring *Keyring
}

func (k *Keyring) fileIdentity(ctx context.Context) *fileIdentity {
	return &fileIdentity{newFileUse(ctx, k.recorder), k}
}

func (i *fileIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	fileKey, err := i.unwrapOne(stanzas)
	return i.opened(fileKey, err)
}

func (i *fileIdentity) unwrapOne(stanzas []*age.Stanza) ([]byte, error) {
	var missing error
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
		return fileKey, err
	}
	if missing != nil {
		return nil, missing
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
	key, err := i.keyring.openForFile(i.ctx, ref, id)
	if errors.Is(err, ErrPurpose) { // Encrypt never makes such a file
		err = fmt.Errorf("%w: %w", err, blob.ErrIntegrity)
	}
	if err != nil {
		return nil, err
	}
	defer key.Close()
	i.ctx = key.using(i.ctx, OpDecrypt)
	if err := key.wrapsKeys(); err != nil { // nor so
		return nil, fmt.Errorf("%w: %w", err, blob.ErrIntegrity)
	}
	fileKey, err := key.raw.UnwrapData(i.ctx, s.Body)
	if errors.Is(err, keyspec.ErrWrapped) {
		return nil, fmt.Errorf("%w: %w", err, blob.ErrIntegrity)
	}
	return fileKey, err
}

// maxStanzas is how many hsmkeys stanzas are tried for one file: each costs two operations of the
// token, and anybody can write a header.
const maxStanzas = 16
