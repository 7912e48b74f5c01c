package blob

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"pgregory.net/rapid"
)

func TestBlobSaysWhatWasSigned(t *testing.T) {
	t.Parallel()
	for _, s := range signers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			key, d := s.key(), payroll()
			c := holders(key)
			der := mustSign(t, d, c, key, s.scheme)
			u, err := Parse(der)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(u.SignerIdentifier(), keyID(key)) {
				t.Errorf("claimed signer is %x", u.SignerIdentifier())
			}
			b, err := u.Verify(trust(strangerP256(), key), d.Place())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(d, b.Descriptor()); diff != "" {
				t.Errorf("descriptor: %s", diff)
			}
			if b.Algorithm() != keyspec.AES256 || b.SignatureScheme() != s.scheme || !b.SigningTime().Equal(signed) {
				t.Errorf("got %v, %v, %v", b.Algorithm(), b.SignatureScheme(), b.SigningTime())
			}
			if !bytes.Equal(b.SignerKeyID(), keyID(key)) || !bytes.Equal(b.Bytes(), der) || b.Digest() != sha256.Sum256(der) {
				t.Error("signer, bytes or digest differ")
			}
			if diff := cmp.Diff(sorted(c.Recipients), sorted(b.Recipients()), recipientsEqual); diff != "" {
				t.Errorf("recipients: %s", diff)
			}
			for _, want := range c.Recipients {
				got, ok := b.Recipient(want.Identifier)
				if !ok || !cmp.Equal(want, got, recipientsEqual) {
					t.Errorf("recipient %x: %v, %v", want.Identifier, got, ok)
				}
			}
			if _, ok := b.Recipient(keyID(strangerRSA())); ok {
				t.Error("a stranger is a recipient")
			}
		})
	}
}

