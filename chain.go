package hsmkeys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
)

// chain is the lists of members from the first to the newest, verified. Nobody
// enters it without the signature of somebody who was in it.
type chain struct {
	lists  []*blob.VerifiedMembers // lists[i] has number i+1
	newest blob.MemberList

	members map[string]blob.Member // of the newest list, by subject key identifier
	known   map[string]blob.Member // who is or was a member, as last known
	kept    *inventories
}

// storedList is a list as it lies in the store.
type storedList struct {
	*blob.UnverifiedMembers
	digest [sha256.Size]byte
}

// readLists reads all lists, and insists that none is missing.
func readLists(ctx context.Context, store blob.Store) ([]storedList, error) {
	newest, count := 0, 0
	for path, err := range store.List(ctx, "keyring/") {
		if err != nil {
			return nil, fmt.Errorf("look for the list of members: %w", err)
		}
		if number, ok := blob.ParseMembersPath(path); ok {
			newest, count = max(newest, number), count+1
		}
	}
	if newest == 0 {
		return nil, hint(fmt.Errorf("no keyring in the store: %w", blob.ErrNotFound), "hsmkeys init founds one; is this the right --store?")
	}
	if count != newest {
		return nil, fmt.Errorf("%d lists of members, and the newest is number %d: %w", count, newest, blob.ErrMisplaced)
	}
	lists := make([]storedList, newest)
	for i := range lists {
		der, err := store.Get(ctx, blob.MembersPath(i+1))
		if err != nil {
			return nil, inList(i+1, err)
		}
		parsed, err := blob.ParseMembers(der)
		if err != nil {
			return nil, inList(i+1, err)
		}
		lists[i] = storedList{parsed, sha256.Sum256(der)}
	}
	return lists, nil
}

func inList(number int, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("list of members %d: %w", number, err)
}

// firstFrom gives the digest of the first list, as the holder of a key vouches for
// it: the earliest list that the key has signed names the list before it by its
// digest, and so on to the first.
func firstFrom(lists []storedList, key crypto.PublicKey) (first [sha256.Size]byte, err error) {
	id, err := blob.SubjectKeyID(key)
	if err != nil {
		return first, err
	}
	for i, l := range lists {
		if !bytes.Equal(l.SignerKeyID(), id) {
			continue
		}
		v, err := l.Verify([]crypto.PublicKey{key}, i+1)
		if err != nil {
			return first, inList(i+1, err)
		}
		for i--; i >= 0; i-- {
			if v, err = lists[i].VerifyDigest([sha256.Size]byte(v.List().Previous), i+1); err != nil {
				return first, inList(i+1, err)
			}
		}
		return v.Digest(), nil
	}
	return first, fmt.Errorf("none of the %d lists of members is signed by key %x: %w", len(lists), id, blob.ErrUntrusted)
}

// verifyChain verifies the lists, given the digest of the first.
func verifyChain(store blob.Store, lists []storedList, first [sha256.Size]byte) (*chain, error) {
	c := &chain{members: map[string]blob.Member{}, known: map[string]blob.Member{}}
	for i, l := range lists {
		v, err := c.verifyNext(l, i+1, first)
		if err != nil {
			return nil, inList(i+1, err)
		}
		c.lists = append(c.lists, v)
		c.newest = v.List()
		clear(c.members)
		for _, m := range c.newest.Members {
			id := keyID(m)
			c.members[id], c.known[id] = m, m
		}
	}
	c.kept = newInventories(store, c.lists)
	return c, nil
}

// verifyNext verifies the list after those that c has.
func (c *chain) verifyNext(l storedList, number int, first [sha256.Size]byte) (*blob.VerifiedMembers, error) {
	if number == 1 {
		v, err := l.VerifyDigest(first, 1)
		if err != nil {
			return nil, err
		}
		return l.Verify(publicKeys(v.List().Members, blob.Owner), 1)
	}
	before := c.lists[number-2]
	v, err := l.Verify(publicKeys(before.List().Members, blob.Owner, blob.BackupAuthority), number)
	if errors.Is(err, blob.ErrUntrusted) {
		return nil, hint(c.former(err, l.SignerKeyID()), "only an owner of the list before it may sign a list of members, or in a recovery a backup authority")
	}
	if err != nil {
		return nil, err
	}
	return v, c.follows(before, v)
}

