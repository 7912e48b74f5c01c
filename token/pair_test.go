package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

func pss(hash crypto.Hash) *rsa.PSSOptions {
	return &rsa.PSSOptions{SaltLength: hash.Size(), Hash: hash}
}

// isTheKey checks that a pair signs and unwraps with one private key and no other.
func isTheKey(t testing.TB, p *KeyPair, public *rsa.PublicKey) {
	t.Helper()
	if !public.Equal(p.Public()) {
		t.Error("the public key is another one")
	}
	digest := sha256.Sum256([]byte("message"))
	signature, err := p.Sign(rand.Reader, digest[:], pss(crypto.SHA256))
	if err != nil {
		t.Error(err)
	} else if err := rsa.VerifyPSS(public, crypto.SHA256, digest[:], signature, nil); err != nil {
		t.Error("another private key has signed")
	}
	value := bytes.Repeat([]byte{7}, 32)
	wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public, value, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Reveal(background, of(wraps(32), &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: wrapped}))
	if err != nil || !bytes.Equal(got, value) {
		t.Errorf("unwrapped %x, %v", got, err)
	}
}

func TestSign(t *testing.T) {
	_, p := newPair(t)
	d256, d384, d512 := sha256.Sum256(nil), sha512.Sum384(nil), sha512.Sum512(nil)
	for _, tt := range []struct {
		name   string
		digest []byte
		opts   crypto.SignerOpts
	}{
		{"PSS with SHA-256", d256[:], pss(crypto.SHA256)},
		{"PSS with SHA-384", d384[:], pss(crypto.SHA384)},
		{"PSS with SHA-512", d512[:], pss(crypto.SHA512)},
		{"PSS with a salt as long as the hash", d256[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}},
		{"PKCS #1 v1.5 with SHA-256", d256[:], crypto.SHA256},
		{"PKCS #1 v1.5 with SHA-384", d384[:], crypto.SHA384},
		{"PKCS #1 v1.5 with SHA-512", d512[:], crypto.SHA512},
	} {
		t.Run(tt.name, func(t *testing.T) {
			signature, err := p.Sign(rand.Reader, tt.digest, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if opts, ok := tt.opts.(*rsa.PSSOptions); ok {
				err = rsa.VerifyPSS(rsaOf(p), opts.Hash, tt.digest, signature, opts)
			} else {
				err = rsa.VerifyPKCS1v15(rsaOf(p), tt.opts.HashFunc(), tt.digest, signature)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	for _, tt := range []struct {
		name   string
		digest []byte
		opts   crypto.SignerOpts
	}{
		{"no options", d256[:], nil},
		{"no hash, which would sign the bytes as they are", d256[:], crypto.Hash(0)},
		{"SHA-1", make([]byte, 20), crypto.SHA1},
		{"MD5", make([]byte, 16), crypto.MD5},
		{"a hash that crypto11 does not know", d256[:], crypto.SHA3_256},
		{"a digest of another hash", d512[:], crypto.SHA256},
		{"a message in place of its digest", []byte("message"), pss(crypto.SHA256)},
		{"no digest", nil, pss(crypto.SHA256)},
	} {
		t.Run("refuses "+tt.name, func(t *testing.T) {
			_, err := p.Sign(rand.Reader, tt.digest, tt.opts)
			want(t, err, errors.ErrUnsupported)
		})
	}
}

func TestKeyPairIsFound(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	a, b := makePair(t, tok, "a", 2048), makePair(t, tok, "b", 2048)
	if a.Label() != "a" || !bytes.Equal(a.ID(), keyID(a.public)) || !(a.Scheme() == keyspec.RSAPSS) {
		t.Errorf("label %q, id %x, PSS %v", a.Label(), a.ID(), (a.Scheme() == keyspec.RSAPSS))
	}
	for _, tt := range []struct {
		name string
		by   PairName
		want *KeyPair
	}{
		{"by its label", PairName{Label: "a"}, a},
		{"by its id", PairName{ID: b.ID()}, b},
		{"by both", PairName{Label: "b", ID: b.ID()}, b},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := tok.KeyPair(background, tt.by)
			if err != nil {
				t.Fatal(err)
			}
			isTheKey(t, p, rsaOf(tt.want))
		})
	}
	for _, tt := range []struct {
		name string
		by   PairName
		kind error
	}{
		{"an unknown label", PairName{Label: "c"}, ErrNoPair},
		{"an unknown id", PairName{ID: []byte{1}}, ErrNoPair},
		{"one's label with the other's id", PairName{Label: "a", ID: b.ID()}, ErrNoPair},
		{"no name where there are two", PairName{}, ErrAmbiguous},
	} {
		t.Run("not by "+tt.name, func(t *testing.T) {
			_, err := tok.KeyPair(background, tt.by)
			want(t, err, tt.kind)
			var facts *PairsFound
			if !errors.As(err, &facts) || len(facts.Pairs) == 0 {
				t.Errorf("which pairs there are: %v", facts)
			}
		})
	}
	t.Run("without a name where there is one", func(t *testing.T) {
		if _, err := a.Certify(background, "a"); err != nil {
			t.Fatal(err)
		}
		if err := a.Destroy(background); err != nil {
			t.Fatal(err)
		}
		p, err := tok.KeyPair(background, PairName{})
		if err != nil {
			t.Fatal(err)
		}
		isTheKey(t, p, rsaOf(b))
		if got := openRaw(t, st).find(t, attr(pkcs11.CKA_TOKEN, true)); len(got) != 2 {
			t.Errorf("%d objects are on the token, want the two halves of the other pair", len(got))
		}
	})
}

// publicKeyObject is a public key, which anybody can write to the token.
func publicKeyObject(key *rsa.PublicKey, id []byte, label string) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, false),
		attr(pkcs11.CKA_ID, id), attr(pkcs11.CKA_LABEL, label),
		attr(pkcs11.CKA_ENCRYPT, true), attr(pkcs11.CKA_VERIFY, true), attr(pkcs11.CKA_WRAP, true),
		attr(pkcs11.CKA_MODULUS, key.N.Bytes()), attr(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(key.E)).Bytes()),
	}
}

