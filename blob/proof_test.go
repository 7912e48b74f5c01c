package blob

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"pgregory.net/rapid"
)

func threeOpened() Proof {
	return Proof{KeyringID: payroll().KeyringID, Created: created, Opened: opened(3)}
}

// opened returns n blobs, ascending, of keys of their own.
func opened(n int) (out []Opened) {
	for i := range n {
		out = append(out, Opened{Blob: [32]byte{byte(i >> 8), byte(i), 31: 0xd1}, KeyID: ID{byte(i), 15: 0x1d}})
	}
	return out
}

func mustSignProof(t testing.TB, p Proof) []byte {
	t.Helper()
	v, err := SignProof(p, Signer{Key: ownerP256(), Scheme: keyspec.ECDSA}, signed)
	if err != nil {
		t.Fatal(err)
	}
	return v.Bytes()
}

func parseAndVerifyProof(der []byte, trusted []Party, keyring ID) (*VerifiedProof, error) {
	u, err := ParseProof(der)
	if err != nil {
		return nil, err
	}
	return u.Verify(trusted, keyring)
}

func TestProofSaysWhatWasSigned(t *testing.T) {
	t.Parallel()
	for _, s := range signers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			p := threeOpened()
			slices.Reverse(p.Opened)
			given := slices.Clone(p.Opened)
			made, err := SignProof(p, Signer{Key: s.key(), Scheme: s.scheme}, signed)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(p.Opened, given) {
				t.Error("the argument was sorted")
			}
			der := made.Bytes()
			u, err := ParseProof(der)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(u.SignerIdentifier(), keyID(s.key())) {
				t.Errorf("claimed signer is %x", u.SignerIdentifier())
			}
			v, err := u.Verify(trust(strangerP256(), s.key()), p.KeyringID)
			if err != nil {
				t.Fatal(err)
			}
			if v.Digest() != sha256.Sum256(der) || !bytes.Equal(v.Bytes(), der) || !bytes.Equal(v.SignerKeyID(), keyID(s.key())) ||
				v.SignatureScheme() != s.scheme || !v.SigningTime().Equal(signed) {
				t.Error("digest, bytes, signer, scheme or time differ")
			}
			clear(der)
			for range 2 {
				got := v.Proof()
				if diff := cmp.Diff(threeOpened(), got); diff != "" {
					t.Error(diff)
				}
				clear(got.Opened)
				clear(v.Bytes())
				clear(v.SignerKeyID())
			}
		})
	}
}

func TestProofOfAnotherKeyringOrSignerIsRefused(t *testing.T) {
	t.Parallel()
	der := mustSignProof(t, threeOpened())
	other := threeOpened().KeyringID
	other[15]++
	_, err := parseAndVerifyProof(der, trust(ownerP256()), other)
	wantError(t, err, ErrMisplaced, "signed for keyring "+threeOpened().KeyringID.String()+", found in keyring "+other.String())
	_, err = parseAndVerifyProof(der, trust(strangerP256()), threeOpened().KeyringID)
	wantError(t, err, ErrUntrusted, "none of the 1 trusted keys")
	_, err = parseAndVerifyProof(der, nil, threeOpened().KeyringID)
	wantError(t, err, ErrUntrusted, "none of the 0 trusted keys")

	// A blob more than the holder has unwrapped.
	u, err := ParseProof(der)
	if err != nil {
		t.Fatal(err)
	}
	p := threeOpened()
	p.Opened = opened(4)
	u.signed.content = must(p.marshal())
	_, err = parseAndVerifyProof(must(u.signed.marshal()), trust(ownerP256()), p.KeyringID)
	wantError(t, err, ErrSignature, "messageDigest")
}

// A signature on one kind of object is not one on another, even where the
// content could be read as either.
func TestNoKindOfObjectPassesForAnother(t *testing.T) {
	t.Parallel()
	objects := map[string][]byte{
		"key blob":   mustSign(t, payroll(), holders(ownerP256()), ownerP256(), keyspec.ECDSA),
		"checkpoint": mustSignCheckpoint(t, seventh()),
		"proof":      mustSignProof(t, threeOpened()),
	}
	for _, reader := range []struct {
		name string
		read func([]byte) error
	}{
		{"key blob", func(der []byte) error { _, err := Parse(der); return err }},
		{"checkpoint", func(der []byte) error { _, err := ParseCheckpoint(der); return err }},
		{"proof", func(der []byte) error { _, err := ParseProof(der); return err }},
	} {
		for name, der := range objects {
			if err := reader.read(der); name == reader.name && err != nil {
				t.Errorf("%s: %v", name, err)
			} else if name != reader.name {
				wantError(t, err, ErrUnknown, reader.name+".contentInfo.content.signedData.encapContentInfo.eContentType is ")
			}
		}
	}
	// Under another eContentType the signed attribute contentType gives it away.
	u, err := ParseProof(objects["proof"])
	if err != nil {
		t.Fatal(err)
	}
	u.signed.contentType = oidCheckpoint
	_, err = parseAndVerifyCheckpoint(must(u.signed.marshal()), trust(ownerP256()))
	wantError(t, err, ErrUnknown, "contentType.value is")
}

