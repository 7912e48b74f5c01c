package ledger

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Members holds the present and former members of a keyring, from all its lists of members.
// A member is identified by its key exchange key, and a signature by the signing key; the
// two are the same for a member without a separate signing key. Keys go by their [blob.PublicKeyID], as a string.
//
// It is immutable. Certificates are shared, and must not be modified.
type Members struct {
	lists []blob.MemberList // lists[i] has number i+1

	// now and signers have the members in the list in force; known and signed also have the
	// former ones, each as in the last list that names it.
	now, known      map[string]blob.Member // by the key exchange key
	signers, signed map[string]blob.Member // by the key that signs
	names           names
}

// newMembers reads lists, all from the first on, each of which is known to follow from
// the one before it.
func newMembers(lists []blob.MemberList) (*Members, error) {
	m := &Members{
		lists: lists, names: names{},
		now: map[string]blob.Member{}, known: map[string]blob.Member{},
		signers: map[string]blob.Member{}, signed: map[string]blob.Member{},
	}
	for i, l := range lists {
		if err := m.names.add(l.Everybody()); err != nil {
			return nil, fmt.Errorf("list of members %d: %w", i+1, err)
		}
		for _, member := range l.Members {
			m.known[KeyID(member)], m.signed[SignerID(member)] = member, member
		}
	}
	for _, member := range m.list().Members {
		m.now[KeyID(member)], m.signers[SignerID(member)] = member, member
	}
	return m, nil
}

func (m *Members) list() blob.MemberList { return m.lists[len(m.lists)-1] }

// List returns the list in force.
func (m *Members) List() blob.MemberList { return m.ListNumber(len(m.lists)) }

// ListNumber returns a list by its number, from 1 to that of the list in force.
func (m *Members) ListNumber(number int) blob.MemberList {
	l := m.lists[number-1]
	l.Members = slices.Clone(l.Members)
	return l
}

// Member returns the present member with a key exchange key.
func (m *Members) Member(keyID string) (blob.Member, bool) {
	found, ok := m.now[keyID]
	return found, ok
}

// EverMember returns the present or former member with a key exchange key, as in the last list
// that names it.
func (m *Members) EverMember(keyID string) (blob.Member, bool) {
	found, ok := m.known[keyID]
	return found, ok
}

// Signer returns the present member that signs with a key.
func (m *Members) Signer(keyID string) (blob.Member, bool) {
	found, ok := m.signers[keyID]
	return found, ok
}

// EverSigner returns the present or former member that signs or signed with a key.
func (m *Members) EverSigner(keyID string) (blob.Member, bool) {
	found, ok := m.signed[keyID]
	return found, ok
}

// Former returns the former members, sorted by label.
func (m *Members) Former() []blob.Member {
	var former []blob.Member
	for id, member := range m.known {
		if _, stays := m.now[id]; !stays {
			former = append(former, member)
		}
	}
	slices.SortFunc(former, func(a, b blob.Member) int {
		return cmp.Or(cmp.Compare(a.Label, b.Label), cmp.Compare(KeyID(a), KeyID(b)))
	})
	return former
}

// Key returns the subject key identifier of the key that a CMS identifier names. An
// identifier that no list has is returned unchanged, and matches no member.
func (m *Members) Key(identifier []byte) []byte {
	if known, ok := m.names[string(identifier)]; ok {
		return []byte(known.key)
	}
	return identifier
}

// Parties returns a key once for each CMS identifier that certificates have for it.
func (m *Members) Parties(keyID string) []blob.Party {
	var all []blob.Party
	for name, known := range m.names {
		if known.key == keyID {
			all = append(all, blob.Party{Key: known.certificate.PublicKey, ID: []byte(name)})
		}
	}
	return all
}

// Certificate returns the certificate that a CMS identifier names, or nil.
func (m *Members) Certificate(identifier []byte) *x509.Certificate {
	return m.names[string(identifier)].certificate
}

// Owners returns the signing keys of the present owners.
func (m *Members) Owners() []blob.Party { return parties(m.list(), blob.Owner) }

// EverOwners returns the signing keys of present and former owners.
func (m *Members) EverOwners() []blob.Party {
	var all []blob.Party
	for id, member := range m.signed {
		if member.Role == blob.Owner {
			all = append(all, m.Parties(id)...)
		}
	}
	return all
}

