package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Encrypt encrypts what is written to it into an age file on dst, under the newest version of each
// of the named keys, any of which opens it, and for further age recipients. The caller must close
// it, or the file is incomplete; Close fails if one of the keys was destroyed meanwhile, or its status
// set so that it encrypts nothing.
func (k *Keyring) Encrypt(ctx context.Context, dst io.Writer, refs []Ref, others ...age.Recipient) (io.WriteCloser, error) {
	recipients := slices.Clone(others)
	var found []keyVersion
	for _, ref := range refs {
		key, err := k.Open(ctx, ref)
		if err != nil {
			return nil, err
		}
		defer key.Close() // age is done with the key when it has written the header
		if err := errors.Join(key.wrapsKeys(), k.mayEncryptUnder(ctx, key.found)); err != nil {
			return nil, err
		}
		recipients = append(recipients, key.Recipient(ctx))
		found = append(found, key.found)
	}
	w, err := age.Encrypt(dst, recipients...)
	if err != nil {
		return nil, err
	}
	return &encryption{w, ctx, k, found}, nil
}

// An encryption is a file that is being encrypted.
type encryption struct {
	io.WriteCloser
	ctx     context.Context
	keyring *Keyring
	under   []keyVersion
}

// Close completes the file, unless one of its keys was destroyed or compromised, or deactivated, since
// Encrypt was called: nobody has to find that out when the file is needed.
func (e *encryption) Close() error {
	if err := e.keyring.refresh(e.ctx); err != nil {
		return err
	}
	for _, was := range e.under {
		now, ok, err := e.keyring.versionWithID(e.ctx, was.entry.Name, was.version.KeyID)
		if err == nil && !ok {
			err = fmt.Errorf("key %q: %w", was.ref(), blob.ErrNotFound)
		}
		if err == nil {
			err = e.keyring.mayEncryptUnder(e.ctx, now)
		}
		if err != nil {
			return fmt.Errorf("the file is not complete: %w", err)
		}
	}
	return e.WriteCloser.Close()
}

// Decrypt reads an age file that was encrypted under a key of this keyring. What the reader returns
// is authentic, in chunks of 64 KiB; the file is complete only if the reader returns io.EOF. Its
// errors are [blob.ErrIntegrity] for a file that is damaged, and [blob.ErrNotFound] for one that is
// under no key of this keyring. It reads the binary format; use [Dearmor] for files that may be in
// ASCII armor.
func (k *Keyring) Decrypt(ctx context.Context, src io.Reader) (io.Reader, error) {
	return decrypt(src, k.Identity(ctx))
}

func decrypt(src io.Reader, identity age.Identity) (io.Reader, error) {
	source := &sourceReader{src: src}
	plain, err := age.Decrypt(source, markedIdentity{identity})
	if err != nil {
		return nil, source.classify(err)
	}
	return &plainReader{plain, source}, nil
}

// A markedIdentity marks the errors of an identity of this package, so that they are not taken for
// age's errors about the file.
type markedIdentity struct{ age.Identity }

func (o markedIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	fileKey, err := o.Identity.Unwrap(stanzas)
	if err != nil && !errors.Is(err, age.ErrIncorrectIdentity) {
		err = &identityError{err}
	}
	return fileKey, err
}

type identityError struct{ error }

func (e *identityError) Unwrap() error { return e.error }

// ErrPurpose is the error for a key whose purpose does not allow what was asked.
var ErrPurpose = errors.New("the key has another purpose")

// WrapsKeys returns an [ErrPurpose] unless files can be encrypted under the key.
func (e Entry) WrapsKeys() error {
	if e.Purpose == keyspec.WrapKeys.String() {
		return nil
	}
	return withFacts(fmt.Errorf("key %q, for %q: %w", e.Name, e.Purpose, ErrPurpose), ErrFilePurpose)
}

func (key *Key) wrapsKeys() error { return key.Entry.WrapsKeys() }

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

// classify returns what an error of package age means for the file.
func (s *sourceReader) classify(err error) error {
	var own *identityError
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
