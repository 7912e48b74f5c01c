package hsmkeys_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	agetest "c2sp.org/CCTV/age"
	"filippo.io/age"
	"filippo.io/age/plugin"
	"golang.org/x/crypto/chacha20poly1305"
	"pgregory.net/rapid"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token"
)

// p256Pair is a second pair on the token of all tests.
var p256Pair = sync.OnceValues(func() (*token.KeyPair, error) {
	return tok.GenerateKeyPair(context.Background(), "p256", token.P256)
})

// pairs are those that age has recipients for.
func pairs(t testing.TB) map[string]*token.KeyPair {
	t.Helper()
	ec, err := p256Pair()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*token.KeyPair{"RSA": pair, "P-256": ec}
}

func toPair(t testing.TB, public crypto.PublicKey) hsmkeys.PairRecipient {
	t.Helper()
	r, err := hsmkeys.NewPairRecipient(public)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wrap(t testing.TB, r age.Recipient, fileKey []byte) *age.Stanza {
	t.Helper()
	s, err := r.Wrap(fileKey)
	if err != nil || len(s) != 1 {
		t.Fatalf("%d stanzas, %v", len(s), err)
	}
	return s[0]
}

func unwrap(p *token.KeyPair, stanzas ...*age.Stanza) ([]byte, error) {
	return hsmkeys.PairIdentity(context.Background(), p).Unwrap(stanzas)
}

var fileKey = []byte("sixteen bytes of")

func TestAFileToThePairComesBack(t *testing.T) {
	for name, p := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			var file bytes.Buffer
			w, err := age.Encrypt(&file, toPair(t, p.Public()))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, "to the pair"); err != nil {
				t.Fatal(err)
			}
			w.Close()
			r, err := hsmkeys.DecryptWithPair(context.Background(), p, &file)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || string(got) != "to the pair" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// A tag of 4 bytes may be that of another pair. Those are tried and passed over, but not
// without end: the header is anybody's to write.
func TestStanzasWhoseTagOnlyLooksLikeOurs(t *testing.T) {
	for name, p := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			own := wrap(t, toPair(t, p.Public()), fileKey)
			false_ := wrap(t, toPair(t, p.Public()), fileKey)
			false_.Body[0] ^= 1
			if got, err := unwrap(p, slices.Concat(slices.Repeat([]*age.Stanza{false_}, 15), []*age.Stanza{own})...); err != nil || !bytes.Equal(got, fileKey) {
				t.Errorf("behind others: %q, %v", got, err)
			}
			if _, err := unwrap(p, slices.Concat(slices.Repeat([]*age.Stanza{false_}, 16), []*age.Stanza{own})...); !errors.Is(err, blob.ErrIntegrity) {
				t.Errorf("behind too many others: %v", err)
			}
			if _, err := unwrap(p, false_); !errors.Is(err, blob.ErrIntegrity) || errors.Is(err, age.ErrIncorrectIdentity) {
				t.Errorf("damaged: %v", err)
			}
		})
	}
}

// Each part of a stanza counts, and whatever is not whole is nobody's.
func TestStanzasThatAreNotForThePair(t *testing.T) {
	own := pairs(t)
	for name, p := range own {
		whole := wrap(t, toPair(t, p.Public()), fileKey)
		tag, err := hsmkeys.PairTagOf(p.Public())
		if err != nil || !tag.Valid() || !tag.Matches(whole) || !hsmkeys.IsPairStanza(whole) {
			t.Fatalf("%s: the tag %x does not match, %v", name, tag, err)
		}
		for _, tt := range []struct {
			name string
			edit func(*age.Stanza)
		}{
			{"another type", func(s *age.Stanza) { s.Type = "X25519" }},
			{"the other kind", func(s *age.Stanza) {
				s.Type = map[string]string{"hsmkeys-rsa": "p256tag", "p256tag": "hsmkeys-rsa"}[s.Type]
			}},
			{"no arguments", func(s *age.Stanza) { s.Args = nil }},
			{"one argument", func(s *age.Stanza) { s.Args = s.Args[:1] }},
			{"three arguments", func(s *age.Stanza) { s.Args = append(s.Args, "x") }},
			{"a tag that is no base64", func(s *age.Stanza) { s.Args[0] = "~~~~~~" }},
			{"a tag with padding", func(s *age.Stanza) { s.Args[0] += "==" }},
			{"a tag of 3 bytes", func(s *age.Stanza) { s.Args[0] = s.Args[0][:4] }},
			{"a tag with bits behind its end", func(s *age.Stanza) { s.Args[0] = s.Args[0][:5] + "/" }},
			{"another tag", func(s *age.Stanza) { s.Args[0] = "AAAAAA" }},
			{"a secret that is cut", func(s *age.Stanza) { s.Args[1] = s.Args[1][:len(s.Args[1])-4] }},
			{"a secret that is longer", func(s *age.Stanza) { s.Args[1] += "AAAA" }},
			{"a huge secret", func(s *age.Stanza) { s.Args[1] = strings.Repeat("A", 1<<20) }},
			{"another secret", func(s *age.Stanza) { s.Args[1] = s.Args[1][:4] + "AAAA" + s.Args[1][8:] }},
			{"a line end in the secret", func(s *age.Stanza) { s.Args[1] = s.Args[1][:4] + "\n" + s.Args[1][4:] }},
			{"no file key", func(s *age.Stanza) { s.Body = nil }},
			{"a longer file key", func(s *age.Stanza) { s.Body = append(s.Body, 0) }},
		} {
			t.Run(name+", "+tt.name, func(t *testing.T) {
				s := &age.Stanza{Type: whole.Type, Args: slices.Clone(whole.Args), Body: bytes.Clone(whole.Body)}
				tt.edit(s)
				if tag.Matches(s) {
					t.Error("the tag matches")
				}
				if _, err := unwrap(p, s); !errors.Is(err, age.ErrIncorrectIdentity) {
					t.Error(err)
				}
			})
		}
	}
	if _, err := unwrap(own["RSA"], wrap(t, toPair(t, own["P-256"].Public()), fileKey)); !errors.Is(err, age.ErrIncorrectIdentity) {
		t.Errorf("for the other pair: %v", err)
	}
	if _, err := unwrap(own["RSA"], wrap(t, toPair(t, soft().Public()), fileKey)); !errors.Is(err, age.ErrIncorrectIdentity) {
		t.Errorf("for another RSA pair: %v", err)
	}
}

