package blob

import (
	"bytes"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"pgregory.net/rapid"
)

// seventh is a checkpoint with all that one can have.
func seventh() Checkpoint {
	return Checkpoint{
		KeyringID: payroll().KeyringID,
		Number:    7,
		Created:   created,
		Nonce:     [16]byte(bytes.Repeat([]byte{0x0e}, 16)),
		Previous:  bytes.Repeat([]byte{0x06}, 32),
		Log:       [32]byte(bytes.Repeat([]byte{0x10}, 32)),
		List:      ListRef{Number: 2, Digest: [32]byte(bytes.Repeat([]byte{0x9d}, 32)), Introduced: 5},
		Root:      [32]byte(bytes.Repeat([]byte{0x40}, 32)),
		RootAt:    Hint{Pack: PackID(bytes.Repeat([]byte{0xac}, 16)), Offset: 4096, Length: 771},
		Keys:      1234,
		Changes:   [32]byte(bytes.Repeat([]byte{0xc4}, 32)),
	}
}

// first is the checkpoint that founds a keyring.
func first() Checkpoint {
	c := seventh()
	c.Number, c.Previous, c.Log = 1, nil, sha256.Sum256(nil)
	c.List.Number, c.List.Introduced, c.Keys = 1, 1, 0
	return c
}

func mustSignCheckpoint(t testing.TB, c Checkpoint) []byte {
	t.Helper()
	v, err := SignCheckpoint(c, Signer{Key: ownerP256(), Scheme: keyspec.ECDSA}, signed)
	if err != nil {
		t.Fatal(err)
	}
	return v.Bytes()
}

func parseAndVerifyCheckpoint(der []byte, trusted []Party) (*VerifiedCheckpoint, error) {
	u, err := ParseCheckpoint(der)
	if err != nil {
		return nil, err
	}
	return u.Verify(trusted)
}

func TestCheckpointSaysWhatWasSigned(t *testing.T) {
	t.Parallel()
	for _, s := range signers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := seventh()
			c.Created = c.Created.Add(time.Second - 1) // which is cut off
			made, err := SignCheckpoint(c, Signer{Key: s.key(), Scheme: s.scheme}, signed)
			if err != nil {
				t.Fatal(err)
			}
			der := made.Bytes()
			u, err := ParseCheckpoint(der)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(u.SignerIdentifier(), keyID(s.key())) || u.Digest() != sha256.Sum256(der) {
				t.Errorf("claimed signer is %x, digest %x", u.SignerIdentifier(), u.Digest())
			}
			v, err := u.Verify(trust(strangerP256(), s.key()))
			if err != nil {
				t.Fatal(err)
			}
			clear(der)
			for range 2 {
				for _, v := range []*VerifiedCheckpoint{made, v} {
					got := v.Checkpoint()
					if diff := cmp.Diff(seventh(), got); diff != "" {
						t.Error(diff)
					}
					if v.Digest() != u.Digest() || sha256.Sum256(v.Bytes()) != u.Digest() || !bytes.Equal(v.SignerKeyID(), keyID(s.key())) ||
						v.SignatureScheme() != s.scheme || !v.SigningTime().Equal(signed) {
						t.Error("digest, bytes, signer, scheme or time differ")
					}
					clear(got.Previous)
					clear(v.Bytes())
					clear(v.SignerKeyID())
				}
			}
		})
	}
}

func TestFirstAndLastCheckpoint(t *testing.T) {
	t.Parallel()
	last := seventh()
	last.Number, last.List.Number, last.List.Introduced, last.Keys = MaxNumber, MaxNumber, MaxNumber, MaxNumber
	last.RootAt.Offset, last.RootAt.Length = MaxPack, MaxPack
	last.Created = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	empty := first()
	empty.Nonce, empty.RootAt = [16]byte{}, Hint{}
	for name, want := range map[string]Checkpoint{"first": first(), "last": last, "of zeros": empty} {
		v, err := parseAndVerifyCheckpoint(mustSignCheckpoint(t, want), trust(ownerP256()))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, v.Checkpoint()); diff != "" {
			t.Error(name, diff)
		}
	}
}

