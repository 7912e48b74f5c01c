package blob

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// twoMembers is list 2 of a keyring, with an owner and a backup authority.
func twoMembers() MemberList {
	return MemberList{
		KeyringID: payroll().KeyringID,
		Number:    2,
		Previous:  bytes.Repeat([]byte{0x9d}, 32),
		Created:   created,
		Members: []Member{
			{Role: Owner, Label: "Anna’s token", Certificate: certificate(ownerP256())},
			{Role: BackupAuthority, Label: "the safe", Certificate: certificate(strangerP256())},
		},
	}
}

// signingMembers is twoMembers, who sign with keys of their own.
func signingMembers() MemberList {
	l := twoMembers()
	l.Members[0].Signing, l.Members[1].Signing = certificate(ownerP384()), certificate(ownerRSA())
	return l
}

func mustMarshalMembers(t testing.TB, l MemberList) []byte {
	t.Helper()
	der, err := MarshalMembers(l)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// sameMembers compares lists by their certificates' bytes.
var sameMembers = cmp.Comparer(func(a, b *x509.Certificate) bool { return a.Equal(b) })

func TestMemberListIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	for name, list := range map[string]func() MemberList{
		"two members":           twoMembers,
		"of a recovery":         recoveredMembers,
		"who sign with another": signingMembers,
	} {
		t.Run(name, func(t *testing.T) {
			want := list()
			want.Created = want.Created.Add(time.Second - 1) // which is cut off
			der := mustMarshalMembers(t, want)
			want.Created = created
			got, err := ParseMembers(der)
			if err != nil {
				t.Fatal(err)
			}
			clear(der)
			if diff := cmp.Diff(want, got, sameMembers); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAMemberSignsWithOneKey(t *testing.T) {
	t.Parallel()
	is := func(key crypto.PublicKey, want crypto.Signer) bool {
		return want.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key)
	}
	if m := twoMembers().Members[0]; !is(m.Signer(), ownerP256()) {
		t.Errorf("without a signing key: %v", m.Signer())
	}
	for i, want := range []crypto.Signer{ownerP384(), ownerRSA()} {
		if m := signingMembers().Members[i]; !is(m.Signer(), want) {
			t.Errorf("%q signs with %v", m.Label, m.Signer())
		}
	}
}

func TestMarshalMembersRefuses(t *testing.T) {
	t.Parallel()
	short := selfSigned(must(rsa.GenerateKey(rand.Reader, 1024)), nil)
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	ed := &x509.Certificate{PublicKey: edKey.Public()}
	for _, test := range []struct {
		name string
		edit func(*MemberList)
		want string
	}{
		{"number 0", func(l *MemberList) { l.Number = 0 }, "number 0"},
		{"a number above the limit", func(l *MemberList) { l.Number = MaxNumber + 1 }, "number 2147483648"},
		{"a first list with one before it", func(l *MemberList) { l.Number = 1 }, "names one before it"},
		{"a second list with none before it", func(l *MemberList) { l.Previous = nil }, "has 0 bytes"},
		{"a digest of 20 bytes", func(l *MemberList) { l.Previous = make([]byte, 20) }, "has 20 bytes"},
		{"no creation time", func(l *MemberList) { l.Created = time.Time{} }, "creation time"},
		{"no members", func(l *MemberList) { l.Members = nil }, "0 members"},
		{"65 members", func(l *MemberList) { l.Members = slices.Repeat(l.Members[:1], 65) }, "65 members"},
		{"no owner", func(l *MemberList) { l.Members = l.Members[1:] }, "no member is an owner"},
		{"the same key twice", func(l *MemberList) { l.Members[1].Certificate = certificate(ownerP256()) }, "is there twice"},
		{"a member's own key as its signing key", func(l *MemberList) { l.Members[0].Signing = certificate(ownerP256()) }, "is there twice"},
		{"another member's key as a signing key", func(l *MemberList) { l.Members[0].Signing = certificate(strangerP256()) }, "is there twice"},
		{"a signing key as another member's key", func(l *MemberList) {
			l.Members[0].Signing, l.Members[1].Certificate = certificate(ownerP384()), certificate(ownerP384())
		}, "is there twice"},
		{"the same signing key twice", func(l *MemberList) {
			l.Members[0].Signing, l.Members[1].Signing = certificate(ownerP384()), certificate(ownerP384())
		}, "is there twice"},
		{"a short RSA key that signs", func(l *MemberList) { l.Members[1].Signing = short }, "signing key: unsupported: RSA key of less than 2048 bits"},
		{"an Ed25519 key that signs", func(l *MemberList) { l.Members[1].Signing = ed }, "neither RSA nor EC"},
		{"a signing certificate without bytes", func(l *MemberList) {
			l.Members[1].Signing = &x509.Certificate{PublicKey: ownerP384().Public()}
		}, "member.signing.certificate"},
		{"a custodian", func(l *MemberList) { l.Members[1].Role = Custodian }, "a custodian is none"},
		{"no role", func(l *MemberList) { l.Members[1].Role = 0 }, "unknown role 0"},
		{"an unknown role", func(l *MemberList) { l.Members[1].Role = 4 }, "unknown role 4"},
		{"no label", func(l *MemberList) { l.Members[1].Label = "" }, "0 bytes"},
		{"a label of 65 bytes", func(l *MemberList) { l.Members[1].Label = strings.Repeat("x", 65) }, "65 bytes"},
		{"a label that is not UTF-8", func(l *MemberList) { l.Members[1].Label = "\xff" }, "not UTF-8"},
		{"a label that moves the cursor", func(l *MemberList) { l.Members[1].Label = "\x1b[2J" }, "does not print"},
		{"a label of two lines", func(l *MemberList) { l.Members[1].Label = "a\nb" }, "does not print"},
		{"a label that turns the text round", func(l *MemberList) { l.Members[1].Label = "a\u202eb" }, "does not print"},
		{"no certificate", func(l *MemberList) { l.Members[1].Certificate = nil }, "no certificate"},
		{"a short RSA key", func(l *MemberList) { l.Members[1].Certificate = short }, "less than 2048 bits"},
		{"an Ed25519 key", func(l *MemberList) { l.Members[1].Certificate = ed }, "neither RSA nor EC"},
		{"a certificate without bytes", func(l *MemberList) {
			l.Members[1].Certificate = &x509.Certificate{PublicKey: strangerP256().Public()}
		}, "member.certificate"},
		{"too much", func(l *MemberList) {
			big := *l.Members[1].Certificate
			big.Raw = make([]byte, MaxSize)
			l.Members[1].Certificate = &big
		}, "too large"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := twoMembers()
			test.edit(&l)
			der, err := MarshalMembers(l)
			if der != nil || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %d bytes and error %v, want %q", len(der), err, test.want)
			}
		})
	}
}

func TestRefusesMemberListsInAnotherForm(t *testing.T) {
	t.Parallel()
	member := func(role byte, label string, cert []byte) []byte {
		return seq(tlv(0x0a, []byte{role}), tlv(0x0c, []byte(label)), cert)
	}
	owner, authority, signing := certificate(ownerP256()).Raw, certificate(strangerP256()).Raw, certificate(ownerP384()).Raw
	// with is a member and what stands behind its certificate.
	with := func(role byte, cert []byte, more ...[]byte) []byte {
		return seq(append([][]byte{contentOf(member(role, "a", cert))}, more...)...)
	}
	const (
		version = iota
		keyring
		number
		createdAt
		previous
		members
	)
	good := func() [][]byte {
		return [][]byte{
			tlv(2, []byte{1}),
			tlv(4, make([]byte, 16)),
			tlv(2, []byte{2}),
			tlv(0x18, []byte("20250314150926Z")),
			tlv(0x80, make([]byte, 32)),
			seq(member(1, "a", owner), member(2, "b", authority)),
		}
	}
	set := func(i int, der []byte) func([][]byte) [][]byte {
		return func(pieces [][]byte) [][]byte { pieces[i] = der; return pieces }
	}
	read := func(t *testing.T, der []byte) error {
		l, err := ParseMembers(der)
		if err != nil && l.Members != nil {
			t.Error("members beside the error")
		}
		return err
	}
	if err := read(t, seq(good()...)); err != nil {
		t.Fatalf("unchanged: %v", err)
	}
	signs := good()
	signs[members] = seq(with(1, owner, tlv(0xa0, signing)), with(2, authority))
	if err := read(t, seq(signs...)); err != nil {
		t.Fatalf("with a signing key: %v", err)
	}
	var many [][]byte
	for range 65 {
		many = append(many, member(1, "a", owner))
	}
	for _, test := range []struct {
		name     string
		edit     func([][]byte) [][]byte
		sentinel error
		part     string
	}{
		{"version 2", set(version, tlv(2, []byte{2})), ErrNewer, "format version 2"},
		{"a padded version", set(version, tlv(2, []byte{0, 1})), ErrMalformed, "version is a padded integer"},
		{"a keyring id of 15 bytes", set(keyring, tlv(4, make([]byte, 15))), ErrMalformed, "keyringID has 15 bytes"},
		{"number 0", set(number, tlv(2, []byte{0})), ErrMalformed, "number 0"},
		{"a negative number", set(number, tlv(2, []byte{0xfe})), ErrMalformed, "number is negative"},
		{"a first list with one before it", set(number, tlv(2, []byte{1})), ErrMalformed, "names one before it"},
		{"a time with a fraction", set(createdAt, tlv(0x18, []byte("20250314150926.5Z"))), ErrMalformed, "created"},
		{"no list before", set(previous, nil), ErrMalformed, "has 0 bytes"},
		{"a digest of 31 bytes", set(previous, tlv(0x80, make([]byte, 31))), ErrMalformed, "previous has 31 bytes"},
		{"no members", set(members, seq()), ErrMalformed, "0 members"},
		{"a set of members", set(members, tlv(0x31, member(1, "a", owner))), ErrMalformed, "members"},
		{"65 members", set(members, seq(many...)), ErrMalformed, "is not one of at most 64"},
		{"no owner", set(members, seq(member(2, "b", authority))), ErrMalformed, "no member is an owner"},
		{"a member twice", set(members, seq(member(1, "a", owner), member(2, "b", owner))), ErrMalformed, "is there twice"},
		{"an unknown role", set(members, seq(member(1, "a", owner), member(4, "b", authority))), ErrMalformed, "unknown role 4"},
		{"a role as INTEGER", set(members, seq(seq(tlv(2, []byte{1}), tlv(0x0c, []byte("a")), owner))), ErrMalformed, "member.role"},
		{"a label that moves the cursor", set(members, seq(member(1, "\x1b[2J", owner))), ErrMalformed, "does not print"},
		{"a certificate cut short", set(members, seq(member(1, "a", owner[:len(owner)-1]))), ErrMalformed, "certificate"},
		{"a certificate that is none", set(members, seq(member(1, "a", seq()))), ErrMalformed, "certificate"},
		{"a member with a later field", set(members, seq(with(1, owner, tlv(0x82)))), ErrNewer, "field [2]"},
		{"a signing member with a later field", set(members, seq(with(1, owner, tlv(0xa0, signing), tlv(0xa2)))), ErrNewer, "field [2]"},
		{"a signing certificate that is not there", set(members, seq(with(1, owner, tlv(0xa0)))), ErrMalformed, "member.signing.certificate"},
		{"a signing certificate that is none", set(members, seq(with(1, owner, tlv(0xa0, seq())))), ErrMalformed, "member.signing.certificate"},
		{"a signing certificate cut short", set(members, seq(with(1, owner, tlv(0xa0, signing[:len(signing)-1])))), ErrMalformed, "member.signing.certificate"},
		{"a signing certificate and something more", set(members, seq(with(1, owner, tlv(0xa0, signing, null)))), ErrMalformed, "member.signing has 2 bytes"},
		{"two signing certificates in one field", set(members, seq(with(1, owner, tlv(0xa0, signing, authority)))), ErrMalformed, "bytes that do not belong there"},
		{"two signing certificates", set(members, seq(with(1, owner, tlv(0xa0, signing), tlv(0xa0, authority)))), ErrMalformed, "bytes that do not belong there"},
		{"a signing certificate under an implicit tag", set(members, seq(with(1, owner, tlv(0xa0, contentOf(signing))))), ErrMalformed, "member.signing"},
		{"a signing certificate under a primitive tag", set(members, seq(with(1, owner, tlv(0x80, signing)))), ErrMalformed, "bytes that do not belong there"},
		{"a signing certificate before the other", set(members, seq(seq(tlv(0x0a, []byte{1}), tlv(0x0c, []byte("a")), tlv(0xa0, signing), owner))), ErrMalformed, "member.certificate"},
		{"a signing certificate of long length", set(members, seq(with(1, owner, longForm(0xa0, signing)))), ErrMalformed, "signing is not a DER element"},
		{"a signing certificate of indefinite length", set(members, seq(with(1, owner, indefinite(0xa0, signing)))), ErrMalformed, "signing is not a DER element"},
		{"a signing key that is the member's other key", set(members, seq(with(1, owner, tlv(0xa0, owner)))), ErrMalformed, "is there twice"},
		{"a signing key that is another member's", set(members, seq(with(1, owner, tlv(0xa0, authority)), with(2, authority))), ErrMalformed, "is there twice"},
		{"a signing key twice", set(members, seq(with(1, owner, tlv(0xa0, signing)), with(2, authority, tlv(0xa0, signing)))), ErrMalformed, "is there twice"},
		{"a member with something more", set(members, seq(seq(contentOf(member(1, "a", owner)), null))), ErrMalformed, "member has 2 bytes"},
		{"a later field", func(p [][]byte) [][]byte { return append(p, tlv(0xa4, null)) }, ErrNewer, "field [4]"},
		{"something more", func(p [][]byte) [][]byte { return append(p, null) }, ErrMalformed, "content has 2 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantError(t, read(t, seq(test.edit(good())...)), test.sentinel, test.part)
		})
	}
	whole := seq(good()...)
	wantError(t, read(t, append(bytes.Clone(whole), 0)), ErrMalformed, "member list has 1 bytes")
	wantError(t, read(t, tlv(0x31, good()...)), ErrMalformed, "member list.content")
	wantError(t, read(t, longForm(0x30, contentOf(whole))), ErrMalformed, "member list.content")
	wantError(t, read(t, indefinite(0x30, contentOf(whole))), ErrMalformed, "member list.content")
	wantError(t, read(t, make([]byte, MaxSize+1)), ErrTooLarge, "member list of 262145 bytes")
	wantError(t, read(t, mustSignProof(t, threeOpened())), ErrMalformed, "content.version")
	for n := range whole {
		if err := read(t, whole[:n]); !isMalformed(err) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

// certificates are for as many members as a list can have, and their signing keys.
var certificates = sync.OnceValue(func() (out []*x509.Certificate) {
	for range 2 * MaxMembers {
		out = append(out, certificate(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))))
	}
	return out
})