// byHand makes a stanza as docs/age.md describes it.
func byHand(t *testing.T, public *rsa.PublicKey, secret []byte) *age.Stanza {
	t.Helper()
	id, err := blob.PublicKeyID(public)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public, secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	salt := append(bytes.Clone(enc), id...)
	tag, err := hkdf.Extract(sha256.New, salt, []byte("hsmkeys-rsa v1 tag"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := hkdf.Key(sha256.New, secret, salt, "hsmkeys-rsa v1 key", 32)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		t.Fatal(err)
	}
	return &age.Stanza{
		Type: "hsmkeys-rsa",
		Args: []string{base64.RawStdEncoding.EncodeToString(tag[:4]), base64.RawStdEncoding.EncodeToString(enc)},
		Body: aead.Seal(nil, make([]byte, 12), fileKey, nil),
	}
}

// What is as long as a session key is none of a stanza's secrets, even for who knows it.
func TestTheSecretOfAStanzaIsNoSessionKey(t *testing.T) {
	public := pair.Public().(*rsa.PublicKey)
	if got, err := unwrap(pair, byHand(t, public, bytes.Repeat([]byte{1}, 40))); err != nil || !bytes.Equal(got, fileKey) {
		t.Errorf("as documented: %q, %v", got, err)
	}
	for _, size := range []int{1, 16, 24, 32, 39, 41, 48, 64} {
		if _, err := unwrap(pair, byHand(t, public, bytes.Repeat([]byte{1}, size))); !errors.Is(err, blob.ErrIntegrity) {
			t.Errorf("a secret of %d bytes: %v", size, err)
		}
	}
	// And what is in a stanza has no size that a session key has.
	enc, err := base64.RawStdEncoding.DecodeString(wrap(t, toPair(t, public), fileKey).Args[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range []keyspec.Algorithm{keyspec.AES128, keyspec.AES192, keyspec.AES256} {
		size := algorithm.KeySize()
		key, err := pair.Reveal(context.Background(), keyspec.WrappedKey{
			Key:     keyspec.Key{Algorithm: algorithm, Purpose: keyspec.WrapKeys, Size: size},
			Wrapped: &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: enc},
		})
		if !errors.Is(err, token.ErrWrapped) {
			t.Errorf("as a session key of %d bytes: %x, %v", size, key, err)
		}
	}
}

func TestPairsThatAgeHasNoRecipientsFor(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P384(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := hsmkeys.NewPairRecipient(key.Public()); !errors.Is(err, hsmkeys.ErrNoRecipient) || !strings.Contains(err.Error(), curve.Params().Name) {
			t.Error(err)
		}
		if tag, err := hsmkeys.PairTagOf(key.Public()); err != nil || len(tag) != 0 || !tag.Valid() {
			t.Errorf("tag %x, %v", tag, err)
		}
	}
	if _, err := hsmkeys.NewPairRecipient("a key"); !errors.Is(err, hsmkeys.ErrNoRecipient) {
		t.Error(err)
	}
	for _, size := range []int{1, 19, 21, 32, 33, 34} {
		if hsmkeys.PairTag(make([]byte, size)).Valid() {
			t.Errorf("%d bytes are a tag", size)
		}
	}
}

// Both kinds of recipients come back from their strings.
func TestPluginRecipients(t *testing.T) {
	parse := func(t interface{ Fatal(...any) }, s string) hsmkeys.PluginRecipient {
		name, data, err := plugin.ParseRecipient(s)
		if err != nil || name != hsmkeys.PluginName {
			t.Fatal(s, name, err)
		}
		r, err := hsmkeys.ParsePluginRecipient(data)
		if err != nil {
			t.Fatal(s, err)
		}
		return r
	}
	rapid.Check(t, func(t *rapid.T) {
		r := hsmkeys.KeyRecipient{
			Keyring: blob.ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Filter(func(id []byte) bool { return blob.ID(id) != blob.ID{} }).Draw(t, "keyring")),
			Name:    rapid.StringMatching(`[a-z0-9_-]{1,40}(/[a-z0-9_-]{1,40}){0,2}`).Draw(t, "name"),
		}
		if got := parse(t, r.String()); got != r {
			t.Errorf("%v comes back as %v", r, got)
		}
	})
	// Of no keyring would be of any: that is for identities.
	if _, data, err := plugin.ParseRecipient(hsmkeys.KeyRecipient{Name: "payroll"}.String()); err != nil {
		t.Fatal(err)
	} else if r, err := hsmkeys.ParsePluginRecipient(data); !errors.Is(err, blob.ErrMalformed) {
		t.Errorf("a recipient of no keyring: %v, %v", r, err)
	}
	to := toPair(t, pair.Public())
	again, ok := parse(t, to.String()).(*hsmkeys.RSARecipient)
	if !ok || again.String() != to.String() {
		t.Errorf("%s comes back as %v", to, again)
	}
	if got, err := unwrap(pair, wrap(t, again, fileKey)); err != nil || !bytes.Equal(got, fileKey) {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzParsePluginRecipient: what is read has one encoding, and names what can be.
func FuzzParsePluginRecipient(f *testing.F) {
	for _, s := range recipientSeeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := hsmkeys.ParsePluginRecipient(data)
		if err != nil {
			if !errors.Is(err, blob.ErrIntegrity) || r != nil {
				t.Errorf("%v, %v", r, err)
			}
			return
		}
		if _, again, err := plugin.ParseRecipient(r.String()); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%x is written again as %x, %v", data, again, err)
		}
		switch r := r.(type) {
		case hsmkeys.KeyRecipient:
			if blob.ValidName(r.Name) != nil {
				t.Errorf("name %q", r.Name)
			}
		case *hsmkeys.RSARecipient:
			if _, err := r.Wrap(fileKey); err != nil {
				t.Error(err)
			}
		}
	})
}