func TestCheckpointByAnotherSignerIsRefused(t *testing.T) {
	t.Parallel()
	der := mustSignCheckpoint(t, seventh())
	_, err := parseAndVerifyCheckpoint(der, trust(strangerP256()))
	wantError(t, err, ErrUntrusted, "checkpoint: untrusted signer: signed by")
	_, err = parseAndVerifyCheckpoint(der, nil)
	wantError(t, err, ErrUntrusted, "none of the 0 trusted keys")

	// The stranger's signature with the owner's name on it.
	f := forge(strangerP256(), keyspec.ECDSA)
	f.eContentType, f.contentTypeValue = oid(oidCheckpoint...), oid(oidCheckpoint...)
	f.descriptor, f.content = nil, must(seventh().marshal())
	f.sid = tlv(0x80, keyID(ownerP256()))
	_, err = parseAndVerifyCheckpoint(f.der(t), trust(ownerP256(), strangerP256()))
	wantError(t, err, ErrSignature, "checkpoint, signer")

	// The owner's signature around another root.
	u, err := ParseCheckpoint(der)
	if err != nil {
		t.Fatal(err)
	}
	c := seventh()
	c.Root[31]++
	u.signed.content = must(c.marshal())
	_, err = parseAndVerifyCheckpoint(must(u.signed.marshal()), trust(ownerP256()))
	wantError(t, err, ErrSignature, "messageDigest")

	// The owner's signature of another checkpoint.
	other, err := ParseCheckpoint(mustSignCheckpoint(t, c))
	if err != nil {
		t.Fatal(err)
	}
	u.signed.signature = other.signed.signature
	_, err = parseAndVerifyCheckpoint(must(u.signed.marshal()), trust(ownerP256()))
	wantError(t, err, ErrSignature, "messageDigest")
}

// What was known by its digest is the same as what was known by its signature.
func TestACheckpointIsKnownByItsDigest(t *testing.T) {
	t.Parallel()
	der := mustSignCheckpoint(t, seventh())
	u, err := ParseCheckpoint(der)
	if err != nil {
		t.Fatal(err)
	}
	v, err := u.VerifyDigest(sha256.Sum256(der))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(seventh(), v.Checkpoint()); diff != "" {
		t.Error(diff)
	}
	if v.Digest() != sha256.Sum256(der) || !bytes.Equal(v.Bytes(), der) || v.SignerKeyID() != nil || !bytes.Equal(v.SignerIdentifier(), keyID(ownerP256())) ||
		v.SignatureScheme() != keyspec.ECDSA || !v.SigningTime().Equal(signed) {
		t.Error("digest, bytes, signer, scheme or time differ")
	}
	for i := range 32 {
		other := v.Digest()
		other[i] ^= 1
		got, err := u.VerifyDigest(other)
		if got != nil {
			t.Error("a checkpoint beside the error")
		}
		wantError(t, err, ErrMisplaced, "checkpoint with the digest")
	}
	_, err = u.VerifyDigest([32]byte{})
	wantError(t, err, ErrMisplaced, "checkpoint with the digest")
}

// What has the digest is genuine and can still be no checkpoint: whoever made it is
// trusted, not right.
func TestACheckpointKnownByItsDigestIsReadAsStrictly(t *testing.T) {
	t.Parallel()
	verify := func(der []byte) error {
		u, err := ParseCheckpoint(der)
		if err != nil {
			return err
		}
		_, err = u.VerifyDigest(sha256.Sum256(der))
		return err
	}
	wantError(t, verify(forgeOther(t, oidCheckpoint, seq())), ErrMalformed, "content.version")
	wantError(t, verify(forgeOther(t, oidCheckpoint, seq(tlv(2, []byte{9})))), ErrNewer, "format version 9")
	f := forge(ownerP256(), keyspec.ECDSA)
	f.eContentType, f.contentTypeValue = oid(oidCheckpoint...), oid(oidCheckpoint...)
	f.descriptor, f.content, f.timeValue = nil, seq(), null
	wantError(t, verify(f.der(t)), ErrMalformed, "signingTime")

	// It checks no signature, as it says; Verify does.
	der := mustSignCheckpoint(t, seventh())
	broken := flip(der, len(der)-1)
	if err := verify(broken); err != nil {
		t.Errorf("by its digest: %v", err)
	}
	_, err := parseAndVerifyCheckpoint(broken, trust(ownerP256()))
	wantError(t, err, ErrSignature, "checkpoint")
}

