package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// foreign are session keys that come from CryptoAPI.
var foreign = []keyspec.Key{
	decrypts(keyspec.RC2, 5), decrypts(keyspec.RC2, 16), decrypts(keyspec.RC4, 7), decrypts(keyspec.RC4, 16), decrypts(keyspec.DES, 8), decrypts(keyspec.TripleDES, 16), decrypts(keyspec.TripleDES, 24),
	wraps(16), encrypts(24), wraps(32),
}

func randomBytes(size int) []byte {
	value := make([]byte, size)
	_, _ = rand.Read(value)
	return value
}

// encrypted is a value as CryptoAPI encrypts it to a pair.
func encrypted(t testing.TB, to *rsa.PublicKey, how keyspec.RSAES, value []byte) []byte {
	t.Helper()
	if how == keyspec.RSAESOAEPSHA1 {
		out, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, to, value, nil)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	//lint:ignore SA1019 it is what is tested
	out, err := rsa.EncryptPKCS1v15(rand.Reader, to, value)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wrapSHA1 wraps to a pair of SoftHSM, which does no OAEP with SHA-256, also from memory.
func wrapSHA1(t testing.TB, k keyspec.Transit, to *KeyPair) keyspec.Wrapped {
	t.Helper()
	w, err := k.Wrap(background, to.public, crypto.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// raised is the RSA encryption of an encoded message that is not padded as it should be.
func raised(to *rsa.PublicKey, message []byte) []byte {
	c := new(big.Int).Exp(new(big.Int).SetBytes(message), big.NewInt(int64(to.E)), to.N)
	return c.FillBytes(make([]byte, to.Size()))
}

// bothResidences runs a test with a pair whose session keys live on the token, and one whose
// keys live in memory.
func bothResidences(t *testing.T, f func(t *testing.T, p *KeyPair, home keyspec.Residence)) {
	t.Run("token", func(t *testing.T) {
		_, p := newPair(t)
		f(t, p, keyspec.InToken)
	})
	t.Run("memory", func(t *testing.T) {
		st, p := newPair(t)
		f(t, forbid(t, openRaw(t, st), p, pkcs11.CKA_UNWRAP), keyspec.InMemory)
	})
}

func TestKeysThatCryptoAPIEncrypts(t *testing.T) {
	bothResidences(t, func(t *testing.T, p *KeyPair, home keyspec.Residence) {
		for _, spec := range foreign {
			for _, how := range []keyspec.RSAES{keyspec.RSAESPKCS1v15, keyspec.RSAESOAEPSHA1} {
				value := randomBytes(spec.Size)
				key, err := p.UnwrapRSAES(background, spec, encrypted(t, rsaOf(p), how, value), how)
				if err != nil {
					t.Fatalf("%v: %v", spec, err)
				}
				where := home
				if spec.Algorithm.IsLegacy() {
					where = keyspec.InMemory // the token does not tell its length
				}
				if key.Residence() != where {
					t.Errorf("%v lives in %s", spec, key.Residence())
				}
				check, err := key.CheckValue(background)
				if computed, _ := memkey.CheckValue(spec, value); err != nil || !bytes.Equal(check, computed) {
					t.Errorf("%v: check value %x, not %x, %v", spec, check, computed, err)
				}
				wrapped := wrapSHA1(t, key, p)
				got, err := p.Reveal(background, of(spec, wrapped))
				if err != nil || !bytes.Equal(got, value) {
					t.Errorf("%v: another key came out, %v", spec, err)
				}
				if err := p.Rehearse(background, of(spec, wrapped)); err != nil {
					t.Errorf("%v: rehearse: %v", spec, err)
				}
				if err := key.Close(); err != nil {
					t.Error(err)
				}
				if spec.Algorithm.IsLegacy() {
					_, err := p.Unwrap(background, of(spec, wrapped))
					want(t, err, errors.ErrUnsupported, "legacy")
				}
			}
		}
	})
}

// If failures could be told apart, anybody who may try often enough could decrypt anything.
func TestAFailureToUnwrapTellsNothing(t *testing.T) {
	bothResidences(t, func(t *testing.T, p *KeyPair, _ keyspec.Residence) {
		public := rsaOf(p)
		for _, spec := range foreign {
			good := append([]byte{0, 2}, bytes.Repeat([]byte{0xff}, public.Size()-3-spec.Size)...)
			good = append(append(good, 0), randomBytes(spec.Size)...)
			changed := func(at int, value byte) []byte {
				out := bytes.Clone(good)
				out[at] = value
				return raised(public, out)
			}
			separator := public.Size() - spec.Size - 1
			cases := map[string][]byte{
				"a random number":         raised(public, append([]byte{0}, randomBytes(public.Size()-1)...)),
				"a first byte that is 1":  changed(0, 1),
				"block type 1":            changed(1, 1),
				"block type 0":            changed(1, 0),
				"a zero in the padding":   changed(5, 0),
				"a separator too early":   changed(separator-1, 0),
				"no separator":            raised(public, append([]byte{0, 2}, bytes.Repeat([]byte{0xff}, public.Size()-2)...)),
				"a key of one byte more":  encrypted(t, public, keyspec.RSAESPKCS1v15, randomBytes(spec.Size+1)),
				"a key of one byte less":  encrypted(t, public, keyspec.RSAESPKCS1v15, randomBytes(spec.Size-1)),
				"a key of 8 bytes more":   encrypted(t, public, keyspec.RSAESPKCS1v15, randomBytes(spec.Size+8)),
				"an empty key":            encrypted(t, public, keyspec.RSAESPKCS1v15, nil),
				"OAEP":                    encrypted(t, public, keyspec.RSAESOAEPSHA1, randomBytes(spec.Size)),
				"zero":                    make([]byte, public.Size()),
				"a number that is no RSA": bytes.Repeat([]byte{0xff}, public.Size()),
			}
			// The ciphertext of which the cases are variations is accepted.
			key, err := p.UnwrapRSAES(background, spec, raised(public, good), keyspec.RSAESPKCS1v15)
			if err != nil {
				t.Fatalf("%v: %v", spec, err)
			}
			_ = key.Close()
			const text = "unwrap session key: wrapped key cannot be opened"
			for name, ciphertext := range cases {
				_, err := p.UnwrapRSAES(background, spec, ciphertext, keyspec.RSAESPKCS1v15)
				want(t, err, ErrWrapped)
				if all := fmt.Sprintf("token %q: %s", p.token.info.Label, text); err == nil || err.Error() != all {
					t.Errorf("%v: %s: %v", spec, name, err)
				}
				if e := (*Error)(nil); !asError(err, &e) || e.Err != nil {
					t.Errorf("%v: %s: its cause can be had: %v", spec, name, err)
				}
			}
			if _, err := p.UnwrapRSAES(background, spec, encrypted(t, public, keyspec.RSAESPKCS1v15, randomBytes(spec.Size)), keyspec.RSAESOAEPSHA1); err == nil || err.Error() != fmt.Sprintf("token %q: %s", p.token.info.Label, text) {
				t.Errorf("PKCS #1 v1.5 for OAEP: %v", err)
			}
		}
		// Nothing is left behind.
		left, err := p.token.findObjects(background, []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY)})
		helpers, errHelpers := p.token.findObjects(background, []*pkcs11.Attribute{attr(pkcs11.CKA_LABEL, confirmLabel)})
		if err != nil || errHelpers != nil || len(left) != len(helpers) {
			t.Errorf("%d objects are left, %v, %v", len(left)-len(helpers), err, errHelpers)
		}
	})
}

func asError(err error, e **Error) bool { got, ok := err.(*Error); *e = got; return ok }

func TestWhatIsNotUnwrappedForCryptoAPI(t *testing.T) {
	st, p := newPair(t)
	spec := decrypts(keyspec.TripleDES, 24)
	ciphertext := encrypted(t, rsaOf(p), keyspec.RSAESPKCS1v15, randomBytes(24))
	_, err := p.UnwrapRSAES(background, decrypts(keyspec.TripleDES, 20), ciphertext, keyspec.RSAESPKCS1v15)
	want(t, err, errors.ErrUnsupported, "20 bytes")
	_, err = p.UnwrapRSAES(background, spec, ciphertext[1:], keyspec.RSAESPKCS1v15)
	want(t, err, ErrWrapped, "255 bytes")
	ec := makePair(t, p.token, "ec", P256)
	_, err = ec.UnwrapRSAES(background, spec, ciphertext, keyspec.RSAESPKCS1v15)
	want(t, err, errors.ErrUnsupported, "not RSA")
	ended, end := context.WithCancel(background)
	end()
	_, err = p.UnwrapRSAES(ended, spec, ciphertext, keyspec.RSAESPKCS1v15)
	want(t, err, context.Canceled)

	// Keys of legacy ciphers pass through memory, which RequireToken refuses.
	strict := strictPair(t, st, p.label)
	_, err = strict.UnwrapRSAES(background, decrypts(keyspec.DES, 8), encrypted(t, rsaOf(p), keyspec.RSAESPKCS1v15, randomBytes(8)), keyspec.RSAESPKCS1v15)
	want(t, err, ErrResidence, "legacy")
	aes := encrypts(32)
	key, err := strict.UnwrapRSAES(background, aes, encrypted(t, rsaOf(p), keyspec.RSAESPKCS1v15, randomBytes(32)), keyspec.RSAESPKCS1v15)
	if err != nil {
		t.Fatal(err)
	}
	_ = key.Close()

	// And cannot be wrapped to EC.
	for _, p := range []*KeyPair{p, forbid(t, openRaw(t, st), p, pkcs11.CKA_UNWRAP)} {
		short, err := p.UnwrapRSAES(background, decrypts(keyspec.RC4, 5), encrypted(t, rsaOf(p), keyspec.RSAESPKCS1v15, randomBytes(5)), keyspec.RSAESPKCS1v15)
		if err != nil {
			t.Fatal(err)
		}
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		_, err = short.Wrap(background, &other.PublicKey, 0)
		want(t, err, errors.ErrUnsupported)
		_ = short.Close()
	}
}

// A loaded key decrypts, and does not encrypt.
func TestLegacyKeysAreLoadedToDecrypt(t *testing.T) {
	st, p := newPair(t)
	r := openRaw(t, st)
	for i, test := range []struct {
		spec keyspec.Key
		kind uint
		how  uint
	}{
		{decrypts(keyspec.DES, 8), pkcs11.CKK_DES, 0}, {decrypts(keyspec.TripleDES, 16), pkcs11.CKK_DES2, pkcs11.CKM_DES3_CBC}, {decrypts(keyspec.TripleDES, 24), pkcs11.CKK_DES3, pkcs11.CKM_DES3_CBC},
	} {
		value := sha256.Sum256([]byte("a key of its time"))
		key, err := p.UnwrapRSAES(background, test.spec, encrypted(t, rsaOf(p), keyspec.RSAESPKCS1v15, value[:test.spec.Size]), keyspec.RSAESPKCS1v15)
		if err != nil {
			t.Fatal(err)
		}
		label := fmt.Sprintf("legacy %d", i)
		if err := p.Load(background, of(test.spec, wrapSHA1(t, key, p)), label, []byte{0xab, byte(i)}); err != nil {
			t.Fatalf("%v: %v", test.spec, err)
		}
		_ = key.Close()
		object := r.one(t, attr(pkcs11.CKA_LABEL, label), attr(pkcs11.CKA_KEY_TYPE, test.kind))
		for kind, want := range map[uint]bool{
			pkcs11.CKA_TOKEN: true, pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: false, pkcs11.CKA_ENCRYPT: false, pkcs11.CKA_DECRYPT: true,
			pkcs11.CKA_WRAP: false, pkcs11.CKA_UNWRAP: false, pkcs11.CKA_SIGN: false,
		} {
			if got := r.attribute(t, object, kind); !bytes.Equal(got, attr(0, want).Value) {
				t.Errorf("%v: attribute 0x%X is %x, want %v", test.spec, kind, got, want)
			}
		}
		if test.how == 0 {
			continue // OpenSSL 3 has no DES for SoftHSM, which keeps such a key all the same
		}
		if err := r.EncryptInit(r.session, mechanism(test.how, make([]byte, 8)), object); !is(err, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED) {
			t.Errorf("%v encrypts: %v", test.spec, err)
		}
		plain := []byte("written in 2004!")
		if err := r.DecryptInit(r.session, mechanism(test.how, make([]byte, 8)), object); err != nil {
			t.Fatal(err)
		}
		got, err := r.Decrypt(r.session, cbc(t, value[:test.spec.Size], plain))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%v decrypts to %q, %v", test.spec, got, err)
		}
	}
	// SoftHSM knows no RC4.
	spec := decrypts(keyspec.RC4, 16)
	key, err := p.UnwrapRSAES(background, spec, encrypted(t, rsaOf(p), keyspec.RSAESPKCS1v15, randomBytes(16)), keyspec.RSAESPKCS1v15)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	want(t, p.Load(background, of(spec, wrapSHA1(t, key, p)), "rc4", []byte{0xac}), errors.ErrUnsupported)
}

// cbc encrypts with 3DES and a vector of zeros.
func cbc(t *testing.T, key, plain []byte) []byte {
	t.Helper()
	block, err := des.NewTripleDESCipher(append(bytes.Clone(key), key...)[:24])
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(plain))
	cipher.NewCBCEncrypter(block, make([]byte, 8)).CryptBlocks(out, plain)
	return out
}