func privateKeyObject(key *rsa.PrivateKey, id []byte, label string) []*pkcs11.Attribute {
	key.Precompute()
	return []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, false),
		attr(pkcs11.CKA_SENSITIVE, true), attr(pkcs11.CKA_EXTRACTABLE, false),
		attr(pkcs11.CKA_ID, id), attr(pkcs11.CKA_LABEL, label),
		attr(pkcs11.CKA_SIGN, true), attr(pkcs11.CKA_DECRYPT, true), attr(pkcs11.CKA_UNWRAP, true),
		attr(pkcs11.CKA_MODULUS, key.N.Bytes()), attr(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(key.E)).Bytes()),
		attr(pkcs11.CKA_PRIVATE_EXPONENT, key.D.Bytes()),
		attr(pkcs11.CKA_PRIME_1, key.Primes[0].Bytes()), attr(pkcs11.CKA_PRIME_2, key.Primes[1].Bytes()),
		attr(pkcs11.CKA_EXPONENT_1, key.Precomputed.Dp.Bytes()), attr(pkcs11.CKA_EXPONENT_2, key.Precomputed.Dq.Bytes()),
		attr(pkcs11.CKA_COEFFICIENT, key.Precomputed.Qinv.Bytes()),
	}
}

func certificateObject(der, id []byte, label string) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE), attr(pkcs11.CKA_CERTIFICATE_TYPE, pkcs11.CKC_X_509),
		attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, false),
		attr(pkcs11.CKA_ID, id), attr(pkcs11.CKA_LABEL, label),
		attr(pkcs11.CKA_SUBJECT, []byte{0x30, 0}), attr(pkcs11.CKA_VALUE, der),
	}
}

// forge makes a certificate for any public key, signed by the attacker.
func forge(t testing.TB, holder *rsa.PublicKey, attacker *rsa.PrivateKey, extensions ...pkix.Extension) []byte {
	t.Helper()
	subject := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "forged"},
		NotBefore: time.Now(), NotAfter: noExpiry, ExtraExtensions: extensions}
	issuer := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "forged"}}
	der, err := x509.CreateCertificate(rand.Reader, subject, issuer, holder, attacker)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Attacks without the PIN: SoftHSM, like most tokens, allows a public session to write public objects.
