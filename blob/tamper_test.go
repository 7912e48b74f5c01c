package blob

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/pem"
	"runtime"
	"sync"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// What follows needs no key: it is what somebody can do who can write to the
// storage, and no more.

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	t.Parallel()
	for _, s := range signers {
		if s.name == "ecdsa-p384" || s.name == "ecdsa-p521" {
			continue // the same code as P-256, and slow
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			der := mustSign(t, payroll(), holders(s.key()), s.key(), s.scheme)
			everyFlip(t, der, func(der []byte) error {
				_, err := parseAndVerify(der, trust(s.key()), payroll().Place())
				return err
			})
		})
	}
	for _, s := range signers {
		t.Run("checkpoint by "+s.name, func(t *testing.T) {
			t.Parallel()
			v, err := SignCheckpoint(seventh(), Signer{Key: s.key(), Scheme: s.scheme}, signed)
			if err != nil {
				t.Fatal(err)
			}
			everyFlip(t, v.Bytes(), func(der []byte) error {
				_, err := parseAndVerifyCheckpoint(der, trust(s.key()))
				return err
			})
		})
	}
	t.Run("checkpoint known by its digest", func(t *testing.T) {
		t.Parallel()
		der := mustSignCheckpoint(t, seventh())
		digest := sha256.Sum256(der)
		everyFlip(t, der, func(der []byte) error {
			u, err := ParseCheckpoint(der)
			if err != nil {
				return err
			}
			_, err = u.VerifyDigest(digest)
			return err
		})
	})
	t.Run("recovered key blob", func(t *testing.T) {
		t.Parallel()
		everyFlip(t, mustSign(t, recovered(), holders(ownerP256()), ownerP256(), keyspec.ECDSA), func(der []byte) error {
			_, err := parseAndVerify(der, trust(ownerP256()), payroll().Place())
			return err
		})
	})
	t.Run("proof", func(t *testing.T) {
		t.Parallel()
		everyFlip(t, mustSignProof(t, threeOpened()), func(der []byte) error {
			_, err := parseAndVerifyProof(der, trust(ownerP256()), threeOpened().KeyringID)
			return err
		})
	})
}

func everyFlip(t *testing.T, der []byte, read func([]byte) error) {
	t.Helper()
	if err := read(der); err != nil {
		t.Fatalf("untouched: %v", err)
	}
	var workers sync.WaitGroup
	step := runtime.GOMAXPROCS(0)
	for first := range step {
		workers.Go(func() {
			changed := bytes.Clone(der)
			for i := first; i < len(der); i += step {
				for bit := range 8 {
					changed[i] ^= 1 << bit
					if err := read(changed); !isIntegrity(err) {
						t.Errorf("bit %d of byte %d of %d: %v", bit, i, len(der), err)
					}
					changed[i] ^= 1 << bit
				}
			}
		})
	}
	workers.Wait()
}

func TestEveryTruncationIsNoticed(t *testing.T) {
	t.Parallel()
	der := mustSign(t, payroll(), holders(ownerRSA()), ownerRSA(), keyspec.RSAPSS)
	checkpoint := mustSignCheckpoint(t, seventh())
	proof := mustSignProof(t, threeOpened())
	for n := range der {
		if _, err := Parse(der[:n]); !isMalformed(err) {
			t.Errorf("blob cut to %d bytes: %v", n, err)
		}
		if _, err := Parse(der[n+1:]); !isIntegrity(err) {
			t.Errorf("blob without its first %d bytes: %v", n+1, err)
		}
	}
	for n := range checkpoint {
		if _, err := ParseCheckpoint(checkpoint[:n]); !isMalformed(err) {
			t.Errorf("checkpoint cut to %d bytes: %v", n, err)
		}
	}
	for n := range proof {
		if _, err := ParseProof(proof[:n]); !isMalformed(err) {
			t.Errorf("proof cut to %d bytes: %v", n, err)
		}
	}
	// Under a good signature a cut is noticed too.
	for what, read := range map[string]struct {
		whole []byte
		parse func([]byte) error
	}{
		"descriptor": {must(recovered().marshal()), func(der []byte) error { _, err := parseDescriptor(der); return err }},
		"checkpoint": {must(seventh().marshal()), func(der []byte) error { _, err := parseCheckpoint(der); return err }},
		"proof":      {must(threeOpened().marshal()), func(der []byte) error { _, err := parseProof(der); return err }},
	} {
		for n := range read.whole {
			if err := read.parse(read.whole[:n]); !isMalformed(err) {
				t.Errorf("signed %s cut to %d bytes: %v", what, n, err)
			}
		}
	}
}