func TestBlobCannotBeChanged(t *testing.T) {
	t.Parallel()
	key := ownerP256()
	der := mustSign(t, payroll(), holders(key), key, keyspec.ECDSA)
	before := bytes.Clone(der)
	b, err := parseAndVerify(der, trust(key), payroll().Place())
	if err != nil {
		t.Fatal(err)
	}
	recipients := b.Recipients()
	clear(der)
	clear(b.Bytes())
	clear(b.SignerKeyID())
	clear(b.Descriptor().CheckValue)
	clear(b.Descriptor().Replaces)
	for _, r := range b.Recipients() {
		clear(r.Identifier)
		if t, ok := r.Key.(*keyspec.KeyTransport); ok {
			clear(t.EncryptedKey)
		} else {
			clear(r.Key.(*keyspec.KeyAgreement).EncryptedKey)
		}
	}
	if !bytes.Equal(b.Bytes(), before) || !bytes.Equal(b.SignerKeyID(), keyID(key)) {
		t.Error("bytes or signer changed")
	}
	if diff := cmp.Diff(payroll(), b.Descriptor()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(recipients, b.Recipients(), recipientsEqual); diff != "" {
		t.Error(diff)
	}
}

func TestTimesAreCutToWholeSecondsInUTC(t *testing.T) {
	t.Parallel()
	key, d := ownerP256(), payroll()
	zone := time.FixedZone("", 5*3600+30*60)
	d.Created = created.Add(999 * time.Millisecond).In(zone)
	for _, at := range []time.Time{signed, time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)} {
		der, err := signDER(d, holders(key), key, keyspec.ECDSA, at.Add(time.Second-1))
		if err != nil {
			t.Fatal(err)
		}
		b, err := parseAndVerify(der, trust(key), d.Place())
		if err != nil {
			t.Fatal(err)
		}
		if b.SigningTime() != at || b.Descriptor().Created != created {
			t.Errorf("got %v and %v, want %v and %v", b.SigningTime(), b.Descriptor().Created, at, created)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	key := ownerP256()
	long := strings.Repeat("a", 129)
	for _, test := range []struct {
		name string
		edit func(*Descriptor, *Content)
		want string
	}{
		{"a name with ..", func(d *Descriptor, c *Content) { d.Name = "../payroll" }, "starts with '.'"},
		{"a name of 129 bytes", func(d *Descriptor, c *Content) { d.Name = long }, "129 bytes"},
		{"version 0", func(d *Descriptor, c *Content) { d.Version = 0 }, "version 0"},
		{"a version above the limit", func(d *Descriptor, c *Content) { d.Version = MaxNumber + 1 }, "version 2147483648"},
		{"revision 0", func(d *Descriptor, c *Content) { d.Revision = 0 }, "revision 0"},
		{"a negative revision", func(d *Descriptor, c *Content) { d.Revision = -1 }, "revision -1"},
		{"no creation time", func(d *Descriptor, c *Content) { d.Created = time.Time{} }, "creation time"},
		{"a creation time after 9999", func(d *Descriptor, c *Content) { d.Created = created.AddDate(9000, 0, 0) }, "creation time"},
		{"no purpose", func(d *Descriptor, c *Content) { d.Purpose = 0 }, "unknown purpose 0"},
		{"an unknown purpose", func(d *Descriptor, c *Content) { d.Purpose = 5 }, "unknown purpose 5"},
		{"an AES key to authenticate", func(d *Descriptor, c *Content) { d.Purpose = keyspec.Authenticate }, `an aes256 key cannot have the purpose "mac"`},
		{"an HMAC key to wrap", func(d *Descriptor, c *Content) { c.Algorithm, c.Recipients = keyspec.HMACSHA256, c.Recipients[:1] }, `an hmac-sha256 key cannot have the purpose "wrap"`},
		{"a check value of 4 bytes", func(d *Descriptor, c *Content) { d.CheckValue = make([]byte, 4) }, "check value has 4 bytes"},
		{"a key confirmation of 3 bytes", func(d *Descriptor, c *Content) { d.Confirmation = make([]byte, 3) }, "key confirmation has 3 bytes"},
		{"an empty check value", func(d *Descriptor, c *Content) { d.CheckValue = []byte{} }, "check value has 0 bytes"},
		{"a digest of 31 bytes", func(d *Descriptor, c *Content) { d.Replaces = make([]byte, 31) }, "has 31 bytes"},
		{"no algorithm", func(d *Descriptor, c *Content) { c.Algorithm = 0 }, "unknown algorithm 0"},
		{"an unknown algorithm", func(d *Descriptor, c *Content) { c.Algorithm = keyspec.TripleDES + 1 }, "unknown algorithm 11"},
		{"no recipients", func(d *Descriptor, c *Content) { c.Recipients = nil }, "0 recipients"},
		{"65 recipients", func(d *Descriptor, c *Content) { c.Recipients = manyRecipients(65) }, "65 recipients"},
		{"a recipient twice", func(d *Descriptor, c *Content) { c.Recipients[1].Identifier = c.Recipients[0].Identifier }, "is there twice"},
		{"no key identifier", func(d *Descriptor, c *Content) { c.Recipients[0].Identifier = nil }, "has 0 bytes"},
		{"a key identifier of 65 bytes", func(d *Descriptor, c *Content) { c.Recipients[0].Identifier = make([]byte, 65) }, "has 65 bytes"},
		{"no wrapped key", func(d *Descriptor, c *Content) { c.Recipients[0].Key = nil }, "no key"},
		{"no key transport", func(d *Descriptor, c *Content) { c.Recipients[0].Key = (*keyspec.KeyTransport)(nil) }, "no key"},
		{"no key agreement", func(d *Descriptor, c *Content) { c.Recipients[0].Key = (*keyspec.KeyAgreement)(nil) }, "no key"},
		{"an OAEP hash we do not use", func(d *Descriptor, c *Content) { c.Recipients[0].Key.(*keyspec.KeyTransport).OAEPHash = crypto.MD5 }, "OAEP with MD5"},
		{"an encrypted key of RSA 1024", func(d *Descriptor, c *Content) {
			c.Recipients[0].Key.(*keyspec.KeyTransport).EncryptedKey = make([]byte, 128)
		}, "has 128 bytes"},
		{"a wrapped key of another size", func(d *Descriptor, c *Content) {
			c.Recipients[1].Key.(*keyspec.KeyAgreement).EncryptedKey = make([]byte, 24)
		}, "has 24 bytes, not 40"},
		{"no ephemeral key", func(d *Descriptor, c *Content) { c.Recipients[1].Key.(*keyspec.KeyAgreement).Ephemeral = nil }, "without an ephemeral key"},
		{"an ephemeral key on X25519", func(d *Descriptor, c *Content) {
			c.Recipients[1].Key.(*keyspec.KeyAgreement).Ephemeral = must(ecdh.X25519().GenerateKey(rand.Reader)).PublicKey()
		}, "ECDH on curve X25519"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, c := payroll(), holders(key)
			test.edit(&d, &c)
			der, err := signDER(d, c, key, keyspec.ECDSA, signed)
			if err == nil || der != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %d bytes and error %v, want %q", len(der), err, test.want)
			}
		})
	}
}