// Each time the right key is found, never the attacker's, and none is refused: what was planted is
// skipped and reported.
func TestKeyPairWithstandsPlantedObjects(t *testing.T) {
	attacker := softwareKey(t)
	//lint:ignore SA1019 the bytes are all that counts
	point, err := asn1.Marshal(elliptic.Marshal(elliptic.P256(), elliptic.P256().Params().Gx, elliptic.P256().Params().Gy))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		told bool // that there is a Mismatch
		make func(p *KeyPair) attack
	}{
		{"a public key with the pair's id", true, func(p *KeyPair) attack {
			return attack{Create: [][]rawAttribute{rawAttributes(publicKeyObject(&attacker.PublicKey, p.ID(), ""))}}
		}},
		{"a public key with the pair's id and label", true, func(p *KeyPair) attack {
			return attack{Create: [][]rawAttribute{rawAttributes(publicKeyObject(&attacker.PublicKey, p.ID(), "pair"))}}
		}},
		{"a public key in place of the pair's own", true, func(p *KeyPair) attack {
			return attack{
				Destroy: []rawAttribute{{pkcs11.CKA_ID, p.ID()}},
				Create:  [][]rawAttribute{rawAttributes(publicKeyObject(&attacker.PublicKey, p.ID(), "pair"))},
			}
		}},
		{"a public key with the pair's modulus and another exponent", true, func(p *KeyPair) attack {
			weak := &rsa.PublicKey{N: rsaOf(p).N, E: 3}
			return attack{Create: [][]rawAttribute{rawAttributes(publicKeyObject(weak, p.ID(), "pair"))}}
		}},
		{"a public key with the pair's modulus and leading zeros", false, func(p *KeyPair) attack {
			object := publicKeyObject(rsaOf(p), p.ID(), "pair")
			object[len(object)-2].Value = append([]byte{0}, p.modulus...)
			return attack{Create: [][]rawAttribute{rawAttributes(object)}}
		}},
		{"an elliptic curve key with the pair's id", true, func(p *KeyPair) attack {
			return attack{Create: [][]rawAttribute{rawAttributes([]*pkcs11.Attribute{
				attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
				attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, false), attr(pkcs11.CKA_ID, p.ID()), attr(pkcs11.CKA_LABEL, "pair"),
				attr(pkcs11.CKA_EC_PARAMS, []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}), attr(pkcs11.CKA_EC_POINT, point),
			})}}
		}},
		{"a certificate with the pair's id", true, func(p *KeyPair) attack {
			return attack{Create: [][]rawAttribute{rawAttributes(certificateObject(forge(t, &attacker.PublicKey, attacker), p.ID(), "pair"))}}
		}},
		{"a certificate that is none", true, func(p *KeyPair) attack {
			return attack{Create: [][]rawAttribute{rawAttributes(certificateObject([]byte("certificate"), p.ID(), "pair"))}}
		}},
		{"a private key with the pair's id and label", false, func(p *KeyPair) attack {
			return attack{Create: [][]rawAttribute{rawAttributes(privateKeyObject(attacker, p.ID(), "pair"))}}
		}},
		{"a whole pair with the pair's id and label", true, func(p *KeyPair) attack {
			return attack{Create: [][]rawAttribute{
				rawAttributes(privateKeyObject(attacker, p.ID(), "pair")),
				rawAttributes(publicKeyObject(&attacker.PublicKey, p.ID(), "pair")),
			}}
		}},
		{"a whole pair with the pair's label", false, func(*KeyPair) attack {
			return attack{Create: [][]rawAttribute{
				rawAttributes(privateKeyObject(attacker, []byte{1}, "pair")),
				rawAttributes(publicKeyObject(&attacker.PublicKey, []byte{1}, "pair")),
			}}
		}},
		{"the pair's modulus over the attacker's exponent", false, func(p *KeyPair) attack {
			object := privateKeyObject(attacker, p.ID(), "pair")
			for _, a := range object {
				if a.Type == pkcs11.CKA_MODULUS {
					a.Value = p.modulus
				}
			}
			return attack{Create: [][]rawAttribute{rawAttributes(object)}}
		}},
		{"the public half deleted", false, func(p *KeyPair) attack {
			return attack{Destroy: []rawAttribute{{pkcs11.CKA_ID, p.ID()}}}
		}},
		{"the public half given another id and label", false, func(p *KeyPair) attack {
			return attack{Change: []rawAttribute{{pkcs11.CKA_ID, p.ID()}},
				To: []rawAttribute{{pkcs11.CKA_ID, []byte{9}}, {pkcs11.CKA_LABEL, []byte("other")}}}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st, p := newPair(t)
			tt.make(p).must(t, st)
			for _, name := range []PairName{{Label: "pair"}, {ID: p.ID()}, {}} {
				got, err := p.token.KeyPair(background, name)
				if err != nil {
					t.Errorf("%v: %v", name, err)
					continue
				}
				isTheKey(t, got, rsaOf(p))
				mismatches, err := got.Mismatches(background)
				if err != nil || (len(mismatches) > 0) != tt.told {
					t.Errorf("%v: mismatches %v, %v", name, mismatches, err)
				}
				for _, s := range mismatches {
					if unreadable := strings.Contains(s.What, "cannot be read"); s.Unexplained == unreadable {
						t.Errorf("%+v", s)
					}
				}
			}
			isTheKey(t, p, rsaOf(p)) // a pair that was found before still works
		})
	}
}

