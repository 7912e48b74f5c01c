package token

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/softhsm"
)

var specs = []keyspec.Key{
	wraps(16), wraps(24), wraps(32),
	encrypts(16), encrypts(24), encrypts(32),
	authenticates(32), authenticates(48), authenticates(64),
}

func generate(t testing.TB, tok *Token, spec keyspec.Key) keyspec.Transit {
	t.Helper()
	k, err := tok.Generate(background, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func wrap(t testing.TB, k keyspec.Transit, to crypto.PublicKey) keyspec.Wrapped {
	t.Helper()
	w, err := k.Wrap(background, to, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// newSession makes a session key, and returns it in use and its value.
func newSession(t testing.TB, p *KeyPair, spec keyspec.Key) (key *tokenKey, wrapped keyspec.Wrapped, value []byte) {
	t.Helper()
	wrapped = wrap(t, generate(t, p.token, spec), p.public)
	value, err := p.Reveal(background, of(spec, wrapped))
	if err != nil {
		t.Fatal(err)
	}
	k, err := p.Unwrap(background, of(spec, wrapped))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k.(*tokenKey), wrapped, value
}

func TestSessionKeyIsOneKey(t *testing.T) {
	_, p := newPair(t)
	peer := softwareKey(t)
	values := map[string]bool{}
	for _, spec := range specs {
		t.Run(fmt.Sprint(spec), func(t *testing.T) {
			transit := generate(t, p.token, spec)
			own, foreign := wrap(t, transit, p.public), wrap(t, transit, &peer.PublicKey)
			for _, w := range []keyspec.Wrapped{own, foreign} {
				if w.String() != "RSA-OAEP SHA-1" { // asked for SHA-256, of which SoftHSM is not capable
					t.Errorf("wrapped with %v", w)
				}
			}
			value, err := p.Reveal(background, of(spec, own))
			if err != nil || len(value) != spec.Size {
				t.Fatalf("%x, %v", value, err)
			}
			if values[string(value)] {
				t.Error("the same key came twice")
			}
			values[string(value)] = true

			// What the token wrapped to a peer is opened in software.
			plain, err := rsa.DecryptOAEP(sha1.New(), nil, peer, encryptedKey(foreign), nil)
			if err != nil || !bytes.Equal(plain, value) {
				t.Errorf("the peer has %x, %v; want %x", plain, err, value)
			}
			// And it is wrapped once more, as to a new backup authority.
			again, err := p.UnwrapTransit(background, of(spec, own))
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			plain, err = rsa.DecryptOAEP(sha1.New(), nil, peer, encryptedKey(wrap(t, again, &peer.PublicKey)), nil)
			if err != nil || !bytes.Equal(plain, value) {
				t.Errorf("wrapped again, the peer has %x, %v; want %x", plain, err, value)
			}

			k, err := p.Unwrap(background, of(spec, own))
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			if k.Key() != spec {
				t.Errorf("it says %v", k.Key())
			}
			check, err := transit.CheckValue(background)
			if err != nil {
				t.Fatal(err)
			}
			if spec.Purpose != keyspec.Authenticate {
				block, err := aes.NewCipher(value)
				if err != nil {
					t.Fatal(err)
				}
				sum := make([]byte, 16)
				block.Encrypt(sum, sum) // PKCS #11 §4.10.2: zeros under ECB
				if !bytes.Equal(check, sum[:3]) {
					t.Errorf("check value %x, want %x", check, sum[:3])
				}
			}
		})
	}
}

// wrapRFC3394 is AES key wrap as in RFC 3394 §2.2.1, to compare the token with.
func wrapRFC3394(t testing.TB, kek, data []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(kek)
	if err != nil {
		t.Fatal(err)
	}
	n := len(data) / 8
	out := append(bytes.Repeat([]byte{0xa6}, 8), data...)
	buf := make([]byte, 16)
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(buf, out[:8])
			copy(buf[8:], out[8*i:])
			block.Encrypt(buf, buf)
			binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(buf)^uint64(n*j+i))
			copy(out[8*i:8*i+8], buf[8:])
		}
	}
	return out
}

func TestWrapRFC3394(t *testing.T) { // RFC 3394 §4.1
	kek, data := make([]byte, 16), make([]byte, 16)
	for i := range kek {
		kek[i], data[i] = byte(i), byte(0x11*i)
	}
	if got := fmt.Sprintf("%x", wrapRFC3394(t, kek, data)); got != "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5" {
		t.Error(got)
	}
}

func TestWrapData(t *testing.T) {
	_, p := newPair(t)
	for _, size := range []int{16, 24, 32} {
		k, _, value := newSession(t, p, wraps(size))
		for _, n := range []int{16, 24, 32, 40, 48, 56, 64} {
			t.Run(fmt.Sprintf("%d bytes under %d", n, size), func(t *testing.T) {
				data := make([]byte, n)
				rand.Read(data)
				wrapped, err := k.WrapData(background, data)
				if err != nil || !bytes.Equal(wrapped, wrapRFC3394(t, value, data)) {
					t.Fatalf("%x, %v", wrapped, err)
				}
				if got, err := k.UnwrapData(background, wrapped); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%x, %v; want %x", got, err, data)
				}
			})
		}
	}
}