func TestSignRefusesKeysAndTimes(t *testing.T) {
	t.Parallel()
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	for _, test := range []struct {
		name   string
		key    crypto.Signer
		scheme keyspec.Scheme
		at     time.Time
		want   string
	}{
		{"RSA of 1024 bits", small, keyspec.RSAPSS, signed, "less than 2048 bits"},
		{"a curve we do not use", p224, keyspec.ECDSA, signed, "another curve"},
		{"an RSA scheme with an EC key", ownerP256(), keyspec.RSAPSS, signed, "scheme rsa-pss with an EC key"},
		{"ECDSA with an RSA key", ownerRSA(), keyspec.ECDSA, signed, "scheme ecdsa with an RSA key"},
		{"no scheme", ownerRSA(), 0, signed, "Scheme(0)"},
		{"no signing time", ownerP256(), keyspec.ECDSA, time.Time{}, "signing time"},
	} {
		t.Run(test.name, func(t *testing.T) {
			der, err := signDER(payroll(), holders(ownerP256()), test.key, test.scheme, test.at)
			if err == nil || der != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %d bytes and error %v, want %q", len(der), err, test.want)
			}
		})
	}
}

// A brokenSigner is a token that answers, wrongly.
type brokenSigner struct {
	crypto.Signer
	sign func(digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

func (s brokenSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.sign(digest, opts)
}

func TestSignNoticesATokenThatSignsWrongly(t *testing.T) {
	t.Parallel()
	fault := errors.New("device error")
	for _, test := range []struct {
		name   string
		key    crypto.Signer
		scheme keyspec.Scheme
		sign   func(key crypto.Signer, digest []byte, opts crypto.SignerOpts) ([]byte, error)
		want   error
	}{
		{"a failure is passed on", ownerRSA(), keyspec.RSAPSS, func(key crypto.Signer, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
			return nil, fault
		}, fault},
		{"another key signs", ownerRSA(), keyspec.RSAPSS, func(key crypto.Signer, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
			return strangerRSA().Sign(rand.Reader, digest, opts)
		}, ErrSignature},
		{"another digest is signed", ownerRSA(), keyspec.RSAPKCS1v15, func(key crypto.Signer, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
			return key.Sign(rand.Reader, make([]byte, len(digest)), opts)
		}, ErrSignature},
		{"PKCS #1 v1.5 in place of PSS", ownerRSA(), keyspec.RSAPSS, func(key crypto.Signer, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
			return key.Sign(rand.Reader, digest, crypto.SHA256)
		}, ErrSignature},
		{"PSS with a salt of 20 bytes", ownerRSA(), keyspec.RSAPSS, func(key crypto.Signer, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
			return key.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA256})
		}, ErrSignature},
		{"an empty signature", ownerRSA(), keyspec.RSAPSS, func(key crypto.Signer, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
			return nil, nil
		}, ErrSignature},
		{"another EC key signs", ownerP256(), keyspec.ECDSA, func(key crypto.Signer, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
			return strangerP256().Sign(rand.Reader, digest, opts)
		}, ErrSignature},
	} {
		t.Run(test.name, func(t *testing.T) {
			broken := brokenSigner{test.key, func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
				return test.sign(test.key, digest, opts)
			}}
			der, err := signDER(payroll(), holders(test.key), broken, test.scheme, signed)
			if der != nil || !errors.Is(err, test.want) {
				t.Errorf("got %d bytes and error %v, want %v", len(der), err, test.want)
			}
		})
	}
}

func TestSignerIsAskedForTheRightThing(t *testing.T) {
	t.Parallel()
	for _, s := range signers {
		t.Run(s.name, func(t *testing.T) {
			key := s.key()
			asked := 0
			spy := brokenSigner{key, func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
				asked++
				pss, isPSS := opts.(*rsa.PSSOptions)
				if isPSS != (s.scheme == keyspec.RSAPSS) || isPSS && pss.SaltLength != 32 || len(digest) != opts.HashFunc().Size() {
					t.Errorf("asked to sign %d bytes with %#v", len(digest), opts)
				}
				return key.Sign(rand.Reader, digest, opts)
			}}
			mustSign(t, payroll(), holders(key), spy, s.scheme)
			if asked != 1 {
				t.Errorf("asked %d times, a token may want its PIN each time", asked)
			}
		})
	}
}

func TestECDSASignaturesHaveALowS(t *testing.T) {
	t.Parallel()
	for range 32 { // one in 2^32 passes by luck
		u, err := Parse(mustSign(t, payroll(), holders(ownerP256()), ownerP256(), keyspec.ECDSA))
		if err != nil {
			t.Fatal(err)
		}
		low, err := lowS(u.signed.signature, elliptic.P256())
		if err != nil || !bytes.Equal(low, u.signed.signature) {
			t.Fatalf("high S, %v", err)
		}
	}
}