func TestRoundTripsOfMemberLists(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := MemberList{
			KeyringID: ID(drawBytes(t, "keyring", 16)),
			Number:    rapid.IntRange(1, MaxNumber).Draw(t, "number"),
			Created:   drawTime(t, "created"),
		}
		if l.Number > 1 {
			l.Previous = drawBytes(t, "previous", 32)
			if rapid.Bool().Draw(t, "is a recovery") {
				l.Recovery = drawRecovery(t, l.Number)
			}
		}
		for i := range rapid.IntRange(1, MaxMembers).Draw(t, "members") {
			role := Owner
			if i > 0 {
				role = rapid.SampledFrom([]Role{Owner, BackupAuthority}).Draw(t, "role")
			}
			label := rapid.StringMatching(`[ -~äß漢]{1,20}`).Draw(t, "label")
			m := Member{Role: role, Label: label, Certificate: certificates()[i]}
			if signing := i + MaxMembers; rapid.Bool().Draw(t, "has a signing key") {
				m.Signing = certificates()[signing]
			}
			l.Members = append(l.Members, m)
		}
		der, err := MarshalMembers(l)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseMembers(der)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(l, got, sameMembers); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRolesHaveNames(t *testing.T) {
	t.Parallel()
	if got := fmt.Sprint(Owner, BackupAuthority, Role(7)); got != "owner authority Role(7)" {
		t.Error(got)
	}
}