func TestUnwrapDataRefuses(t *testing.T) {
	st, p := newPair(t)
	k, _, value := newSession(t, p, wraps(32))
	other, _, _ := newSession(t, p, wraps(32))
	wrapped, err := k.WrapData(background, make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(wrapped) * 8 {
		bad := bytes.Clone(wrapped)
		bad[bit/8] ^= 1 << (bit % 8)
		if data, err := k.UnwrapData(background, bad); data != nil || err == nil {
			t.Fatalf("bit %d flipped: %x, %v", bit, data, err)
		} else if bit%37 == 0 {
			want(t, err, ErrWrapped)
		}
	}
	for _, tt := range []struct {
		name    string
		key     *tokenKey
		wrapped []byte
	}{
		{"under another key", other, wrapped},
		{"nothing", k, nil},
		{"the first half", k, wrapped[:16]},
		{"one byte less", k, wrapped[:23]},
		{"one byte more", k, append(bytes.Clone(wrapped), 0)},
		{"eight bytes more", k, append(bytes.Clone(wrapped), make([]byte, 8)...)},
		{"a data key of 8 bytes, which RFC 3394 does not have", k, wrapRFC3394(t, value, make([]byte, 8))},
		{"a data key of 72 bytes", k, wrapRFC3394(t, value, make([]byte, 72))},
		{"a megabyte", k, make([]byte, 1<<20)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data, err := tt.key.UnwrapData(background, tt.wrapped)
			want(t, err, ErrWrapped)
			if data != nil {
				t.Errorf("data comes with the error: %x", data)
			}
		})
	}
	for _, n := range []int{0, 8, 15, 17, 72} {
		_, err := k.WrapData(background, make([]byte, n))
		want(t, err, errors.ErrUnsupported)
	}
	if got := len(openRaw(t, st).secretKeys(t, attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET))); got != 0 {
		t.Errorf("%d data keys are left on the token", got)
	}
}

func TestMAC(t *testing.T) {
	_, p := newPair(t)
	for size, h := range map[int]func() hash.Hash{32: sha256.New, 48: sha512.New384, 64: sha512.New} {
		k, _, value := newSession(t, p, authenticates(size))
		for _, n := range []int{0, 1, 1000, 1 << 20} {
			t.Run(fmt.Sprintf("%d bytes with a key of %d", n, size), func(t *testing.T) {
				message := bytes.Repeat([]byte{'m'}, n)
				m := hmac.New(h, value)
				m.Write(message)
				if got, err := k.MAC(background, message); err != nil || !bytes.Equal(got, m.Sum(nil)) {
					t.Errorf("%x, %v; want %x", got, err, m.Sum(nil))
				}
			})
		}
	}
}

