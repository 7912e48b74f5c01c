package hsmkeys

import (
	"context"
	"crypto"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
)

// loadMembers verifies the lists of members from the first to the newest, and
// returns the newest.
//
// The first list must be signed by the anchor, a key that did not come from the
// storage. Each later one must be signed by an owner of the list before it, and
// hold that list's digest. So nobody enters the keyring without the signature of
// somebody who was in it.
func loadMembers(ctx context.Context, store blob.Store, anchor crypto.PublicKey) (*blob.VerifiedMembers, error) {
	newest, err := newestList(ctx, store)
	if err != nil {
		return nil, err
	}
	trusted := []crypto.PublicKey{anchor}
	var before *blob.VerifiedMembers
	for number := 1; number <= newest; number++ {
		list, err := loadList(ctx, store, number, trusted)
		if err != nil {
			return nil, fmt.Errorf("list of members %d: %w", number, err)
		}
		if before != nil {
			if err := follows(before, list); err != nil {
				return nil, fmt.Errorf("list of members %d: %w", number, err)
			}
		}
		trusted = publicKeys(list.List().Members, blob.Owner)
		before = list
	}
	if !names(trusted, anchor) {
		return nil, hint(fmt.Errorf("list of members %d: this key is not an owner of the keyring: %w", newest, blob.ErrUntrusted),
			"use the token, or the certificate, of an owner")
	}
	return before, nil
}

// newestList finds the highest number and insists that none is missing below it.
func newestList(ctx context.Context, store blob.Store) (int, error) {
	newest, count := 0, 0
	for path, err := range store.List(ctx, "keyring/") {
		if err != nil {
			return 0, fmt.Errorf("look for the list of members: %w", err)
		}
		if number, ok := blob.ParseMembersPath(path); ok {
			newest, count = max(newest, number), count+1
		}
	}
	if newest == 0 {
		return 0, hint(fmt.Errorf("no keyring in the store: %w", blob.ErrNotFound), "hsmkeys init founds one; is this the right --store?")
	}
	if count != newest {
		return 0, fmt.Errorf("%d lists of members, and the newest is number %d: %w", count, newest, blob.ErrMisplaced)
	}
	return newest, nil
}

func loadList(ctx context.Context, store blob.Store, number int, trusted []crypto.PublicKey) (*blob.VerifiedMembers, error) {
	der, err := store.Get(ctx, blob.MembersPath(number))
	if err != nil {
		return nil, err
	}
	unverified, err := blob.ParseMembers(der)
	if err != nil {
		return nil, err
	}
	list, err := unverified.Verify(trusted, number)
	if errors.Is(err, blob.ErrUntrusted) {
		return nil, hint(err, "this keyring was founded by another key, or somebody put their own list into the storage")
	}
	return list, err
}

// follows says whether a list continues the one before it.
func follows(before, list *blob.VerifiedMembers) error {
	digest := before.Digest()
	switch l := list.List(); {
	case l.KeyringID != before.List().KeyringID:
		return fmt.Errorf("it is of keyring %s, the one before of %s: %w", l.KeyringID, before.List().KeyringID, blob.ErrMisplaced)
	case subtle.ConstantTimeCompare(l.Previous, digest[:]) != 1:
		return fmt.Errorf("it follows another list than the one before it: %w", blob.ErrMisplaced)
	}
	return nil
}

func names(keys []crypto.PublicKey, key crypto.PublicKey) bool {
	for _, k := range keys {
		if e, ok := k.(interface{ Equal(crypto.PublicKey) bool }); ok && e.Equal(key) {
			return true
		}
	}
	return false
}

// Certificate is the certificate by which the list of members knows the token's
// own pair.
func (k *Keyring) Certificate() (*x509.Certificate, error) {
	if k.pair == nil {
		return nil, errNoToken
	}
	return k.members[string(k.self)].Certificate, nil // OpenKeyring insisted that it is there
}