// former says of a signer who is not trusted that it once was.
func (c *chain) former(err error, signer []byte) error {
	if m, ok := c.known[string(signer)]; ok {
		return fmt.Errorf("%q is no member any more: %w", m.Label, err)
	}
	return err
}

// follows says whether a list continues the one before it, and whether its signer
// may do what it does.
func (c *chain) follows(before, list *blob.VerifiedMembers) error {
	digest := before.Digest()
	l := list.List()
	signer := c.members[string(list.SignerKeyID())]
	switch {
	case l.KeyringID != before.List().KeyringID:
		return fmt.Errorf("it is of keyring %s, the one before of %s: %w", l.KeyringID, before.List().KeyringID, blob.ErrMisplaced)
	case subtle.ConstantTimeCompare(l.Previous, digest[:]) != 1:
		return fmt.Errorf("it follows another list than the one before it: %w", blob.ErrMisplaced)
	case signer.Role == blob.Owner && l.Recovery != nil:
		return fmt.Errorf("the owner %q has signed a recovery, which is for a backup authority: %w", signer.Label, blob.ErrUntrusted)
	case signer.Role == blob.BackupAuthority && l.Recovery == nil:
		return fmt.Errorf("the backup authority %q has signed it outside a recovery: %w", signer.Label, blob.ErrUntrusted)
	case l.Recovery != nil:
		return c.checkRecovery(l)
	}
	return nil
}

// checkRecovery holds a list that a backup authority has signed against what a
// recovery may do: put one new owner in the place of one old owner. Everybody else
// stays as they are, or an authority could bring in whom it likes.
func (c *chain) checkRecovery(l blob.MemberList) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("not a recovery: "+format+": %w", append(args, blob.ErrUntrusted)...)
	}
	if from := c.members[string(l.Recovery.From)]; from.Role != blob.Owner {
		return refuse("key %x was not an owner's", l.Recovery.From)
	}
	added, stay := 0, 0
	for _, m := range l.Members {
		was, ok := c.members[keyID(m)]
		switch {
		case ok && was.Role == m.Role && was.Label == m.Label && was.Certificate.Equal(m.Certificate):
			stay++
		case ok:
			return refuse("it changes the member %q", was.Label)
		case m.Role != blob.Owner:
			return refuse("it brings in %q, who is no owner", m.Label)
		default:
			added++
		}
	}
	if added != 1 || stay != len(c.members)-1 { // blob has checked that the old owner is not in the list
		return refuse("%d owners come in and %d members go", added, len(c.members)-stay)
	}
	return nil
}

// recoveredTo is the new owner of a list that is a recovery.
func (c *chain) recoveredTo(number int) blob.Member {
	before := c.lists[number-2].List().Members
	for _, m := range c.lists[number-1].List().Members {
		if _, ok := find(before, []byte(keyID(m))); !ok {
			return m
		}
	}
	return blob.Member{} // checkRecovery has seen one
}

// leftAt is the number of the first list, from the given one on, that does not
// name a member, or 0.
func (c *chain) leftAt(id []byte) int {
	for i := len(c.lists) - 1; i >= 0; i-- {
		if _, ok := find(c.lists[i].List().Members, id); ok {
			if i == len(c.lists)-1 {
				return 0
			}
			return i + 2
		}
	}
	return 0
}

// since says whether somebody is a member of a list from the given number on.
func (c *chain) since(number int, id []byte) bool {
	for _, l := range c.lists[number-1:] {
		if _, ok := find(l.List().Members, id); ok {
			return true
		}
	}
	return false
}

func find(members []blob.Member, id []byte) (blob.Member, bool) {
	for _, m := range members {
		if keyID(m) == string(id) {
			return m, true
		}
	}
	return blob.Member{}, false
}

// keyID is the subject key identifier of a member of a list that was verified, so
// it has one.
func keyID(m blob.Member) string {
	id, _ := blob.SubjectKeyID(m.Certificate.PublicKey)
	return string(id)
}

// publicKeys are the keys of the members with one of the roles.
func publicKeys(members []blob.Member, roles ...blob.Role) []crypto.PublicKey {
	var keys []crypto.PublicKey
	for _, m := range members {
		for _, role := range roles {
			if m.Role == role {
				keys = append(keys, m.Certificate.PublicKey)
			}
		}
	}
	return keys
}
