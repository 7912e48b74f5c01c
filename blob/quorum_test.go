package blob

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// quorumKey is the key of the quorum in these tests, and custodianKeys those of its custodians.
var (
	quorumKey     = sync.OnceValue(func() *ecdsa.PrivateKey { return newECKey(elliptic.P384()) })
	custodianKeys = sync.OnceValue(func() (all []*ecdsa.PrivateKey) {
		for range 3 {
			all = append(all, newECKey(elliptic.P256()))
		}
		return all
	})
	quorumCertificate = sync.OnceValue(func() *x509.Certificate { return certificate(quorumKey()) })
)

func newECKey(curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// withQuorum is a list with a quorum of two of three.
func withQuorum() MemberList {
	l := twoMembers()
	q := &Quorum{Threshold: 2, Shares: [32]byte{7, 31: 7}}
	for i, key := range custodianKeys() {
		q.Custodians = append(q.Custodians, Member{Role: Custodian, Label: fmt.Sprintf("custodian %d", i+1), Certificate: certificate(key)})
	}
	l.Members = append(l.Members, Member{Role: BackupAuthority, Label: "board", Certificate: quorumCertificate(), Quorum: q})
	l.Policy = Policy{QuorumOnly: true}
	l.Approvals = [][]byte{{1}, {1, 2}}
	return l
}

func TestListsWithAQuorum(t *testing.T) {
	t.Parallel()
	l := withQuorum()
	der, err := MarshalMembers(l)
	if err != nil {
		t.Fatal(err)
	}
	read, err := ParseMembers(der)
	if err != nil {
		t.Fatal(err)
	}
	q := read.Members[2].Quorum
	if q == nil || q.Threshold != 2 || q.Shares != l.Members[2].Quorum.Shares || len(q.Custodians) != 3 || q.Custodians[1].Label != "custodian 2" ||
		q.Custodians[1].Role != Custodian || read.Policy != l.Policy || !bytes.Equal(read.Approvals[1], []byte{1, 2}) {
		t.Errorf("read back %+v", read)
	}
	if n := len(read.Everybody()); n != 6 {
		t.Errorf("%d members and custodians", n)
	}
	// What is approved does not depend on the approvals.
	with, err := ProposedDigest(l)
	if err != nil {
		t.Fatal(err)
	}
	l.Approvals = nil
	bare, err := MarshalMembers(l)
	if err != nil || with != sha256.Sum256(bare) {
		t.Errorf("the proposed digest is not that of the list without approvals: %v", err)
	}
}

func TestListsWithAQuorumRefuse(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		edit func(*MemberList, *Quorum)
		want string
	}{
		{"one custodian", func(_ *MemberList, q *Quorum) { q.Custodians = q.Custodians[:1] }, "1 custodians"},
		{"a threshold of one", func(_ *MemberList, q *Quorum) { q.Threshold = 1 }, "threshold 1"},
		{"a threshold above the custodians", func(_ *MemberList, q *Quorum) { q.Threshold = 4 }, "threshold 4"},
		{"one custodian twice", func(_ *MemberList, q *Quorum) { q.Custodians[1].Certificate = q.Custodians[0].Certificate }, "is there twice"},
		{"one label twice", func(_ *MemberList, q *Quorum) { q.Custodians[1].Label = q.Custodians[0].Label }, "is there twice"},
		{"an owner as custodian", func(l *MemberList, q *Quorum) { q.Custodians[1].Certificate = l.Members[0].Certificate }, "is a member's"},
		{"a custodian with another role", func(_ *MemberList, q *Quorum) { q.Custodians[1].Role = Owner }, "not that of a custodian"},
		{"a quorum in a quorum", func(l *MemberList, q *Quorum) { q.Custodians[1].Quorum = q }, "not that of a custodian"},
		{"an owner with a quorum", func(l *MemberList, _ *Quorum) { l.Members[2].Role = Owner }, "no backup authority"},
		{"a quorum on P-256", func(l *MemberList, _ *Quorum) { l.Members[2].Certificate = certificate(strangerP256()) }, "not EC on P-384"},
		{"a quorum with a signing key", func(l *MemberList, _ *Quorum) { l.Members[2].Signing = certificate(strangerP256()) }, "signs itself"},
		{"only a quorum may, and there is none", func(l *MemberList, _ *Quorum) { l.Members = l.Members[:2] }, "there would be none"},
		{"a second owner, and there is none", func(l *MemberList, _ *Quorum) { l.Policy.SecondOwner = true }, "there would be none"},
		{"approvals in another order", func(l *MemberList, _ *Quorum) { l.Approvals = [][]byte{{2}, {1}} }, "ascending"},
		{"one approval twice", func(l *MemberList, _ *Quorum) { l.Approvals = [][]byte{{2}, {2}} }, "ascending"},
		{"too many approvals", func(l *MemberList, _ *Quorum) {
			l.Approvals = nil
			for i := range MaxApprovals + 1 {
				l.Approvals = append(l.Approvals, []byte{byte(i)})
			}
		}, "33 approvals"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := withQuorum()
			test.edit(&l, l.Members[2].Quorum)
			if _, err := MarshalMembers(l); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func someSealed(recipient []byte) Sealed {
	return Sealed{
		Recipient: Recipient{recipient, &keyspec.KeyTransport{OAEPHash: 5, EncryptedKey: bytes.Repeat([]byte{9}, 256)}},
		IV:        [16]byte{1, 15: 2}, Content: bytes.Repeat([]byte{3}, 64),
	}
}

// someShares are shares that nobody could open.
func someShares() Shares {
	point, err := quorumKey().PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	s := Shares{KeyringID: ID{1}, ID: ID{2}, Created: time.Unix(1_780_000_000, 0), Certificate: quorumCertificate(), Commitments: [][]byte{point, point}}
	for _, key := range custodianKeys() {
		s.Sealed = append(s.Sealed, someSealed(keyID(key)))
	}
	return s
}

func ownSigner(key *ecdsa.PrivateKey) Signer { return Signer{Key: key, Scheme: keyspec.ECDSA} }

func TestShares(t *testing.T) {
	t.Parallel()
	owner := custodianKeys()[0] // any key
	trusted := []Party{ownSigner(owner).party()}
	member := withQuorum().Members[2]
	signed, err := SignShares(someShares(), ownSigner(owner), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	u, err := ParseShares(signed.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	v, err := u.Verify(trusted, ID{1}, member)
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Shares(); got.ID != (ID{2}) || len(got.Sealed) != 3 || !bytes.Equal(got.Sealed[2].Content, someSealed(nil).Content) {
		t.Errorf("read back %+v", got)
	}
	if _, err := u.Verify(trusted, ID{9}, member); !errors.Is(err, ErrMisplaced) {
		t.Errorf("of another keyring: %v", err)
	}
	for name, edit := range map[string]func(*Member){
		"another certificate":  func(m *Member) { m.Certificate = certificate(strangerP256()) },
		"another threshold":    func(m *Member) { m.Quorum.Threshold = 3 },
		"one custodian fewer":  func(m *Member) { m.Quorum.Custodians = m.Quorum.Custodians[:2] },
		"custodians exchanged": func(m *Member) { c := m.Quorum.Custodians; c[0], c[1] = c[1], c[0] },
	} {
		other := withQuorum().Members[2]
		edit(&other)
		if _, err := u.Verify(trusted, ID{1}, other); !errors.Is(err, ErrMisplaced) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := u.Verify([]Party{ownSigner(custodianKeys()[1]).party()}, ID{1}, member); !errors.Is(err, ErrIntegrity) {
		t.Errorf("signed by a stranger: %v", err)
	}
	wrong := someShares()
	wrong.Certificate = certificate(strangerP256())
	if _, err := SignShares(wrong, ownSigner(owner), time.Now()); err == nil {
		t.Error("shares of another key than the certificate's were signed")
	}
}

func TestApprovals(t *testing.T) {
	t.Parallel()
	key := custodianKeys()[0]
	a := Approval{KeyringID: ID{1}, Created: time.Unix(1_780_000_000, 0).UTC(), Expires: time.Unix(1_780_000_900, 0).UTC(), List: [32]byte{2}, Proposed: [32]byte{3}, Quorum: &Approved{[32]byte{4}, [32]byte{5}, [32]byte{6}}}
	for _, a := range []Approval{a, {a.KeyringID, a.Created, a.Expires, a.List, a.Proposed, nil}} {
		signed, err := SignApproval(a, ownSigner(key), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		u, err := ParseApproval(signed.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		v, err := u.Verify([]Party{ownSigner(key).party()})
		if err != nil {
			t.Fatal(err)
		}
		got := v.Approval()
		if (got.Quorum == nil) != (a.Quorum == nil) || got.Quorum != nil && *got.Quorum != *a.Quorum {
			t.Errorf("read back %+v", got.Quorum)
		}
		if got.Quorum = a.Quorum; got != a {
			t.Errorf("read back %+v", got)
		}
	}
	a.Expires = a.Created.Add(-time.Second)
	if _, err := SignApproval(a, ownSigner(key), time.Now()); err == nil {
		t.Error("an approval that has expired before it was made was signed")
	}
}

func someProposal() Proposal {
	l := withQuorum()
	l.Recovery = &Recovery{List: l.Number, From: bytes.Repeat([]byte{5}, 20), Reason: "a test"}
	key, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return Proposal{Expires: time.Unix(1_780_000_000, 0), List: l, Recovery: &ProposedRecovery{[32]byte{8}, key.PublicKey()}}
}

func TestProposals(t *testing.T) {
	t.Parallel()
	p := someProposal()
	der, err := MarshalProposal(p)
	if err != nil {
		t.Fatal(err)
	}
	read, err := ParseProposal(der)
	if err != nil || !read.Recovery.Recipient.Equal(p.Recovery.Recipient) || read.Recovery.Quorum != p.Recovery.Quorum || read.List.Recovery.Reason != "a test" || !read.Expires.Equal(p.Expires) {
		t.Errorf("read back %+v, %v", read, err)
	}
	p.Recovery = nil
	if _, err := MarshalProposal(p); err == nil {
		t.Error("a recovery without a quorum was accepted")
	}
}

func someRehearsal() Rehearsal {
	return Rehearsal{
		KeyringID: ID{1}, Created: time.Unix(1_780_000_000, 0).UTC(), Seconds: 7, Checkpoint: 12, List: 3, From: bytes.Repeat([]byte{5}, 20),
		Canary: "canary", Version: 2, Blob: [32]byte{6}, Program: "hsmkeys v1", Spare: "SoftHSM 2.6.1",
	}
}

func TestRehearsals(t *testing.T) {
	t.Parallel()
	signer := ownSigner(custodianKeys()[0])
	signed, err := SignRehearsal(someRehearsal(), signer, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	u, err := ParseRehearsal(signed.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	v, err := u.Verify([]Party{signer.party()}, ID{1})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(v.Rehearsal()); got != fmt.Sprint(someRehearsal()) {
		t.Errorf("read back %v", got)
	}
	if _, err := u.Verify([]Party{signer.party()}, ID{2}); !errors.Is(err, ErrMisplaced) {
		t.Errorf("of another keyring: %v", err)
	}
	if _, err := u.Verify([]Party{ownSigner(custodianKeys()[1]).party()}, ID{1}); !errors.Is(err, ErrIntegrity) {
		t.Errorf("by a stranger: %v", err)
	}
	if _, err := ParseProof(signed.Bytes()); !errors.Is(err, ErrIntegrity) {
		t.Errorf("as a proof: %v", err)
	}
	for name, edit := range map[string]func(*Rehearsal){
		"no name": func(r *Rehearsal) { r.Canary = "" }, "no program": func(r *Rehearsal) { r.Program = "" }, "no owner": func(r *Rehearsal) { r.From = nil },
		"list 0": func(r *Rehearsal) { r.List = 0 }, "a text that does not print": func(r *Rehearsal) { r.Spare = "\x1b[31m" }, "less than no time": func(r *Rehearsal) { r.Seconds = -1 },
	} {
		r := someRehearsal()
		edit(&r)
		if _, err := SignRehearsal(r, signer, time.Now()); err == nil {
			t.Errorf("signed with %s", name)
		}
	}
}

// FuzzParseQuorum is FuzzParse for what belongs to quorums.
func FuzzParseQuorum(f *testing.F) {
	signer := ownSigner(custodianKeys()[0])
	shares, err := SignShares(someShares(), signer, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shares.Bytes())
	content, err := someShares().marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	approval, err := SignApproval(Approval{Created: time.Unix(0, 0), Expires: time.Unix(1, 0), Quorum: &Approved{}}, signer, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(approval.Bytes())
	sealed, err := someSealed([]byte{1}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	proposal, err := MarshalProposal(someProposal())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(proposal)
	rehearsal, err := SignRehearsal(someRehearsal(), signer, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rehearsal.Bytes())
	member := withQuorum().Members[2]
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(what string, err error, marshal func() ([]byte, error)) {
			t.Helper()
			if err == nil {
				sameBytes(t, data, marshal)
			} else if !isIntegrity(err) {
				t.Errorf("%s: %v", what, err)
			}
		}
		s, err := parseShares(data)
		check("shares", err, s.marshal)
		a, err := parseApproval(data)
		check("approval", err, a.marshal)
		r, err := parseRehearsal(data)
		check("rehearsal", err, r.marshal)
		e, err := ParseSealed(data)
		check("sealed", err, e.Marshal)
		p, err := ParseProposal(data)
		check("proposal", err, func() ([]byte, error) { return MarshalProposal(p) })
		if u, err := ParseShares(data); err == nil {
			if _, err := u.Verify([]Party{signer.party()}, ID{1}, member); err == nil && !bytes.Equal(data, shares.Bytes()) {
				t.Errorf("forged shares verify: %x", data)
			}
		}
		if u, err := ParseRehearsal(data); err == nil {
			if _, err := u.Verify([]Party{signer.party()}, ID{1}); err == nil && !bytes.Equal(data, rehearsal.Bytes()) {
				t.Errorf("a forged rehearsal verifies: %x", data)
			}
		}
		if u, err := ParseApproval(data); err == nil {
			if _, err := u.Verify([]Party{signer.party()}); err == nil && !bytes.Equal(data, approval.Bytes()) {
				t.Errorf("a forged approval verifies: %x", data)
			}
		}
	})
}
