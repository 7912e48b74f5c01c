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
		key, err := k.openAs(ctx, OpEncrypt, ref)
		if err != nil {
			return nil, err
		}
		defer key.Close() // age is done with the key when it has written the header
		if err := errors.Join(key.wrapsKeys(), k.mayEncryptUnder(ctx, key.found)); err != nil {
			return nil, k.recorder.used(key.using(ctx, OpEncrypt), err)
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
	switch newer, err := e.keyring.view().HasNewer(e.ctx); {
	case err != nil:
		return err
	case !newer:
		return e.WriteCloser.Close()
	}
	if err := e.keyring.look(e.ctx); err != nil {
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
			ctx := WithUse(e.ctx, Use{Operation: OpEncrypt, Key: was.entry.Name, Version: was.version.Number, KeyID: was.version.KeyID})
			return e.keyring.recorder.used(ctx, fmt.Errorf("the file is not complete: %w", err))
		}
	}
	return e.WriteCloser.Close()
}

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