func TestSessionKeyHasOneUse(t *testing.T) {
	st, p := newPair(t)
	r := openRaw(t, st)
	cbc := mechanism(pkcs11.CKM_AES_CBC, make([]byte, 16))
	uses := map[string]func(pkcs11.ObjectHandle) error{
		"C_EncryptInit": func(o pkcs11.ObjectHandle) error { return r.EncryptInit(r.session, cbc, o) },
		"C_DecryptInit": func(o pkcs11.ObjectHandle) error { return r.DecryptInit(r.session, cbc, o) },
		"C_SignInit": func(o pkcs11.ObjectHandle) error {
			return r.SignInit(r.session, mechanism(pkcs11.CKM_SHA256_HMAC, nil), o)
		},
		"C_WrapKey": func(o pkcs11.ObjectHandle) error {
			data, err := r.CreateObject(r.session, append(dataKey(), attr(pkcs11.CKA_VALUE, make([]byte, 16))))
			if err != nil {
				return err
			}
			defer func() { _ = r.DestroyObject(r.session, data) }()
			_, err = r.WrapKey(r.session, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), o, data)
			return err
		},
		"C_UnwrapKey": func(o pkcs11.ObjectHandle) error {
			_, err := r.UnwrapKey(r.session, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), o, make([]byte, 24), dataKey())
			return err
		},
	}
	refused := func(err error) bool {
		return is(err, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_KEY_TYPE_INCONSISTENT, pkcs11.CKR_WRAPPING_KEY_TYPE_INCONSISTENT,
			pkcs11.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT, pkcs11.CKR_KEY_NOT_WRAPPABLE)
	}
	for _, tt := range []struct {
		name string
		spec keyspec.Key
		not  []string
	}{
		{"a key that wraps does not encrypt, decrypt or sign", wraps(32), []string{"C_EncryptInit", "C_DecryptInit", "C_SignInit"}},
		{"a key that encrypts does not wrap, unwrap or sign", encrypts(32), []string{"C_WrapKey", "C_UnwrapKey", "C_SignInit"}},
		{"a key for HMAC does not encrypt, decrypt, wrap or unwrap", authenticates(32), []string{"C_EncryptInit", "C_DecryptInit", "C_WrapKey", "C_UnwrapKey"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, wrapped, _ := newSession(t, p, tt.spec)
			for _, use := range tt.not {
				if err := uses[use](k.handle); !refused(err) {
					t.Errorf("%s: %v", use, err)
				}
			}
			// In transit it does the half of its purpose that discloses nothing, for its
			// confirmation; and AES that was unwrapped encrypts, for its check value.
			half := map[keyspec.Purpose]string{keyspec.WrapKeys: "C_WrapKey", keyspec.Encrypt: "C_EncryptInit", keyspec.Authenticate: "C_SignInit"}[tt.spec.Purpose]
			again, err := p.UnwrapTransit(background, of(tt.spec, wrapped))
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			for _, transit := range []keyspec.Transit{generate(t, p.token, tt.spec), again} {
				for use, f := range uses {
					if use == half || use == "C_EncryptInit" && transit == again && tt.spec.Purpose != keyspec.Authenticate {
						continue
					}
					if err := f(transit.(*tokenTransit).handle); !refused(err) {
						t.Errorf("%s in transit: %v", use, err)
					}
				}
				_, err := r.GetAttributeValue(r.session, transit.(*tokenTransit).handle, []*pkcs11.Attribute{attr(pkcs11.CKA_VALUE, nil)})
				if !is(err, pkcs11.CKR_ATTRIBUTE_SENSITIVE) {
					t.Errorf("it is read in transit: %v", err)
				}
			}
			// In use it does not leave, neither read nor wrapped.
			_, err = r.GetAttributeValue(r.session, k.handle, []*pkcs11.Attribute{attr(pkcs11.CKA_VALUE, nil)})
			if !is(err, pkcs11.CKR_ATTRIBUTE_SENSITIVE) {
				t.Errorf("it is read: %v", err)
			}
			public := r.one(t, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), attr(pkcs11.CKA_TOKEN, true))
			if _, err := r.WrapKey(r.session, oaep(crypto.SHA1), public, k.handle); !is(err, pkcs11.CKR_KEY_UNEXTRACTABLE) {
				t.Errorf("it is wrapped out: %v", err)
			}
			for _, a := range []uint{pkcs11.CKA_EXTRACTABLE, pkcs11.CKA_DECRYPT} {
				if a == pkcs11.CKA_DECRYPT && tt.spec.Purpose == keyspec.Encrypt {
					continue
				}
				err := r.SetAttributeValue(r.session, k.handle, []*pkcs11.Attribute{attr(a, true)})
				if a == pkcs11.CKA_EXTRACTABLE && err == nil {
					t.Error("it is made extractable afterwards")
				}
			}
		})
	}
	t.Run("and says so, rather than ask the token", func(t *testing.T) {
		wraps, _, _ := newSession(t, p, wraps(16))
		macs, _, _ := newSession(t, p, authenticates(32))
		_, err := wraps.MAC(background, nil)
		want(t, err, errors.ErrUnsupported)
		_, err = macs.WrapData(background, make([]byte, 16))
		want(t, err, errors.ErrUnsupported)
		_, err = macs.UnwrapData(background, make([]byte, 24))
		want(t, err, errors.ErrUnsupported)
	})
}

