package ledger

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Members says who is and who was a member of a keyring, by all its lists of members. A
// member is known by its key exchange key, its signature by the key that signs; these are
// the same where it has no signing key. Keys go by their [blob.PublicKeyID], as a string.
//
// It does not change; certificates are shared.
type Members struct {
	lists []blob.MemberList // lists[i] has number i+1

	// Who is a member, by the list in force, and who is or was one, as last known.
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
		if err := m.names.add(l.Members); err != nil {
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

// Member returns the member of today with a key exchange key.
func (m *Members) Member(keyID string) (blob.Member, bool) {
	found, ok := m.now[keyID]
	return found, ok
}

// Known returns the member of today or before with a key exchange key, as last known.
func (m *Members) Known(keyID string) (blob.Member, bool) {
	found, ok := m.known[keyID]
	return found, ok
}

// Signer returns the member of today that signs with a key.
func (m *Members) Signer(keyID string) (blob.Member, bool) {
	found, ok := m.signers[keyID]
	return found, ok
}

// Signed returns the member of today or before that signs or signed with a key.
func (m *Members) Signed(keyID string) (blob.Member, bool) {
	found, ok := m.signed[keyID]
	return found, ok
}

// Former returns those who are no longer members, sorted by label.
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

// Key returns the subject key identifier of the key that a CMS identifier names. One that
// no list knows is returned as it is: it names nobody.
func (m *Members) Key(identifier []byte) []byte {
	if known, ok := m.names[string(identifier)]; ok {
		return []byte(known.key)
	}
	return identifier
}

// Parties returns one key under each of the names that certificates have given it.
func (m *Members) Parties(keyID string) []blob.Party {
	var all []blob.Party
	for name, known := range m.names {
		if known.key == keyID {
			all = append(all, blob.Party{Key: known.certificate.PublicKey, ID: []byte(name)})
		}
	}
	return all
}

// Certificate returns the certificate that gives a key a CMS identifier, or nil.
func (m *Members) Certificate(identifier []byte) *x509.Certificate {
	return m.names[string(identifier)].certificate
}

// Owners returns the keys with which the owners of today sign.
func (m *Members) Owners() []blob.Party { return parties(m.list(), blob.Owner) }

// LeftAt returns the number of the first list after the last one that names a key, as
// [KeyID] or [SignerID] has it. It is 0 for a key that the list in force names, or none.
func (m *Members) LeftAt(keyID string, of func(blob.Member) string) int {
	for i, l := range slices.Backward(m.lists) {
		if slices.ContainsFunc(l.Members, func(member blob.Member) bool { return of(member) == keyID }) {
			return (i + 2) % (len(m.lists) + 1)
		}
	}
	return 0
}

// Since reports whether a key exchange key is that of a member of a list from the given
// number on.
func (m *Members) Since(number int, keyID string) bool {
	for _, l := range m.lists[number-1:] {
		if _, ok := memberWith(l.Members, keyID); ok {
			return true
		}
	}
	return false
}

// RecoveredTo returns the new owner of a list that is a recovery.
func (m *Members) RecoveredTo(number int) blob.Member {
	return recoveredTo(m.lists[number-2], m.lists[number-1])
}

// Taken returns a [blob.ErrExists] where an identifier in a new member's certificates
// names another key of the keyring, be it that of a former member.
func (m *Members) Taken(new blob.Member) error {
	for _, c := range certificates(new) {
		if name, other := m.names.clash(c); other != nil {
			return fmt.Errorf("its subjectKeyIdentifier, %x, is that of another key of the keyring (%s): %w", name, other.Subject, blob.ErrExists)
		}
	}
	return nil
}

// Untrusted says more about a signer that is not trusted: that it once was, or that the
// key is one which decrypts for a member.
func (m *Members) Untrusted(err error, identifier []byte) error {
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

// parties are the keys with which the members with one of the roles sign.
func parties(l blob.MemberList, roles ...blob.Role) []blob.Party {
	var all []blob.Party
	for _, m := range l.Members {
		if slices.Contains(roles, m.Role) {
			all = append(all, blob.Party{Key: m.Signer(), ID: []byte(identifier(signingCertificate(m)))})
		}
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
