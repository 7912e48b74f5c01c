package hsmkeys

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"filippo.io/age"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Files are age v1 files (age-encryption.org/v1). One stanza of ours holds the
// file key:
//
//	-> hsmkeys NAME VERSION KEY-ID
//	AES-KEY-WRAP(session key, file key)
//
// with the key id in unpadded base64 and the 16-byte file key wrapped with AES
// key wrap (RFC 3394) in the token, 24 bytes. Stanzas of other recipients may
// stand beside it.
const stanzaType = "hsmkeys"

// maxStanzas bounds how many stanzas of ours are tried for one file: each costs
// two operations of the token, and the header is anybody's to write.
const maxStanzas = 16

// Encrypt encrypts what is written to it into an age file on dst, under the newest
// version of each of the named keys, any of which opens it, and for further age
// recipients. The caller closes it; without that the file is not complete.
func (k *Keyring) Encrypt(ctx context.Context, dst io.Writer, refs []Ref, others ...age.Recipient) (io.WriteCloser, error) {
	recipients := slices.Clone(others)
	for _, ref := range refs {
		key, err := k.Open(ctx, ref)
		if err != nil {
			return nil, err
		}
		defer key.Close() // age is done with the key when it has written the header
		if err := errors.Join(key.wrapsKeys(), key.refused); err != nil {
			return nil, err
		}
		recipients = append(recipients, key.Recipient(ctx))
	}
	return age.Encrypt(dst, recipients...)
}

// Decrypt reads an age file that was encrypted under a key of this keyring. What
// the reader gives is authentic, in chunks of 64 KiB; that the file is complete
// is known when it gives io.EOF. Its errors are [blob.ErrIntegrity] for a file
// that is damaged, and [blob.ErrNotFound] for one that is under no key of this
// keyring. It reads the binary format; use [Dearmor] for files that may be in ASCII armor.
func (k *Keyring) Decrypt(ctx context.Context, src io.Reader) (io.Reader, error) {
	return decrypt(src, k.Identity(ctx))
}

func decrypt(src io.Reader, identity age.Identity) (io.Reader, error) {
	source := &sourceReader{src: src}
	plain, err := age.Decrypt(source, ours{identity})
	if err != nil {
		return nil, source.classify(err)
	}
	return &plainReader{plain, source}, nil
}

// ours marks what an identity of ours says, so that it is not taken for what age says of
// a file.
type ours struct{ age.Identity }

func (o ours) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	fileKey, err := o.Identity.Unwrap(stanzas)
	if err != nil && !errors.Is(err, age.ErrIncorrectIdentity) {
		err = &ourError{err}
	}
	return fileKey, err
}

type ourError struct{ error }

func (e *ourError) Unwrap() error { return e.error }

// ErrPurpose is for a key that is not for what is asked of it.
var ErrPurpose = errors.New("the key has another purpose")

// WrapsKeys says whether files can be under the key. If not, it is an [ErrPurpose].
func (e Entry) WrapsKeys() error {
	if e.Purpose == keyspec.WrapKeys.String() {
		return nil
	}
	return withFacts(fmt.Errorf("key %q, for %q: %w", e.Name, e.Purpose, ErrPurpose), ErrFilePurpose)
}

func (key *Key) wrapsKeys() error { return key.Entry.WrapsKeys() }

// Recipient lets age encrypt under the key. It must be a key that wraps keys.
func (key *Key) Recipient(ctx context.Context) age.Recipient { return &recipient{ctx, key} }

// age's interfaces carry no context, so these do.
type recipient struct {
	ctx context.Context
	key *Key
}

func (r *recipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	e := r.key.Entry
	if err := errors.Join(r.key.wrapsKeys(), r.key.refused); err != nil {
		return nil, err
	}
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

// wrap wraps a file key, and unwraps it again: a file whose key does not come out again is
// lost, and nobody would notice before it is needed.
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

// Identity lets age decrypt with the keys of the keyring: it opens the key that a
// file names.
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
			missing = err // another keyring's, perhaps; the next one may be ours
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
	if errors.Is(err, ErrPurpose) { // no file of ours says so
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

// StanzaKey gives the name of the key that a stanza says it is under, and whether it is
// one of ours. The name proves nothing.
func StanzaKey(s *age.Stanza) (name string, ok bool) {
	if s.Type == stanzaType && len(s.Args) > 0 {
		name = s.Args[0]
	}
	return name, s.Type == stanzaType
}

func parseStanza(s *age.Stanza) (Ref, blob.ID, error) {
	var id blob.ID
	malformed := func(what string) (Ref, blob.ID, error) {
		return Ref{}, id, fmt.Errorf("hsmkeys stanza: %s: %w", what, blob.ErrMalformed)
	}
	if len(s.Args) != 3 || len(s.Body) != 24 {
		return malformed("it does not have three arguments and a body of 24 bytes")
	}
	ref, err := ParseRef(s.Args[0] + "@" + s.Args[1])
	if err != nil {
		return malformed("its key name or version is not valid")
	}
	raw, err := base64.RawStdEncoding.Strict().DecodeString(s.Args[2])
	if err != nil || len(raw) != len(id) {
		return malformed("its key id is not 16 bytes in base64")
	}
	return ref, blob.ID(raw), nil
}

// sourceReader remembers an error of the source, so that a disk that fails is not
// taken for a file that is damaged.
type sourceReader struct {
	src io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.src.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// classify finds out what an error of age's means.
func (s *sourceReader) classify(err error) error {
	var own *ourError
	switch {
	case s.err != nil && !errors.Is(s.err, blob.ErrIntegrity): // or else it is of Dearmor
		return fmt.Errorf("read the file: %w", s.err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &own):
		return own.error
	default:
		if !errors.Is(err, blob.ErrIntegrity) {
			err = fmt.Errorf("%w: %w", err, blob.ErrIntegrity)
		}
		return fmt.Errorf("not an intact age file: %w", err)
	}
}

type plainReader struct {
	plain  io.Reader
	source *sourceReader
}

func (r *plainReader) Read(p []byte) (int, error) {
	n, err := r.plain.Read(p)
	if err != nil && err != io.EOF {
		err = r.source.classify(err)
	}
	return n, err
}