func TestSpecsThatAreRefused(t *testing.T) {
	_, p := newPair(t)
	wrapped := wrap(t, generate(t, p.token, wraps(32)), p.public)
	for _, spec := range []keyspec.Key{{}, wraps(0), wraps(8), wraps(64), encrypts(31), authenticates(16), authenticates(-32),
		decrypts(keyspec.RC4, 4), decrypts(keyspec.DES, 7), decrypts(keyspec.TripleDES, 20), decrypts(keyspec.AES256, 32), // sizes and purposes that do not fit
		{Algorithm: keyspec.AES256, Purpose: keyspec.Authenticate, Size: 32}, {Algorithm: keyspec.HMACSHA256, Purpose: keyspec.Encrypt, Size: 32},
		{Algorithm: keyspec.RC4, Purpose: keyspec.Encrypt, Size: 16}, {Algorithm: keyspec.AES128, Purpose: keyspec.WrapKeys, Size: 32},
		{Algorithm: -1, Purpose: keyspec.WrapKeys, Size: 32}, {Algorithm: keyspec.AES256, Purpose: -1, Size: 32}} {
		_, err := p.token.Generate(background, spec)
		want(t, err, errors.ErrUnsupported)
		_, err = p.Unwrap(background, of(spec, wrapped))
		want(t, err, errors.ErrUnsupported)
		_, err = p.UnwrapTransit(background, of(spec, wrapped))
		want(t, err, errors.ErrUnsupported)
		_, err = p.Reveal(background, of(spec, wrapped))
		want(t, err, errors.ErrUnsupported)
		want(t, p.Load(background, of(spec, wrapped), "x", []byte{1}), errors.ErrUnsupported)
	}
}

func TestWrapRefuses(t *testing.T) {
	_, p := newPair(t)
	k := generate(t, p.token, wraps(32))
	for _, hash := range []crypto.Hash{0, crypto.MD5, crypto.SHA512} {
		_, err := k.Wrap(background, p.public, hash)
		want(t, err, errors.ErrUnsupported)
	}
	modulus := softwareKey(t).N
	for name, key := range map[string]*rsa.PublicKey{
		"a short key":                        {N: new(big.Int).Rsh(modulus, 1024), E: 65537},
		"an even exponent":                   {N: modulus, E: 4},
		"exponent 1, which encrypts nothing": {N: modulus, E: 1},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := k.Wrap(background, key, crypto.SHA1)
			want(t, err, errors.ErrUnsupported)
		})
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := k.Wrap(background, p.public, crypto.SHA1)
	want(t, err, ErrClosed)
	_, err = k.CheckValue(background)
	want(t, err, ErrClosed)
}

