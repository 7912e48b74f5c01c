package hsmkeys

import (
	"context"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A Reencryption is how a file is to be encrypted anew.
type Reencryption struct {
	Keys    []Ref           // of this keyring that the file is under, in the versions that encrypt now
	Current bool            // the file is under these very versions already
	Others  []FileRecipient // of the file, who are no keys of this keyring: only they know how to encrypt to them
}

// Reencryption returns under which keys a file is to be encrypted anew that has these recipients: the
// newest version of each of its keys, whatever they are called now. Keys that were destroyed are left
// out. The error is a [blob.ErrNotFound] if no key of the keyring is among the recipients.
func (k *Keyring) Reencryption(ctx context.Context, recipients []FileRecipient) (Reencryption, error) {
	if err := k.refresh(ctx); err != nil {
		return Reencryption{}, err
	}
	r := Reencryption{Current: true}
	var destroyed error
	found := false
	for _, recipient := range recipients {
		f, ok, err := keyVersion{}, false, error(nil)
		if recipient.Key.Name != "" {
			f, ok, err = k.versionOfFile(ctx, recipient.Key.Name, recipient.KeyID)
		}
		switch {
		case err != nil:
			return r, err
		case !ok:
			r.Others = append(r.Others, recipient)
			continue
		}
		found = true
		if f.version.Status == ledger.Destroyed {
			destroyed = inVersion(f.entry.Name, f.version, k.destroyed(ctx, f))
			r.Current = false
			continue
		}
		now, err := k.find(ctx, Ref{Name: f.entry.Name})
		if err != nil {
			return r, err
		}
		if r.Current = r.Current && now.version.Number == f.version.Number && recipient.Key.Name == f.entry.Name; !slices.Contains(r.Keys, now.ref()) {
			r.Keys = append(r.Keys, now.ref())
		}
	}
	switch {
	case !found:
		return r, fmt.Errorf("the file is under no key of this keyring: %w", blob.ErrNotFound)
	case len(r.Keys) == 0:
		return r, destroyed
	}
	return r, nil
}
