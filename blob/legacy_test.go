package blob

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"pgregory.net/rapid"
)

// legacy is a descriptor and a content for a legacy key of one RSA holder.
func legacy(a keyspec.Algorithm, l Legacy) (Descriptor, Content) {
	d := payroll()
	d.Purpose, d.Legacy = keyspec.Decrypt, &l
	return d, Content{Algorithm: a, Recipients: []Recipient{transport(keyID(ownerRSA()), crypto.SHA256)}}
}

// drawLegacy draws parameters that some algorithm can have, see legacyContent.
func drawLegacy(t *rapid.T) *Legacy {
	l := &Legacy{KeySize: rapid.SampledFrom([]int{5, 7, 8, 16, 24}).Draw(t, "key size")}
	if l.KeySize <= 16 && rapid.Bool().Draw(t, "is RC2") {
		l.EffectiveBits = rapid.IntRange(1, 1024).Draw(t, "effective bits")
	}
	if l.KeySize < 8 && rapid.Bool().Draw(t, "has salt") {
		l.Salt = rapid.SliceOfN(rapid.Byte(), 1, 16-l.KeySize).Draw(t, "salt")
	}
	return l
}

// legacyContent gives the algorithm of drawn parameters, and the recipients that can
// have such a key.
func legacyContent(l *Legacy, recipients []Recipient) (a keyspec.Algorithm, able []Recipient) {
	switch {
	case l.EffectiveBits != 0:
		a = keyspec.RC2
	case l.KeySize == 24:
		a = keyspec.TripleDES
	case l.KeySize == 8:
		a = keyspec.DES
	default:
		a = keyspec.RC4
	}
	for _, r := range recipients {
		switch {
		case !isAgreement(r):
		case l.KeySize >= 16:
			r.Key.(*keyspec.KeyAgreement).EncryptedKey = make([]byte, l.KeySize+8)
		default:
			r = transport(r.Identifier, crypto.SHA1)
		}
		able = append(able, r)
	}
	return a, able
}

func TestLegacyKeysSayWhatTheyNeed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a keyspec.Algorithm
		l Legacy
	}{
		{keyspec.RC2, Legacy{KeySize: 5, EffectiveBits: 40, Salt: make([]byte, 11)}},
		{keyspec.RC2, Legacy{KeySize: 16, EffectiveBits: 1024}},
		{keyspec.RC4, Legacy{KeySize: 16}},
		{keyspec.RC4, Legacy{KeySize: 7, Salt: []byte{1}}},
		{keyspec.DES, Legacy{KeySize: 8}},
		{keyspec.TripleDES, Legacy{KeySize: 16}},
		{keyspec.TripleDES, Legacy{KeySize: 24}},
	} {
		d, c := legacy(test.a, test.l)
		b, err := parseAndVerify(mustSign(t, d, c, ownerRSA(), keyspec.RSAPSS), trust(ownerRSA()), d.Place())
		if err != nil {
			t.Fatalf("%v: %v", test, err)
		}
		if !b.Descriptor().Legacy.Equal(&test.l) || b.Algorithm() != test.a || b.KeySize() != test.l.KeySize || !b.Algorithm().IsLegacy() {
			t.Errorf("%v: read back as %v, %+v", test, b.Algorithm(), b.Descriptor().Legacy)
		}
		if _, err := keyspec.ParseAlgorithm(test.a.String()); err == nil {
			t.Errorf("%v: new keys can be made", test.a)
		}
	}
	if _, err := keyspec.ParsePurpose("decrypt"); err == nil {
		t.Error("new keys can have the purpose decrypt")
	}
}

