package blob

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/openssltest"
)

// derivedContent is a record with the lowest cost that is allowed, to save time.
func derivedContent(kdf KDF) Content {
	d := &Derivation{KDF: kdf, Cost: minScryptCost}
	if kdf == PBKDF2 {
		d.Cost = minPBKDF2Cost
	}
	copy(d.Salt[:], bytes.Repeat([]byte("salt"), 8))
	return Content{Algorithm: keyspec.AES256, Derivation: d}
}

func derivedDescriptor() Descriptor {
	d := payroll()
	d.CheckValue = []byte{1, 2, 3}
	return d
}

func TestDerivationRecordsRoundTrip(t *testing.T) {
	for _, kdf := range []KDF{Scrypt, PBKDF2} {
		for a := keyspec.AES128; a <= keyspec.HMACSHA512; a++ {
			d, c := derivedDescriptor(), derivedContent(kdf)
			c.Algorithm = a
			if a.IsHMAC() {
				d.Purpose = keyspec.Authenticate
			}
			der := mustSign(t, d, c, ownerRSA(), keyspec.RSAPSS)
			b, err := parseAndVerify(der, trust(ownerRSA()), d.Place())
			if err != nil {
				t.Fatalf("%v, %v: %v", kdf, a, err)
			}
			got, ok := b.Derivation()
			if !ok || got != *c.Derivation || b.Algorithm() != a || len(b.Recipients()) != 0 {
				t.Errorf("%v, %v: read back as %v %+v", kdf, a, b.Algorithm(), got)
			}
		}
	}
	b, err := parseAndVerify(mustSign(t, payroll(), holders(ownerRSA()), ownerRSA(), keyspec.RSAPSS), trust(ownerRSA()), payroll().Place())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := b.Derivation(); ok {
		t.Error("a key blob says that it comes from a password")
	}
}

// What stock OpenSSL makes of the same parameters is the same key.
func TestOpenSSLDerivesTheSameKey(t *testing.T) {
	const password = "correct horse battery staple"
	for _, kdf := range []KDF{Scrypt, PBKDF2} {
		d := *derivedContent(kdf).Derivation
		key, err := d.Key([]byte(password), 48)
		if err != nil {
			t.Fatal(err)
		}
		args := []string{"kdf", "-keylen", "48", "-kdfopt", "pass:" + password, "-kdfopt", "hexsalt:" + hex.EncodeToString(d.Salt[:])}
		if kdf == Scrypt {
			args = append(args, "-kdfopt", fmt.Sprintf("n:%d", d.Cost), "-kdfopt", "r:8", "-kdfopt", "p:1", "-kdfopt", fmt.Sprintf("maxmem_bytes:%d", 2*d.Memory()), "SCRYPT")
		} else {
			args = append(args, "-kdfopt", fmt.Sprintf("iter:%d", d.Cost), "-kdfopt", "digest:SHA256", "PBKDF2")
		}
		out := openssltest.Run(t, nil, args...)
		if got := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(string(out)), ":", "")); got != hex.EncodeToString(key) {
			t.Errorf("%v: openssl kdf gives another key", kdf)
		}
	}
}

// Whoever has the storage would like another salt, or one that makes passwords cheap to
// try.
func TestNoBitOfADerivationRecordCanBeChanged(t *testing.T) {
	d := derivedDescriptor()
	for _, kdf := range []KDF{Scrypt, PBKDF2} {
		der := mustSign(t, d, derivedContent(kdf), ownerP256(), keyspec.ECDSA)
		for i := range der {
			for bit := range 8 {
				changed := bytes.Clone(der)
				changed[i] ^= 1 << bit
				if _, err := parseAndVerify(changed, trust(ownerP256()), d.Place()); !isIntegrity(err) {
					t.Fatalf("%v: byte %d, bit %d changed: %v", kdf, i, bit, err)
				}
			}
		}
	}
}

func TestDerivationRecordsOfOthersAreRefused(t *testing.T) {
	d := derivedDescriptor()
	der := mustSign(t, d, derivedContent(Scrypt), strangerP256(), keyspec.ECDSA)
	_, err := parseAndVerify(der, trust(ownerRSA()), d.Place())
	wantError(t, err, ErrUntrusted, "")
	elsewhere := d.Place()
	elsewhere.Name = "billing"
	_, err = parseAndVerify(mustSign(t, d, derivedContent(Scrypt), ownerRSA(), keyspec.RSAPSS), trust(ownerRSA()), elsewhere)
	wantError(t, err, ErrMisplaced, "")
}