func TestSignCheckpointRefuses(t *testing.T) {
	t.Parallel()
	signRefuses(t, seventh, SignCheckpoint, []refused[Checkpoint]{
		{"number 0", func(c *Checkpoint) { c.Number = 0 }, "number 0 is not in 1..2147483647"},
		{"a number above the limit", func(c *Checkpoint) { c.Number = MaxNumber + 1 }, "number 2147483648"},
		{"a first one with one before it", func(c *Checkpoint) { *c = first(); c.Previous = make([]byte, 32) }, "names one before it"},
		{"a first one with an empty one before it", func(c *Checkpoint) { *c = first(); c.Previous = []byte{} }, "names one before it"},
		{"a second one with none before it", func(c *Checkpoint) { c.Previous = nil }, "has 0 bytes, not 32"},
		{"a digest of 20 bytes", func(c *Checkpoint) { c.Previous = make([]byte, 20) }, "has 20 bytes, not 32"},
		{"no creation time", func(c *Checkpoint) { c.Created = time.Time{} }, "creation time"},
		{"a creation time after 9999", func(c *Checkpoint) { c.Created = created.AddDate(9000, 0, 0) }, "creation time"},
		{"list 0", func(c *Checkpoint) { c.List.Number = 0 }, "number 0 of the member list"},
		{"a list above the limit", func(c *Checkpoint) { c.List.Number = MaxNumber + 1 }, "number 2147483648 of the member list"},
		{"a list introduced by checkpoint 0", func(c *Checkpoint) { c.List.Introduced = 0 }, "introduced by checkpoint 0, not one of 1..7"},
		{"a list introduced by the next checkpoint", func(c *Checkpoint) { c.List.Introduced = 8 }, "introduced by checkpoint 8, not one of 1..7"},
		{"a negative number of keys", func(c *Checkpoint) { c.Keys = -1 }, "-1 keys, not 0..2147483647"},
		{"too many keys", func(c *Checkpoint) { c.Keys = MaxNumber + 1 }, "2147483648 keys"},
		{"a negative offset", func(c *Checkpoint) { c.RootAt.Offset = -1 }, "hint of 771 bytes at -1"},
		{"an offset of more than 16 MiB", func(c *Checkpoint) { c.RootAt.Offset = 16<<20 + 1 }, "at 16777217"},
		{"a negative length", func(c *Checkpoint) { c.RootAt.Length = -1 }, "hint of -1 bytes"},
		{"a length of more than 16 MiB", func(c *Checkpoint) { c.RootAt.Length = 16<<20 + 1 }, "hint of 16777217 bytes"},
	})
}

