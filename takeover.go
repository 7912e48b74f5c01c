package hsmkeys

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/token"
)

// Has reports whether a pair has pinned any keyring. One that has not belongs to none yet,
// as far as its token tells.
func (p *Pins) Has(ctx context.Context, pair *token.KeyPair) (bool, error) {
	id, err := blob.SubjectKeyID(pair.Public())
	if err != nil {
		return false, err
	}
	all, err := p.load(ctx, hex.EncodeToString(id))
	return len(all) > 0, err
}

// FinishFounding opens the keyring of a [Found] that was interrupted after the first list
// of members was stored, and pins that list if it is not pinned yet. The store has that list
// and nothing else, and the pair has signed it. Any other keyring is a [blob.ErrExists].
func FinishFounding(ctx context.Context, t *token.Token, pair *token.KeyPair, store blob.Store, pins *Pins) (*Keyring, error) {
	refused := fmt.Errorf("found a keyring: the store has one: %w", blob.ErrExists)
	if begun, err := BarelyFounded(ctx, store); err != nil || !begun {
		return nil, errors.Join(err, refused)
	}
	k, err := OpenKeyring(ctx, t, pair, store, pins)
	if errors.Is(err, blob.ErrUntrusted) { // somebody else's
		return nil, refused
	}
	return k, err
}

// BarelyFounded reports whether a store has a first list of members and no other object.
func BarelyFounded(ctx context.Context, store blob.Store) (bool, error) {
	only := false
	for path, err := range store.List(ctx, "") {
		if err != nil {
			return false, err
		}
		if path != blob.MembersPath(1) {
			return false, nil
		}
		only = true
	}
	return only, nil
}