func recipientSeeds() [][]byte {
	var id blob.ID
	_, key, err := plugin.ParseRecipient(hsmkeys.KeyRecipient{Keyring: id, Name: "payroll"}.String())
	if err != nil {
		panic(err)
	}
	return [][]byte{nil, {0}, {1}, {2}, {3}, key, key[:17], append(bytes.Clone(key), 0)}
}

// FuzzPairStanza: what anybody writes into a header is never more than not ours.
func FuzzPairStanza(f *testing.F) {
	own := pairs(f)
	tags := map[string]hsmkeys.PairTag{}
	for name, p := range own {
		tag, err := hsmkeys.PairTagOf(p.Public())
		if err != nil {
			f.Fatal(err)
		}
		tags[name] = tag
	}
	f.Add(true, "AAAAAA", strings.Repeat("A", 342), make([]byte, 32))
	f.Add(false, "AAAAAA", strings.Repeat("A", 87), make([]byte, 32))
	f.Fuzz(func(t *testing.T, isRSA bool, tag, enc string, body []byte) {
		s := &age.Stanza{Type: "p256tag", Args: []string{tag, enc}, Body: body}
		if isRSA {
			s.Type = "hsmkeys-rsa"
		}
		for name, p := range own {
			if tags[name].Matches(s) {
				t.Skip("one in four thousand million")
			}
			if _, err := unwrap(p, s); !errors.Is(err, age.ErrIncorrectIdentity) {
				t.Error(err)
			}
		}
	})
}

// TestAgesTestKit: of age's own test vectors those for the header. What is wrong with a
// header is told from a file that is for somebody else.
func TestAgesTestKit(t *testing.T) {
	k, _, _ := found(t)
	create(t, k, "payroll")
	tried := 0
	vectors, err := fs.Glob(agetest.Vectors, "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range vectors {
		kind, _, _ := strings.Cut(name, "_")
		if !slices.Contains([]string{"stanza", "header", "version", "empty", "hmac"}, kind) {
			continue
		}
		tried++
		t.Run(name, func(t *testing.T) {
			vector, err := fs.ReadFile(agetest.Vectors, name)
			if err != nil {
				t.Fatal(err)
			}
			about, file, ok := bytes.Cut(vector, []byte("\n\n"))
			if !ok {
				t.Fatal("it is no vector")
			}
			want := blob.ErrNotFound
			if bytes.Contains(about, []byte("expect: header failure")) {
				want = blob.ErrIntegrity
			}
			for what, open := range map[string]func() error{
				"under a key": func() error { _, err := k.Decrypt(context.Background(), bytes.NewReader(file)); return err },
				"to the pair": func() error {
					_, err := hsmkeys.DecryptWithPair(context.Background(), pair, bytes.NewReader(file))
					return err
				},
			} {
				if err := open(); !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", what, err, want)
				}
			}
		})
	}
	if tried < 20 {
		t.Errorf("%d vectors", tried)
	}
}