func TestUnwrapRefuses(t *testing.T) {
	st, p := newPair(t)
	spec := wraps(32)
	k := generate(t, p.token, spec)
	wrapped := wrap(t, k, p.public)
	other := makePair(t, p.token, "other", 2048)
	flipped := bytes.Clone(encryptedKey(wrapped))
	flipped[200] ^= 1
	value := make([]byte, 31)
	odd, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, rsaOf(p), value, nil)
	if err != nil {
		t.Fatal(err)
	}
	labelled, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, rsaOf(p), make([]byte, 32), []byte("label"))
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 to see it refused
	pkcs1, err := rsa.EncryptPKCS1v15(rand.Reader, rsaOf(p), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	before := len(openRaw(t, st).find(t))
	for _, tt := range []struct {
		name    string
		wrapped keyspec.Wrapped
	}{
		{"a flipped bit", &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: flipped}},
		{"a key for somebody else", wrap(t, k, other.public)},
		{"zeros", &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: make([]byte, 256)}},
		{"a number above the modulus", &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: bytes.Repeat([]byte{0xff}, 256)}},
		{"nothing", &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: nil}},
		{"one byte less", &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: encryptedKey(wrapped)[:255]}},
		{"one byte more", &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: append(bytes.Clone(encryptedKey(wrapped)), 0)}},
		{"a hash that OAEP does not take here", &keyspec.KeyTransport{OAEPHash: crypto.SHA512, EncryptedKey: encryptedKey(wrapped)}},
		{"no hash", &keyspec.KeyTransport{EncryptedKey: encryptedKey(wrapped)}},
		{"OAEP with a label", &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: labelled}},
		{"PKCS #1 v1.5", &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: pkcs1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := p.Unwrap(background, of(spec, tt.wrapped))
			want(t, err, ErrWrapped)
			_, err = p.UnwrapTransit(background, of(spec, tt.wrapped))
			want(t, err, ErrWrapped)
			value, err := p.Reveal(background, of(spec, tt.wrapped))
			want(t, err, ErrWrapped)
			if value != nil {
				t.Errorf("a value comes with the error: %x", value)
			}
			want(t, p.Load(background, of(spec, tt.wrapped), "loaded", []byte{1}), ErrWrapped)
		})
	}
	t.Run("SHA-256, which the token does not take", func(t *testing.T) {
		_, err := p.Unwrap(background, of(spec, &keyspec.KeyTransport{OAEPHash: crypto.SHA256, EncryptedKey: encryptedKey(wrapped)}))
		want(t, err, errors.ErrUnsupported, "CKR_ARGUMENTS_BAD")
	})
	t.Run("a key of another size", func(t *testing.T) {
		_, err := p.Reveal(background, of(spec, &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: odd}))
		want(t, err, ErrWrapped)
	})
	if after := len(openRaw(t, st).find(t)); after != before {
		t.Errorf("%d objects, %d before", after, before)
	}
	if _, err := p.Unwrap(background, of(spec, wrapped)); err != nil {
		t.Errorf("what is sound: %v", err)
	}
}

