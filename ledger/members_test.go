package ledger

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// signsWith is a member with a second key that signs.
func signsWith(label string, key crypto.Signer) blob.Member {
	m := who(label).Member
	m.Signing = certify(label+" signs", key)
	return m
}

func ecKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func TestMembersOfTodayAndBefore(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob", "carol", "vault")
	l = s.change(l, "alice", "alice", "bob", "vault")
	l = s.change(l, "alice", "alice", "vault", "safe")
	l = s.change(l, "alice", "alice", "safe", "carol")
	m := l.Members()

	var former []string
	for _, f := range m.Former() {
		former = append(former, f.Label)
	}
	if !slices.Equal(former, []string{"bob", "vault"}) {
		t.Error(former)
	}
	for label, want := range map[string]struct {
		now, known bool
		left       int
	}{
		"alice": {true, true, 0}, "bob": {false, true, 3}, "vault": {false, true, 4}, "carol": {true, true, 0}, "safe": {true, true, 0}, "mallory": {false, false, 0},
	} {
		id := KeyID(who(label).Member)
		_, now := m.Member(id)
		_, known := m.EverMember(id)
		_, signer := m.Signer(id)
		_, signed := m.EverSigner(id)
		if now != want.now || known != want.known || signer != now || signed != known {
			t.Errorf("%s: now %v, known %v", label, now, known)
		}
		if left := m.LeftAt(id, KeyID); left != want.left {
			t.Errorf("%s has left at %d, want %d", label, left, want.left)
		}
	}
	if id := KeyID(who("bob").Member); m.MemberSince(3, id) || !m.MemberSince(2, id) {
		t.Error("bob was a member until list 2")
	}
	if len(m.Owners()) != 2 || len(m.ListNumber(1).Members) != 4 || m.List().Number != 4 {
		t.Error(m.Owners())
	}
}

// A key that signs for a member signs from the list on that says so, and the former one no
// more.
func TestAMemberSignsWithAnotherKey(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob")
	key := ecKey()
	card := blob.Signer{Key: key, Scheme: keyspec.ECDSA}
	l = s.propose(l, "bob", Proposal{List: func(l *Ledger) (*blob.MemberList, error) {
		next := l.NextList()
		next.Members = []blob.Member{signsWith("alice", key), who("bob").Member}
		return &next, nil
	}})
	_, err := s.try(l, "alice", Proposal{Edits: []Edit{newKey("db")}})
	s.refused(err, blob.ErrUntrusted)
	l, _, err = l.Commit(t.Context(), Proposal{Edits: []Edit{newKey("db")}}, card, day, s.nonce)
	s.ok(err)
	if by, _ := l.HeadSigner(); by.Label != "alice" {
		t.Fatal(by.Label)
	}
	s.has(l, "db@1")
	why := l.Members().ExplainUntrusted(blob.ErrUntrusted, who("alice").signer().ID)
	if want := `that is the key exchange key of "alice", who signs with another key: untrusted signer`; why.Error() != want {
		t.Fatal(why)
	}
}

// A certificate must not give a key the name of another, or a former, one.
func TestANameBelongsToOneKeyForEver(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob", "carol")
	l = s.change(l, "alice", "alice", "bob")
	key := ecKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "thief"}, NotBefore: day, NotAfter: day.AddDate(1, 0, 0),
		SubjectKeyId: []byte(KeyID(who("carol").Member)),
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	thief := blob.Member{Role: blob.Owner, Label: "thief", Certificate: must(x509.ParseCertificate(der))}
	s.refused(l.Members().CheckIdentifiers(thief), blob.ErrExists)
	s.ok(l.Members().CheckIdentifiers(who("mallory").Member))
	_, err := s.try(l, "alice", Proposal{List: func(l *Ledger) (*blob.MemberList, error) {
		next := l.NextList()
		next.Members = append(next.Members, thief)
		return &next, nil
	}})
	s.refused(err, ErrIllegal)
}

func TestParsePoint(t *testing.T) {
	p := Point{Number: 1204, Digest: Digest{0xab, 31: 0xcd}}
	if got, err := ParsePoint(p.String()); err != nil || got != p {
		t.Fatal(got, err)
	}
	digest := p.String()[5:]
	for _, s := range []string{"", ":", "1204", digest, "0:" + digest, "-1:" + digest, "01:" + digest, "+1:" + digest, "2147483648:" + digest,
		"1204:" + digest[1:], "1204:" + digest + "0", "1204:" + "AB" + digest[2:], " 1204:" + digest, "1204: " + digest[1:], "1204:" + digest + "\n", "1204:g" + digest[1:]} {
		if _, err := ParsePoint(s); !errors.Is(err, blob.ErrMalformed) {
			t.Errorf("%q: %v", s, err)
		}
	}
}