func TestAppendedAndInsertedBytesAreNoticed(t *testing.T) {
	t.Parallel()
	der := mustSign(t, payroll(), holders(ownerP256()), ownerP256(), keyspec.ECDSA)
	for _, more := range [][]byte{{0}, {'\n'}, {0, 0}, null, bytes.Repeat([]byte{0xff}, 100), der} {
		_, err := Parse(append(bytes.Clone(der), more...))
		wantError(t, err, ErrMalformed, "bytes that do not belong there")
		if _, err := Parse(append(bytes.Clone(more), der...)); !isIntegrity(err) {
			t.Errorf("%x before: %v", more, err)
		}
	}
	for i := range der {
		for _, b := range []byte{0, 0x30, 0xff} {
			inserted := append(append(bytes.Clone(der[:i]), b), der[i:]...)
			if _, err := parseAndVerify(inserted, trust(ownerP256()), payroll().Place()); !isIntegrity(err) {
				t.Errorf("%02x inserted at %d: %v", b, i, err)
			}
		}
	}
}

func TestWhatIsNoBlobIsRefused(t *testing.T) {
	t.Parallel()
	der := mustSign(t, payroll(), holders(ownerP256()), ownerP256(), keyspec.ECDSA)
	for _, test := range []struct {
		name     string
		data     []byte
		sentinel error
		part     string
	}{
		{"nothing", nil, ErrMalformed, "contentInfo"},
		{"no bytes", []byte{}, ErrMalformed, "contentInfo"},
		{"text", []byte("no such key\n"), ErrMalformed, "contentInfo"},
		{"PEM", pem.EncodeToMemory(&pem.Block{Type: "CMS", Bytes: der}), ErrMalformed, "is PEM, not DER"},
		{"100 MiB of zeros", make([]byte, 100<<20), ErrTooLarge, "at most 262144"},
		{"100 MiB that start like a blob", append(bytes.Clone(der), make([]byte, 100<<20)...), ErrTooLarge, "at most 262144"},
		{"one byte too many", append(bytes.Clone(der), make([]byte, MaxSize-len(der)+1)...), ErrTooLarge, "262145 bytes"},
		{"exactly the most", append(bytes.Clone(der), make([]byte, MaxSize-len(der))...), ErrMalformed, "bytes that do not belong there"},
		{"a length of 4 GiB", []byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0}, ErrMalformed, "contentInfo"},
		{"a thousand sequences in each other", bytes.Repeat([]byte{0x30, 0x80}, 1000), ErrMalformed, "contentInfo"},
		{"a certificate", certificate(ownerP256()).Raw, ErrMalformed, "contentType"},
		{"a checkpoint", mustSignCheckpoint(t, seventh()), ErrUnknown, "eContentType"},
		{"a list of members", mustMarshalMembers(t, twoMembers()), ErrMalformed, "contentType"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse(test.data)
			wantError(t, err, test.sentinel, test.part)
		})
	}
	_, err := ParseCheckpoint(make([]byte, MaxSize+1))
	wantError(t, err, ErrTooLarge, "checkpoint")
	_, err = ParseProof(make([]byte, MaxSize+1))
	wantError(t, err, ErrTooLarge, "proof")
}

