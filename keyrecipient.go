package hsmkeys

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"filippo.io/age"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Recipient returns an age recipient that encrypts under the key, whose purpose must be to wrap
// keys.
func (key *Key) Recipient(ctx context.Context) age.Recipient { return &recipient{ctx, key} }

// A recipient carries the context, as age's interfaces have none.
type recipient struct {
	ctx context.Context
	key *Key
}

func (r *recipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	e := r.key.Entry
	if err := errors.Join(r.key.wrapsKeys(), r.key.keyring.mayEncryptUnder(r.ctx, r.key.found)); err != nil {
		return nil, err
	}
	r.key.keyring.warnOfExpiry(r.key.found)
	wrapped, err := r.key.wrap(r.ctx, fileKey)
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", e.Name, err)
	}
	return []*age.Stanza{{
		Type: stanzaType,
		Args: []string{e.Name, strconv.Itoa(e.Version), base64.RawStdEncoding.EncodeToString(r.key.id[:])},
		Body: wrapped,
	}}, nil
}

// wrap wraps a file key and unwraps it again: otherwise nobody would notice that a file cannot be
// decrypted before it is needed.
func (key *Key) wrap(ctx context.Context, fileKey []byte) ([]byte, error) {
	wrapped, err := key.WrapData(ctx, fileKey)
	if err != nil {
		return nil, err
	}
	again, err := key.UnwrapData(ctx, wrapped)
	if err != nil {
		return nil, fmt.Errorf("read back the wrapped file key: %w", err)
	}
	defer clear(again)
	if subtle.ConstantTimeCompare(again, fileKey) != 1 {
		return nil, fmt.Errorf("read back the wrapped file key: another one came out: %w", keyspec.ErrWrapped)
	}
	return wrapped, nil
}

// Identity returns an age identity that opens the key that a file names.
func (k *Keyring) Identity(ctx context.Context) age.Identity { return &identity{ctx, k} }

type identity struct {
	ctx     context.Context
	keyring *Keyring
}

func (i *identity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
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
func (i *identity) unwrap(s *age.Stanza) ([]byte, error) {
	ref, id, err := parseStanza(s)
	if err != nil {
		return nil, err
	}
	key, err := i.keyring.openForFile(i.ctx, ref, id)
	if errors.Is(err, ErrPurpose) { // Encrypt never makes such a file
		err = fmt.Errorf("%w: %w", err, blob.ErrIntegrity)
	}
	if err != nil {
		return nil, err
	}
	defer key.Close()
	if err := key.wrapsKeys(); err != nil { // nor so
		return nil, fmt.Errorf("%w: %w", err, blob.ErrIntegrity)
	}
	fileKey, err := key.UnwrapData(i.ctx, s.Body)
	if errors.Is(err, keyspec.ErrWrapped) {
		return nil, fmt.Errorf("%w: %w", err, blob.ErrIntegrity)
	}
	return fileKey, err
}

// maxStanzas is how many hsmkeys stanzas are tried for one file: each costs two operations of the
// token, and anybody can write a header.
const maxStanzas = 16