// LeftAt returns the number of the list that removed a key: the one after the last list with
// a member whose identifier, as returned by of ([KeyID] or [SignerID]), is keyID. It is 0 if
// the list in force has the key, or if no list does.
func (m *Members) LeftAt(keyID string, of func(blob.Member) string) int {
	for i, l := range slices.Backward(m.lists) {
		if slices.ContainsFunc(l.Members, func(member blob.Member) bool { return of(member) == keyID }) {
			return (i + 2) % (len(m.lists) + 1)
		}
	}
	return 0
}

// MemberSince reports whether any list from the given number on has a member with a key exchange
// key.
func (m *Members) MemberSince(number int, keyID string) bool {
	for _, l := range m.lists[number-1:] {
		if _, ok := memberWith(l.Members, keyID); ok {
			return true
		}
	}
	return false
}

// RecoveredTo returns the new owner that a recovery's list introduces.
func (m *Members) RecoveredTo(number int) blob.Member {
	return recoveredTo(m.lists[number-2], m.lists[number-1])
}

// CheckIdentifiers returns a [blob.ErrExists] if an identifier in a new member's certificates already
// names another key of the keyring, including that of a former member.
func (m *Members) CheckIdentifiers(new blob.Member) error {
	for _, c := range certificates(new) {
		if name, other := m.names.clash(c); other != nil {
			return fmt.Errorf("its subjectKeyIdentifier, %x, is that of another key of the keyring (%s): %w", name, other.Subject, blob.ErrExists)
		}
	}
	return nil
}

// ExplainUntrusted adds to a [blob.ErrUntrusted] what is known of its signer: that it is a former
// member or a replaced signing key, or that the key is a member's key exchange key. It
// returns any other error unchanged.
func (m *Members) ExplainUntrusted(err error, identifier []byte) error {
	signer := string(m.Key(identifier))
	was, signed := m.signed[signer]
	if !errors.Is(err, blob.ErrUntrusted) {
		return err
	}
	switch now, stays := m.now[signer]; {
	case stays && now.Signing != nil: // and it is not trusted, so another key signs
		return fmt.Errorf("that is the key exchange key of %q, who signs with another key: %w", now.Label, err)
	case !signed:
		return err
	}
	if now, stays := m.now[KeyID(was)]; stays {
		if SignerID(now) == signer {
			return err // its role is what is wrong
		}
		return fmt.Errorf("%q signs with another key by now: %w", now.Label, err)
	}
	return fmt.Errorf("%q is no member any more: %w", was.Label, err)
}

// KeyID returns the subject key identifier of a member's key exchange key. The member is
// of a list that was parsed, so it has one.
func KeyID(m blob.Member) string {
	id, _ := blob.PublicKeyID(m.Certificate.PublicKey)
	return string(id)
}

// SignerID returns the subject key identifier of the key with which a member signs.
func SignerID(m blob.Member) string {
	id, _ := blob.PublicKeyID(m.Signer())
	return string(id)
}

func memberWith(members []blob.Member, keyID string) (blob.Member, bool) {
	i := slices.IndexFunc(members, func(m blob.Member) bool { return KeyID(m) == keyID })
	if i < 0 {
		return blob.Member{}, false
	}
	return members[i], true
}

// parties returns the signing keys of the members with one of the roles.
func parties(l blob.MemberList, roles ...blob.Role) []blob.Party {
	return signers(slices.DeleteFunc(slices.Clone(l.Members), func(m blob.Member) bool { return !slices.Contains(roles, m.Role) }))
}

// signers returns the signing keys of members, or of custodians.
func signers(members []blob.Member) (all []blob.Party) {
	for _, m := range members {
		all = append(all, blob.Party{Key: m.Signer(), ID: []byte(identifier(signingCertificate(m)))})
	}
	return all
}

// signerOf returns the member of a list that signs with a key.
func signerOf(l blob.MemberList, keyID []byte) (blob.Member, bool) {
	i := slices.IndexFunc(l.Members, func(m blob.Member) bool { return SignerID(m) == string(keyID) })
	if i < 0 {
		return blob.Member{}, false
	}
	return l.Members[i], true
}