func TestAStrangersBlobIsRefused(t *testing.T) {
	t.Parallel()
	owner, stranger := ownerRSA(), strangerRSA()
	// The attack of the procedure's own documentation: a key of the stranger's,
	// wrapped to our public key.
	der := mustSign(t, payroll(), holders(owner), stranger, keyspec.RSAPSS)
	_, err := parseAndVerify(der, trust(owner), payroll().Place())
	wantError(t, err, ErrUntrusted, "none of the 1 trusted keys")
	_, err = parseAndVerify(der, nil, payroll().Place())
	wantError(t, err, ErrUntrusted, "none of the 0 trusted keys")

	// The same, with our key identifier on it.
	f := forge(stranger, keyspec.RSAPSS)
	f.sid = tlv(0x80, keyID(owner))
	_, err = parseAndVerify(f.der(t), trust(owner, stranger), payroll().Place())
	wantError(t, err, ErrSignature, "verification error")

	// The stranger's content under our signature.
	ours := mustSign(t, payroll(), holders(owner), owner, keyspec.RSAPSS)
	theirs := holders(owner)
	theirs.Recipients[0].Key.(*keyspec.KeyTransport).EncryptedKey = bytes.Repeat([]byte{0x66}, 256)
	substituted := bytes.Replace(ours, bytes.Repeat([]byte{0xe1}, 256), theirs.Recipients[0].Key.(*keyspec.KeyTransport).EncryptedKey, 1)
	_, err = parseAndVerify(substituted, trust(owner), payroll().Place())
	wantError(t, err, ErrSignature, "messageDigest")
}

func TestAChangedListOfRecipientsIsRefused(t *testing.T) {
	t.Parallel()
	key := ownerRSA()
	one := Content{Algorithm: keyspec.AES256, Recipients: []Recipient{transport(keyID(key), crypto.SHA256)}}
	two := Content{Algorithm: keyspec.AES256, Recipients: append(one.Recipients, agreement(bytes.Repeat([]byte{9}, 20), ecdh.P256(), keyspec.AES256))}
	for name, contents := range map[string][2]Content{"added": {one, two}, "removed": {two, one}} {
		t.Run(name, func(t *testing.T) {
			u, err := Parse(mustSign(t, payroll(), contents[0], key, keyspec.RSAPSS))
			if err != nil {
				t.Fatal(err)
			}
			// The signature of one content around the other.
			u.signed.content = must(contents[1].marshal())
			_, err = parseAndVerify(must(u.signed.marshal()), trust(key), payroll().Place())
			wantError(t, err, ErrSignature, "messageDigest")
		})
	}
}

func TestAnotherDescriptorUnderOurSignatureIsRefused(t *testing.T) {
	t.Parallel()
	key := ownerRSA()
	u, err := Parse(mustSign(t, payroll(), holders(key), key, keyspec.RSAPSS))
	if err != nil {
		t.Fatal(err)
	}
	d := payroll()
	d.Name = "billing"
	for i, a := range u.signed.attributes {
		if a.oid.Equal(oidKeyDescriptor) {
			u.signed.attributes[i] = newAttribute(a.oid, must(d.marshal()))
		}
	}
	_, err = parseAndVerify(must(u.signed.marshal()), trust(key), d.Place())
	wantError(t, err, ErrSignature, "verification error")
}

func TestAMovedBlobIsRefused(t *testing.T) {
	t.Parallel()
	key := ownerP256()
	der := mustSign(t, payroll(), holders(key), key, keyspec.ECDSA)
	for name, move := range map[string]func(*Place){
		"name":     func(p *Place) { p.Name = "billing" },
		"longer":   func(p *Place) { p.Name = "payroll/eu" },
		"version":  func(p *Place) { p.Version = 3 },
		"revision": func(p *Place) { p.Revision = 2 },
		"keyring":  func(p *Place) { p.KeyringID[15]++ },
		"nowhere":  func(p *Place) { *p = Place{} },
	} {
		t.Run(name, func(t *testing.T) {
			at := payroll().Place()
			move(&at)
			b, err := parseAndVerify(der, trust(key), at)
			if b != nil {
				t.Error("a blob beside the error")
			}
			wantError(t, err, ErrMisplaced, payroll().Place().String())
			wantError(t, err, ErrMisplaced, at.String())
		})
	}
}
