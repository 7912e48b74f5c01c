package memkey

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/hmac"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"testing"

	josecipher "github.com/go-jose/go-jose/v4/cipher"
)

// RFC 3394 §4.
func TestKeyWrapOfTheRFC(t *testing.T) {
	const kek, data = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f"
	for _, tt := range []struct {
		kek, data int
		want      string
	}{
		{16, 16, "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5"},
		{24, 16, "96778b25ae6ca435f92b5b97c050aed2468ab8a17ad84e5d"},
		{32, 16, "64e8c3f9ce0f5ba263e9777905818a2a93c8191e7d6e8ae7"},
		{24, 24, "031d33264e15d33268f24ec260743edce1c6c7ddee725a936ba814915c6762d2"},
		{32, 24, "a8f9bc1612c68b3ff6e6f4fbe30e71e4769c8b80a32cb8958cd5d17d6b254da1"},
		{32, 32, "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"},
	} {
		key, plain := must(hex.DecodeString(kek[:2*tt.kek])), must(hex.DecodeString(data[:2*tt.data]))
		wrapped, err := KeyWrap(key, plain)
		if err != nil || hex.EncodeToString(wrapped) != tt.want {
			t.Errorf("%d bytes under %d: %x, %v", tt.data, tt.kek, wrapped, err)
		}
		if back, err := KeyUnwrap(key, must(hex.DecodeString(tt.want))); err != nil || !bytes.Equal(back, plain) {
			t.Errorf("%d bytes under %d: %x, %v", tt.data, tt.kek, back, err)
		}
	}
}

func TestKeyWrapAgainstAnother(t *testing.T) {
	for size := 16; size <= 64; size += 8 {
		key, data := make([]byte, 32), make([]byte, size)
		rand.Read(key)
		rand.Read(data)
		want, err := josecipher.KeyWrap(must(aes.NewCipher(key)), data)
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(data)
		wrapped, err := KeyWrap(key, data)
		if err != nil || !bytes.Equal(wrapped, want) || !bytes.Equal(data, before) {
			t.Fatalf("%d bytes: %x, %v, want %x", size, wrapped, err, want)
		}
		for bit := range 8 * len(wrapped) {
			bad := bytes.Clone(wrapped)
			bad[bit/8] ^= 1 << (bit % 8)
			if out, err := KeyUnwrap(key, bad); !errors.Is(err, errKeyWrap) || out != nil {
				t.Fatalf("bit %d of %d bytes: %x, %v", bit, size, out, err)
			}
		}
		if back, err := KeyUnwrap(key, wrapped); err != nil || !bytes.Equal(back, data) {
			t.Fatalf("%d bytes: %x, %v", size, back, err)
		}
	}
	for _, size := range []int{0, 8, 15, 17} {
		if out, err := KeyWrap(make([]byte, 32), make([]byte, size)); err == nil {
			t.Errorf("%d bytes are wrapped: %x", size, out)
		}
		if out, err := KeyUnwrap(make([]byte, 32), make([]byte, size+8)); err == nil {
			t.Errorf("%d bytes are unwrapped: %x", size+8, out)
		}
	}
	if _, err := KeyWrap(make([]byte, 20), make([]byte, 16)); err == nil {
		t.Error("a key of 20 bytes wraps")
	}
}

// A wiped cipher has another key: that of a schedule of zeros.
func TestACipherIsWiped(t *testing.T) {
	key := []byte("sixteen bytes 16")
	block := must(aes.NewCipher(key))
	before, after := make([]byte, 16), make([]byte, 16)
	block.Encrypt(before, before)
	wipe(block)
	block.Encrypt(after, after)
	if bytes.Equal(before, after) {
		t.Error("a wiped cipher still encrypts under its key")
	}
}

func TestHMACAgainstTheStandardLibrary(t *testing.T) {
	for size, hash := range Hashes {
		for _, length := range []int{0, 1, 63, 64, 65, 1000} {
			key, message := make([]byte, size), make([]byte, length)
			rand.Read(key)
			rand.Read(message)
			h := hmac.New(hash.New, key)
			h.Write(message)
			if got := authenticate(hash, key, message); !hmac.Equal(got, h.Sum(nil)) {
				t.Errorf("%v of %d bytes: %x", crypto.Hash(hash), length, got)
			}
		}
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
