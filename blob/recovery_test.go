package blob

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"pgregory.net/rapid"
)

func recovery(list int) *Recovery {
	return &Recovery{List: list, From: bytes.Repeat([]byte{0xf0}, 20), Reason: "Anna’s token does not answer any more"}
}

// recovered is payroll as a backup authority has wrapped it again.
func recovered() Descriptor {
	d := payroll()
	d.Recovery = recovery(7)
	return d
}

// recoveredMembers is a list of members with all that it can have.
func recoveredMembers() MemberList {
	l := twoMembers()
	l.Recovery = recovery(l.Number)
	return l
}

func TestWhatIsRecoveredSaysSo(t *testing.T) {
	t.Parallel()
	b, err := parseAndVerify(mustSign(t, recovered(), holders(ownerP256()), ownerP256(), keyspec.ECDSA), trust(ownerP256()), payroll().Place())
	if err != nil {
		t.Fatal(err)
	}
	// The second look is after an attempt to change what the first one returned.
	for range 2 {
		d := b.Descriptor()
		if diff := cmp.Diff(recovered(), d); diff != "" {
			t.Error(diff)
		}
		clear(d.Recovery.From)
		d.Recovery.List = 0
	}
}

// badRecoveries are refused in a blob as well as in a list.
var badRecoveries = []struct {
	name string
	edit func(*Recovery)
	want string
}{
	{"a key identifier of 19 bytes", func(r *Recovery) { r.From = make([]byte, 19) }, "has 19 bytes, not 20"},
	{"no key identifier", func(r *Recovery) { r.From = nil }, "has 0 bytes, not 20"},
	{"no reason", func(r *Recovery) { r.Reason = "" }, "reason has 0 bytes"},
	{"a reason of 257 bytes", func(r *Recovery) { r.Reason = strings.Repeat("x", 257) }, "reason has 257 bytes, not 1 to 256"},
	{"a reason that is not UTF-8", func(r *Recovery) { r.Reason = "\xff" }, "reason is not UTF-8"},
	{"a reason that moves the cursor", func(r *Recovery) { r.Reason = "\x1b[2J" }, "does not print"},
	{"a reason of two lines", func(r *Recovery) { r.Reason = "a\nb" }, "does not print"},
}

func TestRefusesToWriteRecoveries(t *testing.T) {
	t.Parallel()
	wantRefused := func(t *testing.T, der []byte, err error, want string) {
		t.Helper()
		if der != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %d bytes and error %v, want %q", len(der), err, want)
		}
	}
	signBlob := func(t *testing.T, want string, edit func(*Descriptor)) {
		t.Helper()
		d := recovered()
		edit(&d)
		der, err := signDER(d, holders(ownerP256()), ownerP256(), keyspec.ECDSA, signed)
		wantRefused(t, der, err, want)
	}
	marshalList := func(t *testing.T, want string, edit func(*MemberList)) {
		t.Helper()
		l := recoveredMembers()
		edit(&l)
		der, err := MarshalMembers(l)
		wantRefused(t, der, err, want)
	}
	for _, test := range badRecoveries {
		t.Run(test.name, func(t *testing.T) {
			signBlob(t, test.want, func(d *Descriptor) { test.edit(d.Recovery) })
			marshalList(t, test.want, func(l *MemberList) { test.edit(l.Recovery) })
		})
	}
	for name, test := range map[string]struct {
		want string
		edit func(*Descriptor)
	}{
		"a blob recovered by list 0":               {"list 0 is not in 1..2147483647", func(d *Descriptor) { d.Recovery.List = 0 }},
		"a blob recovered by a list too high":      {"list 2147483648 is not in", func(d *Descriptor) { d.Recovery.List = MaxNumber + 1 }},
		"a first revision that is a recovery":      {"revision 1 has a recovery", func(d *Descriptor) { d.Revision = 1 }},
		"a recovery that replaces no other blob":   {"replaces no other", func(d *Descriptor) { d.Replaces = nil }},
		"a recovery that replaces half a digest":   {"has 16 bytes, not 32", func(d *Descriptor) { d.Replaces = make([]byte, 16) }},
		"a recovery that replaces an empty digest": {"has 0 bytes, not 32", func(d *Descriptor) { d.Replaces = []byte{} }},
	} {
		t.Run(name, func(t *testing.T) { signBlob(t, test.want, test.edit) })
	}
	for name, test := range map[string]struct {
		want string
		edit func(*MemberList)
	}{
		"a list that another list began":     {"recovery by list 1 in list 2", func(l *MemberList) { l.Recovery.List = 1 }},
		"a first list that is a recovery":    {"recovery by list 1 in list 1", func(l *MemberList) { l.Number, l.Previous, l.Recovery.List = 1, nil, 1 }},
		"a recovery from an owner who stays": {"who stays a member", func(l *MemberList) { l.Recovery.From = keyID(ownerP256()) }},
		"a recovery from an authority":       {"who stays a member", func(l *MemberList) { l.Recovery.From = keyID(strangerP256()) }},
		"a recovery from a key that signs": {"who stays a member", func(l *MemberList) {
			l.Members[0].Signing = certificate(ownerP384())
			l.Recovery.From = keyID(ownerP384())
		}},
	} {
		t.Run(name, func(t *testing.T) { marshalList(t, test.want, test.edit) })
	}
}

