package hsmkeys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// chain is the lists of members from the first to the newest, verified. Nobody
// enters it without the signature of somebody who was in it.
type chain struct {
	lists  []*blob.VerifiedMembers // lists[i] has number i+1
	newest blob.MemberList

	// Who is a member, by the newest list, and who is or was one, as last known. A
	// member is known by its key exchange key, its signature by the key that signs;
	// these are the same where it has no signing key.
	members, known  map[string]blob.Member // by the key exchange key
	signers, signed map[string]blob.Member // by the key that signs
	names           names
	kept            *inventories
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

// firstFrom gives the digest of the first list, as who signs with a key vouches for
// it: the earliest list that the key has signed names the list before it by its
// digest, and so on to the first.
func firstFrom(lists []storedList, key crypto.PublicKey) (first [sha256.Size]byte, err error) {
	id, err := blob.SubjectKeyID(key)
	if err != nil {
		return first, err
	}
	var named error // what is wrong with the first list that names the key as its signer's
	for i, l := range lists {
		// The key is what vouches, under whatever name its certificate gave it then.
		v, err := l.Verify([]blob.Party{{Key: key, ID: l.SignerIdentifier()}}, i+1)
		if errors.Is(err, blob.ErrSignature) || errors.Is(err, blob.ErrUnsupported) { // somebody else's, whose certificate may have any identifier
			if named == nil && bytes.Equal(l.SignerIdentifier(), id) {
				named = inList(i+1, err)
			}
			continue
		}
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
	if named != nil {
		return first, named
	}
	return first, fmt.Errorf("none of the %d lists of members is signed by key %x: %w", len(lists), id, blob.ErrUntrusted)
}

// signsWithAnother says whether a list names a key as one that decrypts for a member
// and does not sign. Nobody has verified that list: this is good for a hint only.
func signsWithAnother(lists []storedList, key crypto.PublicKey) bool {
	id, err := blob.SubjectKeyID(key)
	if err != nil {
		return false
	}
	for i, l := range lists {
		v, err := l.VerifyDigest(l.digest, i+1) // its own: as it lies there
		if err != nil {
			continue
		}
		if m, ok := find(v.List().Members, id); ok && m.Signing != nil {
			return true
		}
	}
	return false
}

// verifyChain verifies the lists, given the digest of the first.
func verifyChain(store blob.Store, lists []storedList, first [sha256.Size]byte) (*chain, error) {
	c := &chain{
		members: map[string]blob.Member{}, known: map[string]blob.Member{},
		signers: map[string]blob.Member{}, signed: map[string]blob.Member{}, names: names{},
	}
	for i, l := range lists {
		v, err := c.verifyNext(l, i+1, first)
		if err != nil {
			return nil, inList(i+1, err)
		}
		c.lists = append(c.lists, v)
		c.newest = v.List()
		if err := c.names.add(c.newest.Members); err != nil {
			return nil, inList(i+1, err)
		}
		clear(c.members)
		clear(c.signers)
		for _, m := range c.newest.Members {
			id, signer := keyID(m), signerID(m)
			c.members[id], c.known[id] = m, m
			c.signers[signer], c.signed[signer] = m, m
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
		return l.Verify(parties(v.List().Members, blob.Owner), 1)
	}
	before := c.lists[number-2]
	v, err := l.Verify(parties(before.List().Members, blob.Owner, blob.BackupAuthority), number)
	if errors.Is(err, blob.ErrUntrusted) {
		return nil, hint(c.former(err, l.SignerIdentifier()), "only an owner of the list before it may sign a list of members, or in a recovery a backup authority")
	}
	if err != nil {
		return nil, err
	}
	return v, c.follows(before, v)
}

// former says of a signer who is not trusted that it once was, or that the key is one
// which decrypts for a member.
func (c *chain) former(err error, identifier []byte) error {
	signer := c.names.key(identifier)
	was, signed := c.signed[string(signer)]
	switch now, stays := c.members[string(signer)]; {
	case stays: // and it is not trusted, so another key signs
		return fmt.Errorf("that is the key exchange key of %q, who signs with another key: %w", now.Label, err)
	case !signed:
		return err
	}
	if now, stays := c.members[keyID(was)]; stays {
		return fmt.Errorf("%q signs with another key by now: %w", now.Label, err)
	}
	return fmt.Errorf("%q is no member any more: %w", was.Label, err)
}

// follows says whether a list continues the one before it, and whether its signer
// may do what it does.
func (c *chain) follows(before, list *blob.VerifiedMembers) error {
	digest := before.Digest()
	l := list.List()
	signer := c.signers[string(list.SignerKeyID())]
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
		case ok && same(was, m):
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

// leftAt is the number of the first list after the last one that names a key, or 0.
// Which of the members' keys is meant, [keyID] or [signerID] says.
func (c *chain) leftAt(id []byte, of func(blob.Member) string) int {
	for i := len(c.lists) - 1; i >= 0; i-- {
		if slices.ContainsFunc(c.lists[i].List().Members, func(m blob.Member) bool { return of(m) == string(id) }) {
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

// same says whether nothing about a member has changed. Of certificates, what they
// say besides their key matters too, such as the OAEP hash to wrap with.
func same(a, b blob.Member) bool {
	return a.Role == b.Role && a.Label == b.Label && a.Certificate.Equal(b.Certificate) && a.Signing.Equal(b.Signing)
}

// keyID is the subject key identifier of a member's key exchange key. The member is
// of a list that was verified, so it has one.
func keyID(m blob.Member) string {
	id, _ := blob.SubjectKeyID(m.Certificate.PublicKey)
	return string(id)
}

// signerID is the subject key identifier of the key with which a member signs.
func signerID(m blob.Member) string {
	id, _ := blob.SubjectKeyID(m.Signer())
	return string(id)
}

// parties are the keys with which the members with one of the roles sign.
func parties(members []blob.Member, roles ...blob.Role) []blob.Party {
	var all []blob.Party
	for _, m := range members {
		if slices.Contains(roles, m.Role) {
			all = append(all, blob.Party{Key: m.Signer(), ID: []byte(identifier(signingCertificate(m)))})
		}
	}
	return all
}
