package ledger

import (
	"github.com/hsmkeys/hsmkeys/blob"
)

// Members says who is and who was a member of a keyring, by all its lists of members. A
// member is known by its key exchange key, its signature by the key that signs; these are
// the same where it has no signing key. Keys go by their [blob.SubjectKeyID], as a string.
type Members struct {
	lists []blob.MemberList // lists[i] has number i+1
}

// List returns the list in force.
func (m *Members) List() blob.MemberList { panic("todo") }

// ListNumber returns a list by its number, 1 to that of the list in force.
func (m *Members) ListNumber(number int) blob.MemberList { panic("todo") }

// Member returns the member of today with a key exchange key.
func (m *Members) Member(keyID string) (blob.Member, bool) { panic("todo") }

// Known returns the member of today or before with a key exchange key, as last known.
func (m *Members) Known(keyID string) (blob.Member, bool) { panic("todo") }

// Signer returns the member of today that signs with a key.
func (m *Members) Signer(keyID string) (blob.Member, bool) { panic("todo") }

// Signed returns the member of today or before that signs or signed with a key.
func (m *Members) Signed(keyID string) (blob.Member, bool) { panic("todo") }

// Former returns those who are no longer members, sorted by label.
func (m *Members) Former() []blob.Member { panic("todo") }

// Key returns the subject key identifier of the key that a CMS identifier names. One that
// no list knows is returned as it is: it names nobody.
func (m *Members) Key(identifier []byte) []byte { panic("todo") }

// Parties returns one key under each of the names that certificates have given it.
func (m *Members) Parties(keyID string) []blob.Party { panic("todo") }

// Owners returns the keys with which the owners of today sign.
func (m *Members) Owners() []blob.Party { panic("todo") }

// LeftAt returns the number of the first list after the last one that names a key, as
// [KeyID] or [SignerID] has it, or 0 where the list in force does.
func (m *Members) LeftAt(keyID string, of func(blob.Member) string) int { panic("todo") }

// Since reports whether a key exchange key is that of a member of a list from the given
// number on.
func (m *Members) Since(number int, keyID string) bool { panic("todo") }

// RecoveredTo returns the new owner of a list that is a recovery.
func (m *Members) RecoveredTo(number int) blob.Member { panic("todo") }

// Taken returns an error, a [blob.ErrExists], where an identifier of a new member names
// another key of the keyring, be it that of a former member.
func (m *Members) Taken(new blob.Member) error { panic("todo") }

// Untrusted says more about a signer that is not trusted: that it once was, or that the
// key is one which decrypts for a member.
func (m *Members) Untrusted(err error, identifier []byte) error { panic("todo") }

// KeyID returns the subject key identifier of a member's key exchange key.
func KeyID(m blob.Member) string { panic("todo") }

// SignerID returns the subject key identifier of the key with which a member signs.
func SignerID(m blob.Member) string { panic("todo") }