func TestTooManyBytesAreNotSigned(t *testing.T) {
	t.Parallel()
	c := Content{Algorithm: keyspec.AES256, Recipients: manyRecipients(64)}
	if der := mustSign(t, payroll(), c, ownerP256(), keyspec.ECDSA); len(der) > MaxSize {
		t.Errorf("%d bytes", len(der))
	}
	// 64 of the longest encrypted keys still fit, so only the shared layer can
	// be asked for more.
	_, err := signContent(keyBlob.profile, make([]byte, MaxSize), nil, Signer{Key: ownerP256(), Scheme: keyspec.ECDSA}, signed)
	wantError(t, err, ErrTooLarge, "at most 262144")
}

func TestRoundTrips(t *testing.T) {
	t.Parallel()
	keys := []crypto.Signer{ownerP256(), ownerP384(), ownerRSA()}
	rapid.Check(t, func(t *rapid.T) {
		d, c := drawDescriptor(t), drawContent(t)
		if c.Algorithm.IsHMAC() {
			d.Purpose = keyspec.Authenticate
		}
		if rapid.Bool().Draw(t, "legacy") {
			d.Purpose, d.Legacy, c = keyspec.Decrypt, drawLegacy(t), Content{Recipients: c.Recipients}
			d.Confirmation = nil
			c.Algorithm, c.Recipients = legacyContent(d.Legacy, c.Recipients)
		}
		key := rapid.SampledFrom(keys).Draw(t, "key")
		scheme := keyspec.ECDSA
		if _, isRSA := key.Public().(*rsa.PublicKey); isRSA {
			scheme = rapid.SampledFrom([]keyspec.Scheme{keyspec.RSAPSS, keyspec.RSAPKCS1v15}).Draw(t, "scheme")
		}
		at := drawTime(t, "signing time")
		der, err := signDER(d, c, key, scheme, at)
		if err != nil {
			t.Fatal(err)
		}
		b, err := parseAndVerify(der, trust(key), d.Place())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d, b.Descriptor()); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(sorted(c.Recipients), sorted(b.Recipients()), recipientsEqual); diff != "" {
			t.Error(diff)
		}
		if b.Algorithm() != c.Algorithm || b.SignatureScheme() != scheme || !b.SigningTime().Equal(at) {
			t.Errorf("got %v, %v, %v", b.Algorithm(), b.SignatureScheme(), b.SigningTime())
		}
	})
}

func TestRoundTripsOfAlgorithmsAndPurposes(t *testing.T) {
	t.Parallel()
	for a := keyspec.AES128; a <= keyspec.HMACSHA512; a++ {
		if got, err := keyspec.ParseAlgorithm(a.String()); got != a || err != nil {
			t.Errorf("%v: %v, %v", a, got, err)
		}
	}
	for p := keyspec.WrapKeys; p <= keyspec.Authenticate; p++ {
		if got, err := keyspec.ParsePurpose(p.String()); got != p || err != nil {
			t.Errorf("%v: %v, %v", p, got, err)
		}
	}
	for _, s := range []string{"", "AES256", "aes", "des", "Algorithm(0)"} {
		if _, err := keyspec.ParseAlgorithm(s); err == nil || !strings.Contains(err.Error(), "hmac-sha512") {
			t.Errorf("%q: %v", s, err)
		}
		if _, err := keyspec.ParsePurpose(s); err == nil || !strings.Contains(err.Error(), "encrypt") {
			t.Errorf("%q: %v", s, err)
		}
	}
	sizes := []int{16, 24, 32, 32, 48, 64}
	for i, size := range sizes {
		if a := keyspec.AES128 + keyspec.Algorithm(i); a.KeySize() != size || a.IsHMAC() != (i > 2) {
			t.Errorf("%v: %d bytes, HMAC %v", a, a.KeySize(), a.IsHMAC())
		}
	}
	if keyspec.Algorithm(0).KeySize() != 0 || keyspec.Algorithm(99).IsHMAC() || keyspec.Algorithm(99).String() != "Algorithm(99)" || keyspec.Purpose(-1).String() != "Purpose(-1)" {
		t.Error("values outside the list are not told apart")
	}
}

var recipientsEqual = cmp.Comparer(func(a, b *ecdh.PublicKey) bool { return a.Equal(b) })