func TestWhatIsNoLegacyKeyIsNotSigned(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		a      keyspec.Algorithm
		l      Legacy
		change func(*Descriptor, *Content)
		says   string
	}{
		"RC4 of 4 bytes":             {keyspec.RC4, Legacy{KeySize: 4}, nil, "4 bytes"},
		"RC4 of 17 bytes":            {keyspec.RC4, Legacy{KeySize: 17}, nil, "17 bytes"},
		"DES of 7 bytes":             {keyspec.DES, Legacy{KeySize: 7}, nil, "7 bytes"},
		"3DES of 20 bytes":           {keyspec.TripleDES, Legacy{KeySize: 20}, nil, "20 bytes"},
		"RC2 without effective bits": {keyspec.RC2, Legacy{KeySize: 16}, nil, "effective"},
		"RC2 of 1025 effective bits": {keyspec.RC2, Legacy{KeySize: 16, EffectiveBits: 1025}, nil, "effective"},
		"RC4 with effective bits":    {keyspec.RC4, Legacy{KeySize: 16, EffectiveBits: 40}, nil, "effective"},
		"DES with a salt":            {keyspec.DES, Legacy{KeySize: 8, Salt: []byte{1}}, nil, "salt"},
		"an empty salt":              {keyspec.RC4, Legacy{KeySize: 5, Salt: []byte{}}, nil, "salt"},
		"key and salt of 17 bytes":   {keyspec.RC4, Legacy{KeySize: 5, Salt: make([]byte, 12)}, nil, "salt"},
		"AES":                        {keyspec.AES256, Legacy{KeySize: 16}, nil, "aes256"},
		"to encrypt":                 {keyspec.RC4, Legacy{KeySize: 16}, func(d *Descriptor, _ *Content) { d.Purpose = keyspec.Encrypt }, "purpose"},
		"no parameters":              {keyspec.RC4, Legacy{}, func(d *Descriptor, _ *Content) { d.Legacy = nil }, "purpose"},
		"from a password": {keyspec.RC4, Legacy{KeySize: 16}, func(_ *Descriptor, c *Content) {
			c.Recipients, c.Derivation = nil, derivedContent(Scrypt).Derivation
		}, "derived"},
		"short, to an EC holder": {keyspec.RC4, Legacy{KeySize: 5}, func(_ *Descriptor, c *Content) {
			r := agreement(keyID(ownerP256()), ecdh.P256(), keyspec.AES128)
			r.Key.(*keyspec.KeyAgreement).EncryptedKey = make([]byte, 13)
			c.Recipients = append(c.Recipients, r)
		}, "13 bytes"},
		"to an EC holder, of another length": {keyspec.TripleDES, Legacy{KeySize: 24}, func(_ *Descriptor, c *Content) {
			c.Recipients = append(c.Recipients, agreement(keyID(ownerP256()), ecdh.P256(), keyspec.AES128))
		}, "24 bytes, not 32"},
	} {
		d, c := legacy(test.a, test.l)
		if test.change != nil {
			test.change(&d, &c)
		}
		if _, err := signDER(d, c, ownerRSA(), keyspec.RSAPSS, signed); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the owner's own key signs is refused all the same when it is none of these.
func TestWellSignedLegacyKeysThatAreRefused(t *testing.T) {
	t.Parallel()
	number := func(n ...byte) []byte { return tlv(2, n) }
	rc4 := seq(oid(1, 2, 840, 113549, 3, 4), null)
	for name, test := range map[string]struct {
		algorithm []byte
		purpose   byte
		fields    [][]byte
		sentinel  error
		says      string
	}{
		"RC4 without its NULL":       {seq(oid(1, 2, 840, 113549, 3, 4)), 4, [][]byte{number(16)}, ErrUnknown, "content-encryption"},
		"RC2 with a vector":          {seq(oid(1, 2, 840, 113549, 3, 2), tlv(4, make([]byte, 8))), 4, [][]byte{number(16)}, ErrUnknown, "content-encryption"},
		"a key of 0 bytes":           {rc4, 4, [][]byte{number(0)}, ErrMalformed, "0 bytes"},
		"a padded length":            {rc4, 4, [][]byte{number(0, 16)}, ErrMalformed, "padded"},
		"no length":                  {rc4, 4, nil, ErrMalformed, "keyLength"},
		"padded effective bits":      {rc4, 4, [][]byte{number(16), tlv(0x80, []byte{0, 40})}, ErrMalformed, "padded"},
		"effective bits of RC4":      {rc4, 4, [][]byte{number(16), tlv(0x80, []byte{40})}, ErrMalformed, "effective"},
		"an empty salt":              {rc4, 4, [][]byte{number(5), tlv(0x81)}, ErrMalformed, "salt"},
		"salt before effective bits": {rc4, 4, [][]byte{number(5), tlv(0x81, []byte{1}), tlv(0x80, []byte{40})}, ErrMalformed, "legacy"},
		"a later field":              {rc4, 4, [][]byte{number(16), tlv(0x82, []byte{1})}, ErrNewer, "legacy has the field [2]"},
		"something behind":           {rc4, 4, [][]byte{number(16), null}, ErrMalformed, "legacy"},
		"to encrypt":                 {rc4, 2, [][]byte{number(16)}, ErrMalformed, "purpose"},
		"AES":                        {seq(oid(2, 16, 840, 1, 101, 3, 4, 1, 45)), 4, [][]byte{number(16)}, ErrMalformed, "aes256"},
		"another purpose than ours":  {rc4, 5, [][]byte{number(16)}, ErrMalformed, "purpose"},
	} {
		t.Run(name, func(t *testing.T) {
			f := forge(ownerRSA(), keyspec.RSAPSS)
			f.contentAlgorithm = test.algorithm
			f.descriptor[fieldPurpose] = tlv(0x0a, []byte{test.purpose})
			f.descriptor = append(f.descriptor, tlv(0xa3, test.fields...))
			_, err := parseAndVerify(f.der(t), trust(ownerRSA()), payroll().Place())
			wantError(t, err, test.sentinel, test.says)
		})
	}
	f := forge(ownerRSA(), keyspec.RSAPSS) // what all are variations of
	f.contentAlgorithm = rc4
	f.descriptor[fieldPurpose] = tlv(0x0a, []byte{4})
	f.descriptor = append(f.descriptor, tlv(0xa3, number(5), tlv(0x81, bytes.Repeat([]byte{7}, 11))))
	if _, err := parseAndVerify(f.der(t), trust(ownerRSA()), payroll().Place()); err != nil {
		t.Error(err)
	}
}
