package hsmkeys

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A PairFinder finds the key exchange pairs on a token, as [token.Token] does.
type PairFinder[P Pair] interface {
	SeveralPairs(context.Context) (bool, error)
	KeyPairs(ctx context.Context, wanted func(crypto.PublicKey) bool) ([]P, error)
}

// PairOf returns the one of several pairs on a token that the keyring in a store knows: the
// one that has pinned it, or else the one that its newest list of members names. It is the
// zero value where that is none of them or several, where the store has no keyring, and where the
// token has only one pair to choose from.
//
// Nothing is believed here. The list may be anybody's, and it only chooses with which of
// the caller's own pairs the keyring is tried; [Open] verifies it.
func PairOf[P Pair](ctx context.Context, t PairFinder[P], store blob.Store, pins *Pins) (P, error) {
	var none P
	if several, err := t.SeveralPairs(ctx); err != nil || !several {
		return none, err
	}
	_, first, err := ledger.Peek(ctx, store)
	if errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrIntegrity) {
		return none, nil // opening the keyring says so
	}
	if err != nil {
		return none, err
	}
	var failed error
	pinned, err := t.KeyPairs(ctx, func(key crypto.PublicKey) bool {
		has, err := pins.has(ctx, key, first)
		failed = errors.Join(failed, err)
		return has
	})
	if err = errors.Join(err, failed); err != nil || len(pinned) > 0 {
		return onlyOf(pinned), err
	}
	named, err := ledger.PeekMembers(ctx, store)
	if errors.Is(err, blob.ErrIntegrity) || errors.Is(err, blob.ErrNotFound) {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	members, err := t.KeyPairs(ctx, func(key crypto.PublicKey) bool {
		id, err := blob.PublicKeyID(key)
		return err == nil && slices.ContainsFunc(named.Everybody(), func(m blob.Member) bool { return keyID(m) == string(id) })
	})
	return onlyOf(members), err
}

func onlyOf[P Pair](pairs []P) P {
	if len(pairs) == 1 {
		return pairs[0]
	}
	var none P
	return none
}

// has reports whether the pair with a public key has pinned the keyring whose first
// checkpoint has a digest.
func (p *Pins) has(ctx context.Context, key crypto.PublicKey, first [sha256.Size]byte) (bool, error) {
	id, err := blob.PublicKeyID(key)
	if err != nil {
		return false, nil // a kind of key that no list names
	}
	all, err := p.load(ctx, hex.EncodeToString(id))
	return slices.ContainsFunc(all, func(pin Pin) bool { return pin.First == first }), err
}

// Has reports whether a pair has pinned any keyring. One that has not belongs to none yet,
// as far as its token tells.
func (p *Pins) Has(ctx context.Context, pair Pair) (bool, error) {
	all, err := p.Of(ctx, pair)
	return len(all) > 0, err
}

// Of returns the pins of a pair.
func (p *Pins) Of(ctx context.Context, pair Pair) ([]Pin, error) {
	id, err := blob.PublicKeyID(pair.Public())
	if err != nil {
		return nil, err
	}
	return p.load(ctx, hex.EncodeToString(id))
}