// sorted puts recipients in the order of their key identifiers.
func sorted(recipients []Recipient) []Recipient {
	return slices.SortedFunc(slices.Values(recipients), func(a, b Recipient) int { return bytes.Compare(a.Identifier, b.Identifier) })
}

func manyRecipients(n int) (out []Recipient) {
	for i := range n {
		r := transport(bytes.Repeat([]byte{byte(i + 1)}, 20), crypto.SHA1)
		r.Key.(*keyspec.KeyTransport).EncryptedKey = make([]byte, 2048)
		out = append(out, r)
	}
	return out
}

func drawDescriptor(t *rapid.T) Descriptor {
	d := Descriptor{
		KeyringID: ID(drawBytes(t, "keyring", 16)),
		Name:      drawName(t),
		Version:   rapid.IntRange(1, MaxNumber).Draw(t, "version"),
		Revision:  rapid.IntRange(1, MaxNumber).Draw(t, "revision"),
		KeyID:     ID(drawBytes(t, "key id", 16)),
		Created:   drawTime(t, "created"),
		Purpose:   rapid.SampledFrom([]keyspec.Purpose{keyspec.WrapKeys, keyspec.Encrypt}).Draw(t, "purpose"),
	}
	if rapid.Bool().Draw(t, "has check value") {
		d.CheckValue = drawBytes(t, "check value", 3)
	}
	if rapid.Bool().Draw(t, "has a confirmation") {
		d.Confirmation = drawBytes(t, "confirmation", 16)
	}
	if rapid.Bool().Draw(t, "replaces another") {
		d.Replaces = drawBytes(t, "replaces", 32)
	}
	d.Imported = rapid.Bool().Draw(t, "is imported")
	if d.Replaces != nil && d.Revision > 1 && rapid.Bool().Draw(t, "is recovered") {
		d.Recovery = drawRecovery(t, rapid.IntRange(1, MaxNumber).Draw(t, "list"))
	}
	return d
}

func drawContent(t *rapid.T) Content {
	c := Content{Algorithm: rapid.SampledFrom([]keyspec.Algorithm{keyspec.AES128, keyspec.AES192, keyspec.AES256, keyspec.HMACSHA256, keyspec.HMACSHA384, keyspec.HMACSHA512}).Draw(t, "algorithm")}
	ids := rapid.SliceOfNDistinct(rapid.SliceOfN(rapid.Byte(), 20, 20), 1, 8, func(id []byte) string { return string(id) }).Draw(t, "recipients")
	for _, id := range ids {
		if rapid.Bool().Draw(t, "RSA") {
			hash := rapid.SampledFrom([]crypto.Hash{crypto.SHA1, crypto.SHA256}).Draw(t, "OAEP hash")
			key := drawBytes(t, "encrypted key", rapid.SampledFrom([]int{256, 384, 512}).Draw(t, "modulus"))
			c.Recipients = append(c.Recipients, Recipient{id, &keyspec.KeyTransport{OAEPHash: hash, EncryptedKey: key}})
		} else {
			curve := rapid.SampledFrom([]ecdh.Curve{ecdh.P256(), ecdh.P384(), ecdh.P521()}).Draw(t, "curve")
			c.Recipients = append(c.Recipients, agreement(id, curve, c.Algorithm))
		}
	}
	return c
}

func drawName(t *rapid.T) string {
	return rapid.StringMatching(`[a-z0-9_-][a-z0-9._-]{0,20}(/[a-z0-9_-][a-z0-9._-]{0,20}){0,4}`).
		Filter(func(s string) bool { return ValidName(s) == nil }).Draw(t, "name")
}

func drawBytes(t *rapid.T, label string, n int) []byte {
	return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, label)
}

func drawTime(t *rapid.T, label string) time.Time {
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).Unix()
	return time.Unix(rapid.Int64Range(0, last).Draw(t, label), 0).UTC()
}

// The identifier is computed from an encoding of our own, which has to be that of
// SubjectPublicKeyInfo.
func TestTheSubjectKeyIDIsThatOfTheBitString(t *testing.T) {
	t.Parallel()
	for _, s := range signers {
		pub := s.key().Public()
		var info struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}
		if rest, err := asn1.Unmarshal(must(x509.MarshalPKIXPublicKey(pub)), &info); err != nil || len(rest) > 0 {
			t.Fatal(err)
		}
		sum := sha256.Sum256(info.Key.Bytes)
		if id := must(PublicKeyID(pub)); !bytes.Equal(id, sum[:20]) {
			t.Errorf("%s: %x, not %x", s.name, id, sum[:20])
		}
	}
}
