package hsmkeys

import (
	"context"
	"errors"
	"io"

	"filippo.io/age"
)

// Decrypt reads an age file that was encrypted under a key of this keyring. What the reader returns
// is authentic, in chunks of 64 KiB; the file is complete only if the reader returns io.EOF. Its
// errors are [blob.ErrIntegrity] for a file that is damaged, and [blob.ErrNotFound] for one that is
// under no key of this keyring. It reads the binary format; use [Dearmor] for files that may be in
// ASCII armor.
func (k *Keyring) Decrypt(ctx context.Context, src io.Reader) (io.Reader, error) {
	i := k.fileIdentity(ctx)
	return decrypt(src, i, i.fileUse)
}

// DecryptWithIdentity is [Keyring.Decrypt] with any identity, such as one that opens the keys of a keyring
// which another process has.
func DecryptWithIdentity(ctx context.Context, identity age.Identity, src io.Reader) (io.Reader, error) {
	return decrypt(src, identity, newFileUse(ctx, recorder{}))
}

func decrypt(src io.Reader, identity age.Identity, use *fileUse) (io.Reader, error) {
	source := &sourceReader{src: src}
	plain, err := age.Decrypt(source, markedIdentity{identity})
	if err != nil {
		return nil, use.end(source.classify(err))
	}
	return &plainReader{plain, source, use}, nil
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