func TestSessionKeyCloses(t *testing.T) {
	st, p := newPair(t)
	r := openRaw(t, st)
	spec := wraps(32)
	transit, err := p.token.Generate(background, spec)
	if err != nil {
		t.Fatal(err)
	}
	wrapped := wrap(t, transit, p.public)
	again, err := p.UnwrapTransit(background, of(spec, wrapped))
	if err != nil {
		t.Fatal(err)
	}
	k, err := p.Unwrap(background, of(spec, wrapped))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Reveal(background, of(spec, wrapped)); err != nil { // leaves nothing
		t.Fatal(err)
	}
	for left, c := range []interface{ Close() error }{k, again, transit} {
		if got := r.secretKeys(t); len(got) != 3-left {
			t.Errorf("%d secret keys are there, want %d", len(got), 3-left)
		}
		for range 2 {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if got := r.secretKeys(t); len(got) != 0 {
		t.Errorf("%d secret keys are left", len(got))
	}
	_, err = k.WrapData(background, make([]byte, 16))
	want(t, err, ErrClosed)
	_, err = k.UnwrapData(background, make([]byte, 24))
	want(t, err, ErrClosed)
}

func TestLoad(t *testing.T) {
	st, p := newPair(t)
	r := openRaw(t, st)
	for i, spec := range specs {
		label, id := fmt.Sprintf("loaded %d", i), []byte{0xaa, byte(i)}
		wrapped := wrap(t, generate(t, p.token, spec), p.public)
		if err := p.Load(background, of(spec, wrapped), label, id); err != nil {
			t.Fatal(err)
		}
		object := r.one(t, attr(pkcs11.CKA_LABEL, label), attr(pkcs11.CKA_ID, id), attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY))
		for kind, want := range map[uint]bool{
			pkcs11.CKA_TOKEN: true, pkcs11.CKA_PRIVATE: true, pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: false, pkcs11.CKA_DERIVE: false,
			pkcs11.CKA_WRAP: spec.Purpose == keyspec.WrapKeys, pkcs11.CKA_UNWRAP: spec.Purpose == keyspec.WrapKeys,
			pkcs11.CKA_ENCRYPT: spec.Purpose == keyspec.Encrypt, pkcs11.CKA_DECRYPT: spec.Purpose == keyspec.Encrypt,
			pkcs11.CKA_SIGN: spec.Purpose == keyspec.Authenticate, pkcs11.CKA_VERIFY: spec.Purpose == keyspec.Authenticate,
		} {
			if got := r.attribute(t, object, kind); !bytes.Equal(got, attr(0, want).Value) {
				t.Errorf("%v: attribute 0x%X is %x, want %v", spec, kind, got, want)
			}
		}
	}
	spec := encrypts(32)
	wrapped := wrap(t, generate(t, p.token, spec), p.public)
	value, err := p.Reveal(background, of(spec, wrapped))
	if err != nil {
		t.Fatal(err)
	}
	want(t, p.Load(background, of(spec, wrapped), "loaded 0", []byte{1}), ErrTaken)
	want(t, p.Load(background, of(spec, wrapped), "new", []byte{0xaa, 0}), ErrTaken)
	want(t, p.Load(background, of(spec, wrapped), "", []byte{1}), errors.ErrUnsupported)
	want(t, p.Load(background, of(spec, wrapped), "new", nil), errors.ErrUnsupported)
	planted := append([]*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES), attr(pkcs11.CKA_TOKEN, true),
		attr(pkcs11.CKA_PRIVATE, false), attr(pkcs11.CKA_LABEL, "planted"), attr(pkcs11.CKA_VALUE, make([]byte, 32)),
	}, uses(keyspec.Encrypt)...)
	plant(t, st, planted)
	want(t, p.Load(background, of(spec, wrapped), "planted", []byte{1}), ErrTaken)
	if err := p.Load(background, of(spec, wrapped), "application", []byte{0xbb}); err != nil {
		t.Fatal(err)
	}

	// Another process, another program.
	list := pkcs11Tool(t, st, "--list-objects", "--type", "secrkey")
	if !strings.Contains(list, "application") || strings.Contains(strings.ToLower(list), fmt.Sprintf("%x", value)) {
		t.Errorf("pkcs11-tool lists %s", list)
	}
	dir := t.TempDir()
	in, out := dir+"/in", dir+"/out"
	if err := os.WriteFile(in, make([]byte, 16), 0o600); err != nil {
		t.Fatal(err)
	}
	pkcs11Tool(t, st, "--encrypt", "--mechanism", "AES-CBC", "--iv", strings.Repeat("00", 16), "--id", "bb", "--input-file", in, "--output-file", out)
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(value)
	if err != nil {
		t.Fatal(err)
	}
	sum := make([]byte, 16)
	if block.Encrypt(sum, sum); !bytes.Equal(got, sum) {
		t.Errorf("pkcs11-tool encrypts to %x, want %x", got, sum)
	}
}