// Whatever would make the attacker's object look genuine needs the PIN.
func TestTokenRefusesPrivateObjectsWithoutPIN(t *testing.T) {
	st, p := newPair(t)
	private := privateKeyObject(softwareKey(t), p.ID(), "pair")
	for _, a := range private {
		if a.Type == pkcs11.CKA_PRIVATE {
			a.Value = []byte{1}
		}
	}
	for name, a := range map[string]attack{
		"a private key that is CKA_PRIVATE": {Create: [][]rawAttribute{rawAttributes(private)}},
		"to find and destroy the private key": {Destroy: rawAttributes([]*pkcs11.Attribute{
			attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_ID, p.ID())})},
	} {
		if err := a.run(t, st); err == nil {
			t.Errorf("the token allows %s", name)
		}
	}
}

func TestCertificateWithstandsPlantedCertificates(t *testing.T) {
	st, p := newPair(t)
	capable := pkix.Extension{Id: oidCapabilities, Value: oaepSHA256}
	// It has the pair's key, but a wrong OAEP hash.
	forged := forge(t, rsaOf(p), softwareKey(t), capable)
	plant(t, st, certificateObject(forged, p.ID(), "pair"))
	if c, err := p.Certificate(background); err != nil || c != nil {
		t.Errorf("%v, %v: a certificate that the pair has not signed is believed", c, err)
	}
	made, err := p.Certify(background, "holder")
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.token.KeyPair(background, PairName{Label: "pair"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := again.Certificate(background)
	if err != nil || c == nil || !c.Equal(made) {
		t.Errorf("%v, %v: not the certificate that was made", c, err)
	}
	plant(t, st, certificateObject(forge(t, &softwareKey(t).PublicKey, softwareKey(t)), p.ID(), "pair"), certificateObject([]byte("certificate"), p.ID(), "pair"))
	if c, err := p.Certificate(background); err != nil || c == nil || !c.Equal(made) {
		t.Errorf("%v, %v: not the certificate that was made", c, err)
	}
}

func TestKeyPairRefusesAnUnprotectedKey(t *testing.T) {
	for _, tt := range []struct {
		name                   string
		sensitive, extractable bool
	}{
		{"a private key that may be read", false, false},
		{"a private key that may be wrapped", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := newToken(t)
			tok := open(t, st)
			object := privateKeyObject(softwareKey(t), []byte{1}, "weak")
			for _, a := range object {
				switch a.Type {
				case pkcs11.CKA_PRIVATE:
					a.Value = []byte{1}
				case pkcs11.CKA_SENSITIVE:
					a.Value = attr(0, tt.sensitive).Value
				case pkcs11.CKA_EXTRACTABLE:
					a.Value = attr(0, tt.extractable).Value
				}
			}
			r := openRaw(t, st)
			if _, err := r.CreateObject(r.session, object); err != nil {
				t.Fatal(err)
			}
			_, err := tok.KeyPair(background, PairName{Label: "weak"})
			want(t, err, ErrUnsafe)
		})
	}
}

// Pairs that others have provisioned are used as they are.
func TestPairsThatAreThereAlready(t *testing.T) {
	for _, tt := range []struct {
		name    string
		id      []byte
		label   string // of the private key
		public  string // label of the public key; - for none
		certify string // label of the certificate; - for none
		find    PairName
	}{
		{"no id", nil, "mine", "-", "-", PairName{Label: "mine"}},
		{"no label", []byte("7"), "", "-", "-", PairName{ID: []byte("7")}},
		{"no name at all is asked for", []byte{1}, "", "-", "-", PairName{}},
		{"an id that is no hash", []byte{0, 1}, "mine", "mine", "-", PairName{Label: "mine"}},
		{"halves with different labels", []byte("id"), "private", "public", "-", PairName{Label: "public"}},
		{"the label of the certificate", []byte("id"), "private", "-", "certificate", PairName{Label: "certificate"}},
		{"a certificate and no public key", []byte("id"), "mine", "-", "mine", PairName{Label: "mine"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := newToken(t)
			tok := open(t, st)
			r := openRaw(t, st)
			key := softwareKey(t)
			object := privateKeyObject(key, tt.id, tt.label)
			for _, a := range object {
				if a.Type == pkcs11.CKA_PRIVATE {
					a.Value = []byte{1}
				}
			}
			if _, err := r.CreateObject(r.session, object); err != nil {
				t.Fatal(err)
			}
			if tt.public != "-" {
				if _, err := r.CreateObject(r.session, publicKeyObject(&key.PublicKey, tt.id, tt.public)); err != nil {
					t.Fatal(err)
				}
			}
			if tt.certify != "-" {
				c, err := x509.ParseCertificate(forge(t, &key.PublicKey, softwareKey(t)))
				if err != nil {
					t.Fatal(err)
				}
				if err := tok.c11.ImportCertificateWithLabel(tt.id, []byte(tt.certify), c); err != nil {
					t.Fatal(err)
				}
			}
			p, err := tok.KeyPair(background, tt.find)
			if err != nil {
				t.Fatal(err)
			}
			if !p.public.Equal(&key.PublicKey) || p.Label() != tt.label || !bytes.Equal(p.ID(), tt.id) {
				t.Errorf("found %q, id %x", p.Label(), p.ID())
			}
			isTheKey(t, p, &key.PublicKey)
			if ok, err := p.signs(sha256.Sum256(nil)); err != nil || !ok {
				t.Errorf("it signs: %v, %v", ok, err)
			}
			// The software key has signed the certificate itself.
			if _, err := p.Certify(background, "adopted"); err != nil && !(tt.certify != "-" && errors.Is(err, ErrTaken)) {
				t.Errorf("it is certified: %v", err)
			}
		})
	}
}

func TestSubjectKeyID(t *testing.T) {
	// RFC 7093 §2, method 1, on the BIT STRING that OpenSSL writes.
	key := softwareKey(t)
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	var parsed struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &parsed); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(parsed.Key.Bytes)
	if got := keyID(&key.PublicKey); !bytes.Equal(got, sum[:20]) {
		t.Errorf("%x, want %x", got, sum[:20])
	}
}

func TestCancelledContext(t *testing.T) {
	_, p := newPair(t)
	ctx, cancel := context.WithCancel(background)
	cancel()
	spec := wraps(32)
	for name, call := range map[string]func() error{
		"KeyPair":         func() error { _, err := p.token.KeyPair(ctx, PairName{}); return err },
		"GenerateKeyPair": func() error { _, err := p.token.GenerateKeyPair(ctx, "x", 2048); return err },
		"Generate":        func() error { _, err := p.token.Generate(ctx, spec); return err },
		"Unwrap": func() error {
			_, err := p.Unwrap(ctx, of(spec, &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: make([]byte, 256)}))
			return err
		},
		"Certify": func() error { _, err := p.Certify(ctx, "x"); return err },
		"Destroy": func() error { return p.Destroy(ctx) },
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
	}
	isTheKey(t, p, rsaOf(p))
}