// There is room for as many members as there can be, with large certificates.
func TestTheLargestListOfMembersFits(t *testing.T) {
	t.Parallel()
	l := recoveredMembers()
	l.Recovery.Reason = strings.Repeat("x", maxReason)
	for len(l.Members) < MaxMembers {
		l.Members = append(l.Members, l.Members[0])
	}
	for i := range l.Members {
		l.Members[i].Label, l.Members[i].Certificate = strings.Repeat("x", maxLabel), largeCertificate(3900)
	}
	got, err := ParseMembers(mustMarshalMembers(t, l))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l, got, sameMembers); diff != "" {
		t.Error(diff)
	}
}

// largeCertificate makes a certificate of at least this many bytes.
func largeCertificate(size int) *x509.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := certificate(key)
	template.ExtraExtensions = []pkix.Extension{{Id: oidData, Value: make([]byte, size-len(template.Raw))}}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))))
}

// The blobs here carry a good signature by the trusted key.
func TestRefusesToReadRecoveries(t *testing.T) {
	t.Parallel()
	const (
		list = iota
		from
		reason
	)
	good := func(number byte) [][]byte {
		return [][]byte{tlv(2, []byte{number}), tlv(4, bytes.Repeat([]byte{0xf0}, 20)), tlv(0x0c, []byte("lost"))}
	}
	inBlob := func(t *testing.T, edit func(*forgery)) error {
		t.Helper()
		f := forge(ownerP256(), keyspec.ECDSA)
		edit(f)
		_, err := parseAndVerify(f.der(t), trust(ownerP256()), payroll().Place())
		return err
	}
	// recovered puts the field [2] into a blob.
	recovered := func(field []byte) func(*forgery) {
		return func(f *forgery) { f.descriptor = append(f.descriptor, field) }
	}
	inList := func(t *testing.T, extra ...[]byte) error {
		t.Helper()
		pieces := [][]byte{
			tlv(2, []byte{1}), tlv(4, make([]byte, 16)), tlv(2, []byte{2}), tlv(0x18, []byte("20250314150926Z")), tlv(0x80, make([]byte, 32)),
			seq(seq(tlv(0x0a, []byte{1}), tlv(0x0c, []byte("a")), certificate(ownerP256()).Raw)),
		}
		_, err := ParseMembers(seq(append(pieces, extra...)...))
		return err
	}
	if err := inBlob(t, recovered(tlv(0xa2, good(7)...))); err != nil {
		t.Fatalf("unchanged blob: %v", err)
	}
	if err := inList(t, tlv(0xa1, good(2)...)); err != nil {
		t.Fatalf("unchanged list: %v", err)
	}

	for _, test := range []struct {
		name     string
		edit     func([][]byte) [][]byte
		sentinel error
		part     string
	}{
		{"an empty one", func([][]byte) [][]byte { return nil }, ErrMalformed, "recovery.list"},
		{"a padded number", func(p [][]byte) [][]byte { p[list] = tlv(2, []byte{0, 2}); return p }, ErrMalformed, "recovery.list is a padded integer"},
		{"a number of 33 bits", func(p [][]byte) [][]byte { p[list] = tlv(2, []byte{1, 0, 0, 0, 2}); return p }, ErrMalformed, "recovery.list is above 2147483647"},
		{"an identifier of 19 bytes", func(p [][]byte) [][]byte { p[from] = tlv(4, make([]byte, 19)); return p }, ErrMalformed, "recovery.from has 19 bytes"},
		{"an identifier of 32 bytes", func(p [][]byte) [][]byte { p[from] = tlv(4, make([]byte, 32)); return p }, ErrMalformed, "recovery.from has 32 bytes"},
		{"no reason", func(p [][]byte) [][]byte { return p[:reason] }, ErrMalformed, "recovery.reason"},
		{"an empty reason", func(p [][]byte) [][]byte { p[reason] = tlv(0x0c); return p }, ErrMalformed, "reason has 0 bytes"},
		{"a reason of 257 bytes", func(p [][]byte) [][]byte { p[reason] = tlv(0x0c, make([]byte, 257)); return p }, ErrMalformed, "reason has 257 bytes"},
		{"a reason that is not UTF-8", func(p [][]byte) [][]byte { p[reason] = tlv(0x0c, []byte{0xc0, 0x80}); return p }, ErrMalformed, "not UTF-8"},
		{"a reason that moves the cursor", func(p [][]byte) [][]byte { p[reason] = tlv(0x0c, []byte("\x1b[2J")); return p }, ErrMalformed, "does not print"},
		{"a reason as PrintableString", func(p [][]byte) [][]byte { p[reason] = tlv(0x13, []byte("lost")); return p }, ErrMalformed, "recovery.reason"},
		{"another order", func(p [][]byte) [][]byte { return [][]byte{p[from], p[list], p[reason]} }, ErrMalformed, "recovery.list"},
		{"a rehearsal with a value", func(p [][]byte) [][]byte { return append(p, tlv(0x80, []byte{1})) }, ErrMalformed, "rehearsal has 1 bytes, not 0"},
		{"a rehearsal that is constructed", func(p [][]byte) [][]byte { return append(p, tlv(0xa0)) }, ErrMalformed, "recovery has 2 bytes"},
		{"a rehearsal twice", func(p [][]byte) [][]byte { return append(p, tlv(0x80), tlv(0x80)) }, ErrMalformed, "recovery has 2 bytes"},
		{"a later field", func(p [][]byte) [][]byte { return append(p, tlv(0x81)) }, ErrNewer, "recovery has the field [1]"},
		{"something more", func(p [][]byte) [][]byte { return append(p, null) }, ErrMalformed, "recovery has 2 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantError(t, inBlob(t, recovered(tlv(0xa2, test.edit(good(7))...))), test.sentinel, test.part)
			wantError(t, inList(t, tlv(0xa1, test.edit(good(2))...)), test.sentinel, test.part)
		})
	}
	for name, test := range map[string]struct {
		edit func(*forgery)
		part string
	}{
		"a blob with a recovery by list 0":         {recovered(tlv(0xa2, good(0)...)), "list 0"},
		"a blob with a recovery that is primitive": {recovered(tlv(0x82, bytes.Join(good(7), nil))), "bytes that do not belong there"},
		"a blob with a recovery in a SEQUENCE":     {recovered(tlv(0xa2, seq(good(7)...))), "recovery.list"},
		"a blob with two recoveries": {func(f *forgery) {
			f.descriptor = append(f.descriptor, tlv(0xa2, good(7)...), tlv(0xa2, good(7)...))
		}, "bytes that do not belong there"},
		"a blob with a recovery before the digest": {func(f *forgery) {
			f.descriptor = slices.Insert(f.descriptor, fieldReplaces, tlv(0xa2, good(7)...))
		}, "bytes that do not belong there"},
		"a blob with a recovery that replaces nothing": {func(f *forgery) {
			f.descriptor[fieldReplaces] = tlv(0xa2, good(7)...)
		}, "replaces no other"},
		"a recovery of long length": {recovered(longForm(0xa2, bytes.Join(good(7), nil))), "recovery is not a DER element"},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, inBlob(t, test.edit), ErrMalformed, test.part) })
	}
	for name, test := range map[string]struct {
		extra [][]byte
		part  string
	}{
		"a list with a recovery by another list": {[][]byte{tlv(0xa1, good(3)...)}, "recovery by list 3 in list 2"},
		"a list with a recovery from a member":   {[][]byte{tlv(0xa1, tlv(2, []byte{2}), tlv(4, keyID(ownerP256())), tlv(0x0c, []byte("x")))}, "who stays a member"},
		"a list with two recoveries":             {[][]byte{tlv(0xa1, good(2)...), tlv(0xa1, good(2)...)}, "bytes that do not belong there"},
		"a list with a recovery in a SEQUENCE":   {[][]byte{tlv(0xa1, seq(good(2)...))}, "recovery.list"},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, inList(t, test.extra...), ErrMalformed, test.part) })
	}
}

// forgeOther signs content of another type than that of a key blob.
func forgeOther(t testing.TB, contentType []int, content []byte) []byte {
	t.Helper()
	f := forge(ownerP256(), keyspec.ECDSA)
	f.eContentType, f.contentTypeValue = oid(contentType...), oid(contentType...)
	f.descriptor, f.content = nil, content
	return f.der(t)
}

func drawRecovery(t *rapid.T, list int) *Recovery {
	return &Recovery{list, drawBytes(t, "from", 20), rapid.StringMatching(`[ -~äß漢]{1,60}`).Draw(t, "reason"), rapid.Bool().Draw(t, "rehearsal")}
}