func TestSignProofRefuses(t *testing.T) {
	t.Parallel()
	signRefuses(t, threeOpened, SignProof, []refused[Proof]{
		{"no blobs", func(p *Proof) { p.Opened = nil }, "0 blobs, not 1 to 4096"},
		{"4097 blobs", func(p *Proof) { p.Opened = opened(4097) }, "4097 blobs, not 1 to 4096"},
		{"a blob twice", func(p *Proof) { p.Opened = append(p.Opened, p.Opened[0]) }, "is there twice"},
		{"no creation time", func(p *Proof) { p.Created = time.Time{} }, "creation time"},
		{"a creation time after 9999", func(p *Proof) { p.Created = created.AddDate(9000, 0, 0) }, "creation time"},
	})
}

func TestTheLargestProofFits(t *testing.T) {
	t.Parallel()
	p := threeOpened()
	p.Opened = opened(MaxOpened)
	v, err := parseAndVerifyProof(mustSignProof(t, p), trust(ownerP256()), p.KeyringID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, v.Proof()); diff != "" {
		t.Error(diff)
	}
}

// Everything here carries a good signature by the trusted key.
func TestRefusesProofsThatTheHolderSignedButWeDoNotAccept(t *testing.T) {
	t.Parallel()
	const (
		version = iota
		keyring
		createdAt
		openedAt
	)
	keyringID := threeOpened().KeyringID
	id := tlv(4, make([]byte, 16))
	blob := func(first byte) []byte { return seq(tlv(4, []byte{first}, make([]byte, 31)), id) }
	good := func() [][]byte {
		return [][]byte{tlv(2, []byte{1}), tlv(4, keyringID[:]), tlv(0x18, []byte("20250314150926Z")), seq(blob(1), blob(2))}
	}
	set := func(i int, der []byte) func([][]byte) [][]byte {
		return func(pieces [][]byte) [][]byte { pieces[i] = der; return pieces }
	}
	read := func(t *testing.T, content []byte) error {
		_, err := parseAndVerifyProof(forgeOther(t, oidProof, content), trust(ownerP256()), keyringID)
		return err
	}
	if err := read(t, seq(good()...)); err != nil {
		t.Fatalf("unchanged: %v", err)
	}
	var many [][]byte
	for _, o := range opened(4097) {
		many = append(many, seq(tlv(4, o.Blob[:]), id))
	}
	if err := read(t, seq(set(openedAt, seq(many[:4096]...))(good())...)); err != nil {
		t.Fatalf("4096 blobs: %v", err)
	}
	for _, test := range []struct {
		name     string
		edit     func([][]byte) [][]byte
		sentinel error
		part     string
	}{
		{"nothing", func([][]byte) [][]byte { return nil }, ErrMalformed, "content.version"},
		{"version 0", set(version, tlv(2, []byte{0})), ErrNewer, "format version 0"},
		{"version 2", set(version, tlv(2, []byte{2})), ErrNewer, "format version 2"},
		{"a padded version", set(version, tlv(2, []byte{0, 1})), ErrMalformed, "version is a padded integer"},
		{"a keyring id of 15 bytes", set(keyring, tlv(4, make([]byte, 15))), ErrMalformed, "keyringID has 15 bytes"},
		{"a keyring id of 17 bytes", set(keyring, tlv(4, make([]byte, 17))), ErrMalformed, "keyringID has 17 bytes"},
		{"another keyring", set(keyring, tlv(4, make([]byte, 16))), ErrMisplaced, "found in keyring"},
		{"a time with a fraction", set(createdAt, tlv(0x18, []byte("20250314150926.5Z"))), ErrMalformed, "created"},
		{"a time with an offset", set(createdAt, tlv(0x18, []byte("20250314150926+0000"))), ErrMalformed, "created"},
		{"a time as UTCTime", set(createdAt, tlv(0x17, []byte("250314150926Z"))), ErrMalformed, "created"},
		{"a time in the year 0", set(createdAt, tlv(0x18, []byte("00000101000000Z"))), ErrMalformed, "creation time"},
		{"no blobs", set(openedAt, seq()), ErrMalformed, "0 blobs, not 1 to 4096"},
		{"blobs left out", func(p [][]byte) [][]byte { return p[:openedAt] }, ErrMalformed, "content.opened"},
		{"4097 blobs", set(openedAt, seq(many...)), ErrMalformed, "is not one of at most 4096"},
		{"a set of blobs", set(openedAt, tlv(0x31, blob(1))), ErrMalformed, "content.opened"},
		{"a blob twice", set(openedAt, seq(blob(1), blob(1))), ErrMalformed, "is there twice"},
		{"blobs in descending order", set(openedAt, seq(blob(2), blob(1))), ErrMalformed, "is not in ascending order"},
		{"a digest of 31 bytes", set(openedAt, seq(seq(tlv(4, make([]byte, 31)), id))), ErrMalformed, "digest has 31 bytes"},
		{"a digest of 33 bytes", set(openedAt, seq(seq(tlv(4, make([]byte, 33)), id))), ErrMalformed, "digest has 33 bytes"},
		{"an empty digest", set(openedAt, seq(seq(tlv(4), id))), ErrMalformed, "digest has 0 bytes"},
		{"a digest as BIT STRING", set(openedAt, seq(seq(tlv(3, make([]byte, 32)), id))), ErrMalformed, "blob.digest"},
		{"a digest of long length", set(openedAt, seq(seq(longForm(4, make([]byte, 32)), id))), ErrMalformed, "blob.digest"},
		{"a digest in pieces", set(openedAt, seq(seq(tlv(0x24, tlv(4, make([]byte, 32))), id))), ErrMalformed, "blob.digest"},
		{"a digest without a key id", set(openedAt, seq(seq(tlv(4, make([]byte, 32))))), ErrMalformed, "blob.keyID"},
		{"a digest alone", set(openedAt, seq(tlv(4, make([]byte, 32)))), ErrMalformed, "opened.blob"},
		{"a key id of 15 bytes", set(openedAt, seq(seq(tlv(4, make([]byte, 32)), tlv(4, make([]byte, 15))))), ErrMalformed, "keyID has 15 bytes"},
		{"a key id of 17 bytes", set(openedAt, seq(seq(tlv(4, make([]byte, 32)), tlv(4, make([]byte, 17))))), ErrMalformed, "keyID has 17 bytes"},
		{"two key ids", set(openedAt, seq(seq(tlv(4, make([]byte, 32)), id, id))), ErrMalformed, "blob has 18 bytes"},
		{"a later field of a blob", set(openedAt, seq(seq(tlv(4, make([]byte, 32)), id, tlv(0x80)))), ErrNewer, "field [0]"},
		{"another order", func(p [][]byte) [][]byte { return [][]byte{p[version], p[createdAt], p[keyring], p[openedAt]} }, ErrMalformed, "keyringID"},
		{"a later field", func(p [][]byte) [][]byte { return append(p, tlv(0xa0, null)) }, ErrNewer, "field [0]"},
		{"a later field that is primitive", func(p [][]byte) [][]byte { return append(p, tlv(0x83)) }, ErrNewer, "field [3]"},
		{"something more", func(p [][]byte) [][]byte { return append(p, null) }, ErrMalformed, "content has 2 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantError(t, read(t, seq(test.edit(good())...)), test.sentinel, test.part)
		})
	}
	wantError(t, read(t, append(seq(good()...), 0)), ErrMalformed, "proof has 1 bytes")
	wantError(t, read(t, tlv(0x31, good()...)), ErrMalformed, "proof.content")
	wantError(t, read(t, longForm(0x30, contentOf(seq(good()...)))), ErrMalformed, "proof.content")
}

func TestRoundTripsOfProofs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := Proof{KeyringID: ID(drawBytes(t, "keyring", 16)), Created: drawTime(t, "created")}
		one := rapid.Map(rapid.SliceOfN(rapid.Byte(), 48, 48), func(b []byte) Opened { return Opened{[32]byte(b), ID(b[32:])} })
		p.Opened = rapid.SliceOfNDistinct(one, 1, 20, func(o Opened) [32]byte { return o.Blob }).Draw(t, "opened")
		at := drawTime(t, "signing time")
		made, err := SignProof(p, Signer{Key: ownerP256(), Scheme: keyspec.ECDSA}, at)
		if err != nil {
			t.Fatal(err)
		}
		v, err := parseAndVerifyProof(made.Bytes(), trust(ownerP256()), p.KeyringID)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(p.Opened, func(a, b Opened) int { return bytes.Compare(a.Blob[:], b.Blob[:]) })
		if diff := cmp.Diff(p, v.Proof()); diff != "" || !v.SigningTime().Equal(at) {
			t.Error(diff, v.SigningTime())
		}
	})
}