// Everything here carries a good signature by the trusted key.
func TestRefusesCheckpointsThatTheOwnerSignedButWeDoNotAccept(t *testing.T) {
	t.Parallel()
	const (
		version = iota
		keyring
		number
		createdAt
		nonce
		previous
		log
		list
		root
		rootAt
		keys
		changes
	)
	number31 := tlv(2, []byte{0x7f, 0xff, 0xff, 0xff})
	number32 := tlv(2, []byte{0, 0x80, 0, 0, 0})
	digest, sixteen := tlv(4, make([]byte, 32)), tlv(4, make([]byte, 16))
	mebi16, mebi16more := tlv(2, []byte{1, 0, 0, 0}), tlv(2, []byte{1, 0, 0, 1})
	one, two, zero := tlv(2, []byte{1}), tlv(2, []byte{2}), tlv(2, []byte{0})
	good := func() [][]byte {
		return [][]byte{one, sixteen, two, tlv(0x18, []byte("20250314150926Z")), sixteen, tlv(0x80, make([]byte, 32)), digest,
			seq(one, digest, one), digest, seq(sixteen, zero, one), zero, digest}
	}
	read := func(t *testing.T, content []byte) error {
		_, err := parseAndVerifyCheckpoint(forgeOther(t, oidCheckpoint, content), trust(ownerP256()))
		return err
	}
	set := func(i int, der []byte) func([][]byte) [][]byte {
		return func(pieces [][]byte) [][]byte { pieces[i] = der; return pieces }
	}
	for name, edit := range map[string]func([][]byte) [][]byte{
		"unchanged":                         func(p [][]byte) [][]byte { return p },
		"the highest number":                set(number, number31),
		"the highest list":                  set(list, seq(number31, digest, two)),
		"a list of this checkpoint":         set(list, seq(two, digest, two)),
		"the most keys":                     set(keys, number31),
		"the highest offset and length":     set(rootAt, seq(sixteen, mebi16, mebi16)),
		"the first one with none before it": func(p [][]byte) [][]byte { p[number], p[previous] = one, nil; return p },
	} {
		if err := read(t, seq(edit(good())...)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, test := range []struct {
		name     string
		edit     func([][]byte) [][]byte
		sentinel error
		part     string
	}{
		{"nothing", func([][]byte) [][]byte { return nil }, ErrMalformed, "content.version"},
		{"version 0", set(version, zero), ErrNewer, "format version 0"},
		{"version 2", set(version, two), ErrNewer, "format version 2"},
		{"a padded version", set(version, tlv(2, []byte{0, 1})), ErrMalformed, "version is a padded integer"},
		{"a keyring id of 15 bytes", set(keyring, tlv(4, make([]byte, 15))), ErrMalformed, "keyringID has 15 bytes"},
		{"a keyring id of 17 bytes", set(keyring, tlv(4, make([]byte, 17))), ErrMalformed, "keyringID has 17 bytes"},
		{"number 0", set(number, zero), ErrMalformed, "number 0"},
		{"a negative number", set(number, tlv(2, []byte{0xfe})), ErrMalformed, "number is negative"},
		{"a number of 2^31", set(number, number32), ErrMalformed, "number is above 2147483647"},
		{"a padded number", set(number, tlv(2, []byte{0, 2})), ErrMalformed, "number is a padded integer"},
		{"the first one with one before it", func(p [][]byte) [][]byte { p[number] = one; return p }, ErrMalformed, "names one before it"},
		{"a time with a fraction", set(createdAt, tlv(0x18, []byte("20250314150926.5Z"))), ErrMalformed, "created"},
		{"a time with an offset", set(createdAt, tlv(0x18, []byte("20250314150926+0000"))), ErrMalformed, "created"},
		{"a time as UTCTime", set(createdAt, tlv(0x17, []byte("250314150926Z"))), ErrMalformed, "created"},
		{"a time in the year 0", set(createdAt, tlv(0x18, []byte("00000101000000Z"))), ErrMalformed, "creation time"},
		{"a nonce of 15 bytes", set(nonce, tlv(4, make([]byte, 15))), ErrMalformed, "nonce has 15 bytes"},
		{"a nonce of 17 bytes", set(nonce, tlv(4, make([]byte, 17))), ErrMalformed, "nonce has 17 bytes"},
		{"no checkpoint before", set(previous, nil), ErrMalformed, "has 0 bytes"},
		{"a checkpoint before of 31 bytes", set(previous, tlv(0x80, make([]byte, 31))), ErrMalformed, "previous has 31 bytes"},
		{"a checkpoint before under an explicit tag", set(previous, tlv(0xa0, digest)), ErrMalformed, "log"},
		{"a log of 31 bytes", set(log, tlv(4, make([]byte, 31))), ErrMalformed, "log has 31 bytes"},
		{"no log", set(log, nil), ErrMalformed, "content.log"},
		{"list 0", set(list, seq(zero, digest, one)), ErrMalformed, "number 0 of the member list"},
		{"a list of 2^31", set(list, seq(number32, digest, one)), ErrMalformed, "list.number is above"},
		{"a digest of the list of 33 bytes", set(list, seq(one, tlv(4, make([]byte, 33)), one)), ErrMalformed, "list.digest has 33 bytes"},
		{"a list introduced by checkpoint 0", set(list, seq(one, digest, zero)), ErrMalformed, "introduced by checkpoint 0"},
		{"a list introduced by a later checkpoint", set(list, seq(one, digest, tlv(2, []byte{3}))), ErrMalformed, "introduced by checkpoint 3"},
		{"a list with a later field", set(list, seq(one, digest, one, tlv(0x80))), ErrNewer, "list has the field [0]"},
		{"a list with something more", set(list, seq(one, digest, one, null)), ErrMalformed, "list has 2 bytes"},
		{"a list that is a SET", set(list, tlv(0x31, one, digest, one)), ErrMalformed, "content.list"},
		{"a root of 31 bytes", set(root, tlv(4, make([]byte, 31))), ErrMalformed, "root has 31 bytes"},
		{"a root as BIT STRING", set(root, tlv(3, make([]byte, 32))), ErrMalformed, "content.root"},
		{"a root of long length", set(root, longForm(4, make([]byte, 32))), ErrMalformed, "content.root"},
		{"a pack of 15 bytes", set(rootAt, seq(tlv(4, make([]byte, 15)), zero, one)), ErrMalformed, "rootAt.pack has 15 bytes"},
		{"a negative offset", set(rootAt, seq(sixteen, tlv(2, []byte{0xff}), one)), ErrMalformed, "rootAt.offset is negative"},
		{"an offset of more than 16 MiB", set(rootAt, seq(sixteen, mebi16more, one)), ErrMalformed, "at 16777217"},
		{"a length of more than 16 MiB", set(rootAt, seq(sixteen, zero, mebi16more)), ErrMalformed, "hint of 16777217 bytes"},
		{"a length of 2^31", set(rootAt, seq(sixteen, zero, number32)), ErrMalformed, "rootAt.length is above"},
		{"a hint with a later field", set(rootAt, seq(sixteen, zero, one, tlv(0x80))), ErrNewer, "rootAt has the field [0]"},
		{"a hint with something more", set(rootAt, seq(sixteen, zero, one, null)), ErrMalformed, "rootAt has 2 bytes"},
		{"a hint without a length", set(rootAt, seq(sixteen, zero)), ErrMalformed, "rootAt.length"},
		{"a negative number of keys", set(keys, tlv(2, []byte{0xff})), ErrMalformed, "keys is negative"},
		{"2^31 keys", set(keys, number32), ErrMalformed, "keys is above"},
		{"keys as ENUMERATED", set(keys, tlv(0x0a, []byte{1})), ErrMalformed, "content.keys"},
		{"changes of 33 bytes", set(changes, tlv(4, make([]byte, 33))), ErrMalformed, "changes has 33 bytes"},
		{"changes left out", func(p [][]byte) [][]byte { return p[:changes] }, ErrMalformed, "content.changes"},
		{"root and log the other way round", func(p [][]byte) [][]byte { p[list], p[root] = p[root], p[list]; return p }, ErrMalformed, "content.list"},
		{"a later field", func(p [][]byte) [][]byte { return append(p, tlv(0xa1, null)) }, ErrNewer, "field [1]"},
		{"something more", func(p [][]byte) [][]byte { return append(p, null) }, ErrMalformed, "content has 2 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantError(t, read(t, seq(test.edit(good())...)), test.sentinel, test.part)
		})
	}
	wantError(t, read(t, append(seq(good()...), 0)), ErrMalformed, "checkpoint has 1 bytes")
	wantError(t, read(t, tlv(0x31, good()...)), ErrMalformed, "checkpoint.content")
	wantError(t, read(t, longForm(0x30, contentOf(seq(good()...)))), ErrMalformed, "checkpoint.content")

	der := mustSignCheckpoint(t, seventh())
	for _, more := range [][]byte{{0}, null, der} {
		_, err := ParseCheckpoint(append(bytes.Clone(der), more...))
		wantError(t, err, ErrMalformed, "bytes that do not belong there")
	}
	_, err := parseAndVerifyCheckpoint(forgeOther(t, oidProof, seq(good()...)), trust(ownerP256()))
	wantError(t, err, ErrUnknown, "eContentType")
}

func TestRoundTripsOfCheckpoints(t *testing.T) {
	t.Parallel()
	digest := func(t *rapid.T, what string) [32]byte { return [32]byte(drawBytes(t, what, 32)) }
	rapid.Check(t, func(t *rapid.T) {
		c := Checkpoint{
			KeyringID: ID(drawBytes(t, "keyring", 16)),
			Number:    rapid.IntRange(1, MaxNumber).Draw(t, "number"),
			Created:   drawTime(t, "created"),
			Nonce:     [16]byte(drawBytes(t, "nonce", 16)),
			Log:       digest(t, "log"),
			List:      ListRef{Number: rapid.IntRange(1, MaxNumber).Draw(t, "list"), Digest: digest(t, "digest of the list")},
			Root:      digest(t, "root"),
			RootAt:    Hint{PackID(drawBytes(t, "pack", 16)), rapid.IntRange(0, MaxPack).Draw(t, "offset"), rapid.IntRange(0, MaxPack).Draw(t, "length")},
			Keys:      rapid.IntRange(0, MaxNumber).Draw(t, "keys"),
			Changes:   digest(t, "changes"),
		}
		c.List.Introduced = rapid.IntRange(1, c.Number).Draw(t, "introduced")
		if c.Number > 1 {
			c.Previous = drawBytes(t, "previous", 32)
		}
		at := drawTime(t, "signing time")
		made, err := SignCheckpoint(c, Signer{Key: ownerP256(), Scheme: keyspec.ECDSA}, at)
		if err != nil {
			t.Fatal(err)
		}
		v, err := parseAndVerifyCheckpoint(made.Bytes(), trust(ownerP256()))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, v.Checkpoint()); diff != "" || !v.SigningTime().Equal(at) {
			t.Error(diff, v.SigningTime())
		}
	})
}