// A record can be well signed and still ask for too much or too little: the bounds
// hold before anything is computed.
func TestWellSignedDerivationRecordsThatAreRefused(t *testing.T) {
	const salt = "0123456789abcdef0123456789abcdef"
	integer := func(n int) []byte { return must(asn1.Marshal(n)) }
	octets := func(s string) []byte { return must(asn1.Marshal([]byte(s))) }
	scryptWith := func(parameters ...[]byte) []byte {
		return seq(integer(1), seq(oid(oidScrypt...), seq(parameters...)), algorithmIdentifiers[keyspec.AES256])
	}
	pbkdf2With := func(parameters ...[]byte) []byte {
		return seq(integer(1), seq(oid(oidPBKDF2...), seq(parameters...)), algorithmIdentifiers[keyspec.AES256])
	}
	good := scryptWith(octets(salt), integer(minScryptCost), integer(8), integer(1), integer(32))
	if _, err := parseDerived(good); err != nil {
		t.Fatalf("the record that the others are variations of: %v", err)
	}
	for name, test := range map[string]struct {
		content  []byte
		sentinel error
	}{
		"scrypt that takes 128 GiB":           {scryptWith(octets(salt), integer(1<<27), integer(8), integer(1), integer(32)), ErrUnknown},
		"scrypt that is cheap":                {scryptWith(octets(salt), integer(1<<10), integer(8), integer(1), integer(32)), ErrUnknown},
		"scrypt with a cost that is no power": {scryptWith(octets(salt), integer(minScryptCost+1), integer(8), integer(1), integer(32)), ErrUnknown},
		"scrypt with large blocks":            {scryptWith(octets(salt), integer(minScryptCost), integer(1<<20), integer(1), integer(32)), ErrUnknown},
		"scrypt a thousand times":             {scryptWith(octets(salt), integer(minScryptCost), integer(8), integer(1000), integer(32)), ErrUnknown},
		"scrypt without a key length":         {scryptWith(octets(salt), integer(minScryptCost), integer(8), integer(1)), ErrMalformed},
		"another key length":                  {scryptWith(octets(salt), integer(minScryptCost), integer(8), integer(1), integer(16)), ErrMalformed},
		"a short salt":                        {scryptWith(octets(salt[:8]), integer(minScryptCost), integer(8), integer(1), integer(32)), ErrMalformed},
		"a salt of zeros":                     {scryptWith(octets(strings.Repeat("\x00", 32)), integer(minScryptCost), integer(8), integer(1), integer(32)), ErrUnknown},
		"a negative cost":                     {scryptWith(octets(salt), integer(-minScryptCost), integer(8), integer(1), integer(32)), ErrIntegrity},
		"PBKDF2 for a week":                   {pbkdf2With(octets(salt), integer(2_000_000_000), integer(32), prfSHA256), ErrUnknown},
		"PBKDF2 with 1000 iterations":         {pbkdf2With(octets(salt), integer(1000), integer(32), prfSHA256), ErrUnknown},
		"PBKDF2 with its default, HMAC-SHA-1": {pbkdf2With(octets(salt), integer(minPBKDF2Cost), integer(32)), ErrIntegrity},
		"another KDF":                         {seq(integer(1), seq(oid(1, 2, 840, 113549, 1, 5, 13), seq()), algorithmIdentifiers[keyspec.AES256]), ErrUnknown},
		"another algorithm":                   {seq(integer(1), seq(oid(oidScrypt...), seq(octets(salt), integer(minScryptCost), integer(8), integer(1), integer(32))), seq(oid(1, 2, 3))), ErrUnknown},
		"a later version":                     {seq(integer(2), good[2+3:]), ErrNewer},
		"bytes behind":                        {append(bytes.Clone(good), 0), ErrMalformed},
		"an EnvelopedData":                    {must(holders(ownerRSA()).marshal()), ErrIntegrity},
	} {
		t.Run(name, func(t *testing.T) {
			d := derivedDescriptor()
			der := must(signContent(derived.profile, test.content, []attribute{newAttribute(oidKeyDescriptor, must(d.marshal()))}, Signer{Key: ownerP256(), Scheme: keyspec.ECDSA}, time.Now()))
			_, err := parseAndVerify(der, trust(ownerP256()), d.Place())
			wantError(t, err, test.sentinel, "")
			if !errors.Is(err, ErrIntegrity) {
				t.Error("not an integrity error")
			}
			// Nothing was computed: for some of these that would take longer than go test waits.
		})
	}
	t.Run("a record that is signed as a key blob", func(t *testing.T) {
		d := derivedDescriptor()
		der := must(signContent(keyBlob.profile, good, []attribute{newAttribute(oidKeyDescriptor, must(d.marshal()))}, Signer{Key: ownerP256(), Scheme: keyspec.ECDSA}, time.Now()))
		_, err := parseAndVerify(der, trust(ownerP256()), d.Place())
		wantError(t, err, ErrIntegrity, "")
	})
	t.Run("a record without a check value", func(t *testing.T) {
		d := payroll()
		d.CheckValue = nil
		der := must(signContent(derived.profile, good, []attribute{newAttribute(oidKeyDescriptor, must(d.marshal()))}, Signer{Key: ownerP256(), Scheme: keyspec.ECDSA}, time.Now()))
		_, err := parseAndVerify(der, trust(ownerP256()), d.Place())
		wantError(t, err, ErrMalformed, "check value")
		if _, err := Sign(d, derivedContent(Scrypt), Signer{Key: ownerP256(), Scheme: keyspec.ECDSA}, time.Now()); err == nil {
			t.Error("signed")
		}
	})
}

func TestWhatIsNoDerivationIsNotSigned(t *testing.T) {
	for name, change := range map[string]func(*Content){
		"too cheap":      func(c *Content) { c.Derivation.Cost = 2 },
		"too dear":       func(c *Content) { c.Derivation.Cost = 1 << 30 },
		"no salt":        func(c *Content) { c.Derivation.Salt = [SaltSize]byte{} },
		"no KDF":         func(c *Content) { c.Derivation.KDF = 0 },
		"and recipients": func(c *Content) { c.Recipients = holders(ownerRSA()).Recipients },
	} {
		c := derivedContent(Scrypt)
		change(&c)
		if _, err := Sign(derivedDescriptor(), c, Signer{Key: ownerP256(), Scheme: keyspec.ECDSA}, time.Now()); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}