// pkcs11Tool runs OpenSC's tool. If it is missing the test fails.
func pkcs11Tool(t testing.TB, st softhsm.Token, args ...string) string {
	t.Helper()
	cmd := exec.Command("pkcs11-tool", append([]string{"--module", env.Module(), "--token-label", st.Label, "--login", "--pin", "env:TEST_PIN"}, args...)...)
	cmd.Env = append(append(os.Environ(), env.Environ()...), "TEST_PIN="+st.PIN)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("pkcs11-tool %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// SoftHSM follows its templates, so the check is handed objects that were made from others.
func TestCheckProtected(t *testing.T) {
	st, p := newPair(t)
	r := openRaw(t, st)
	k, _, _ := newSession(t, p, wraps(32))
	transit := generate(t, p.token, wraps(32))
	readable, err := r.CreateObject(r.session, append(revealed(wraps(32)), attr(pkcs11.CKA_VALUE, make([]byte, 32))))
	if err != nil {
		t.Fatal(err)
	}
	made, err := r.GenerateKey(r.session, mechanism(pkcs11.CKM_AES_KEY_GEN, nil), append(inUse(wraps(32)), attr(pkcs11.CKA_VALUE_LEN, 32)))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		object pkcs11.ObjectHandle
		size   int
		kind   error
	}{
		{"a key in use is well", k.handle, 32, nil},
		{"a key that has the size it should have", made, 32, nil},
		{"a key of another size", made, 16, ErrWrapped},
		{"a key that is extractable", transit.(*tokenTransit).handle, 32, ErrUnsafe},
		{"a key that is readable", readable, 32, ErrUnsafe},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := p.token.checkProtected(r.session, tt.object, wraps(tt.size), inUse(wraps(tt.size)))
			if tt.kind == nil && err != nil {
				t.Error(err)
			} else if tt.kind != nil {
				want(t, err, tt.kind)
			}
		})
	}
}

// wraps is a session key that wraps data keys.
func wraps(size int) keyspec.Key {
	return keyspec.Key{Algorithm: aesKey(size), Purpose: keyspec.WrapKeys, Size: size}
}

// encrypts is a session key that encrypts data.
func encrypts(size int) keyspec.Key {
	return keyspec.Key{Algorithm: aesKey(size), Purpose: keyspec.Encrypt, Size: size}
}

func aesKey(size int) keyspec.Algorithm {
	switch size {
	case 16:
		return keyspec.AES128
	case 24:
		return keyspec.AES192
	}
	return keyspec.AES256
}

// authenticates is a session key for HMAC.
func authenticates(size int) keyspec.Key {
	algorithm := keyspec.HMACSHA256
	switch size {
	case 48:
		algorithm = keyspec.HMACSHA384
	case 64:
		algorithm = keyspec.HMACSHA512
	}
	return keyspec.Key{Algorithm: algorithm, Purpose: keyspec.Authenticate, Size: size}
}

// decrypts is a session key of a legacy cipher.
func decrypts(algorithm keyspec.Algorithm, size int) keyspec.Key {
	return keyspec.Key{Algorithm: algorithm, Purpose: keyspec.Decrypt, Size: size}
}

// of is a session key as a pair unwraps it, without a confirmation.
func of(spec keyspec.Key, wrapped keyspec.Wrapped) keyspec.WrappedKey {
	return keyspec.WrappedKey{Key: spec, Wrapped: wrapped}
}

func encryptedKey(w keyspec.Wrapped) []byte {
	return keyspec.Match(w,
		func(t *keyspec.KeyTransport) []byte { return t.EncryptedKey },
		func(a *keyspec.KeyAgreement) []byte { return a.EncryptedKey })
}
