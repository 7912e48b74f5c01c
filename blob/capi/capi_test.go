package capi

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob/openssltest"
	"pgregory.net/rapid"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func privateKey(t testing.TB, name string) *rsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode(read(t, name))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}

func TestWhatOpenSSLWroteIsReadAndWrittenAgain(t *testing.T) {
	for _, bits := range []string{"2048", "1024", "512"} {
		want := privateKey(t, "key"+bits+".pem")
		blob := read(t, "private"+bits+".blob")
		private, err := ParsePrivateKeyBlob(blob)
		if err != nil || !private.Equal(want) {
			t.Fatalf("%s: another private key, or %v", bits, err)
		}
		if again, err := MarshalPrivateKeyBlob(private); err != nil || !bytes.Equal(again, blob) {
			t.Errorf("%s: the private key is written otherwise, or %v", bits, err)
		}
		blob = read(t, "public"+bits+".blob")
		public, err := ParsePublicKeyBlob(blob)
		if err != nil || !public.Equal(want.Public()) {
			t.Fatalf("%s: another public key, or %v", bits, err)
		}
		if again, err := MarshalPublicKeyBlob(public); err != nil || !bytes.Equal(again, blob) {
			t.Errorf("%s: the public key is written otherwise, or %v", bits, err)
		}
	}
}

// The exponent may be left out, in two ways; the numbers before it are checked all the
// same.
func TestAPrivateExponentIsComputedFromThePrimes(t *testing.T) {
	for _, bits := range []int{2048, 1024, 512} {
		want := privateKey(t, fmt.Sprintf("key%d.pem", bits))
		whole := read(t, fmt.Sprintf("private%d.blob", bits))
		ended := whole[:len(whole)-bits/8]
		for name, data := range map[string][]byte{"ended": ended, "zeros": append(bytes.Clone(ended), make([]byte, bits/8)...)} {
			key, err := ParsePrivateKeyBlob(data)
			if err != nil || key.Validate() != nil || !key.PublicKey.Equal(&want.PublicKey) {
				t.Fatalf("%d, %s: %v", bits, name, err)
			}
			if bits >= 1024 { // Go opens nothing with less
				encrypted := openssltest.Run(t, []byte("0123456789abcdef"), "pkeyutl", "-encrypt", "-inkey", fmt.Sprintf("testdata/key%d.pem", bits), "-pkeyopt", "rsa_padding_mode:oaep")
				if opened, err := rsa.DecryptOAEP(sha1.New(), nil, key, encrypted, nil); err != nil || string(opened) != "0123456789abcdef" {
					t.Errorf("%d, %s: %q, %v", bits, name, opened, err)
				}
			}
			data = bytes.Clone(data)
			data[20+bits/8+1] ^= 1
			if _, err := ParsePrivateKeyBlob(data); !errors.Is(err, ErrMalformed) {
				t.Errorf("%d, %s: with another prime: %v", bits, name, err)
			}
		}
	}
}

func TestOpenSSLReadsWhatIsWritten(t *testing.T) {
	key := privateKey(t, "key2048.pem")
	private, err := MarshalPrivateKeyBlob(key)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(openssltest.Run(t, private, "rsa", "-inform", "MSBLOB"))
	if got, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil || !key.Equal(got.(*rsa.PrivateKey)) {
		t.Errorf("another private key, or %v", err)
	}
	public, err := MarshalPublicKeyBlob(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode(openssltest.Run(t, public, "rsa", "-pubin", "-inform", "MSBLOB", "-pubout"))
	if got, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil || !key.PublicKey.Equal(got) {
		t.Errorf("another public key, or %v", err)
	}
}

func TestASimpleBlob(t *testing.T) {
	data := read(t, "simple.blob")
	b, err := ParseSimpleBlob(data)
	if err != nil || b.Algorithm != RC4 {
		t.Fatalf("%v, %v", b.Algorithm, err)
	}
	key := openssltest.Run(t, b.EncryptedKey, "pkeyutl", "-decrypt", "-inkey", "testdata/key2048.pem", "-pkeyopt", "rsa_padding_mode:pkcs1")
	if string(key) != "0123456789abcdef" {
		t.Errorf("another key: %q", key)
	}
	if again, err := b.Marshal(); err != nil || !bytes.Equal(again, data) {
		t.Errorf("written otherwise, or %v", err)
	}
}

// What the provider of Windows derives from a hash, known by what it encrypts.
func TestDerivedKeysAreThoseOfWindows(t *testing.T) {
	names := map[string]AlgID{
		"CALG_MD4": MD4, "CALG_MD5": MD5, "CALG_SHA1": SHA1, "CALG_SHA_256": SHA256,
		"CALG_DES": DES, "CALG_3DES_112": TripleDES112, "CALG_3DES": TripleDES, "CALG_AES_128": AES128,
	}
	tried := 0
	for line := range strings.Lines(string(read(t, "cryptderivekey.tsv"))) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(strings.TrimSpace(line), "\t")
		i, err := strconv.Atoi(fields[0])
		algorithm, hashed := names[fields[1]], names[fields[2]]
		if err != nil || algorithm == 0 || hashed == 0 {
			t.Fatalf("line %q", line)
		}
		password := make([]byte, 512)
		for j := range password {
			password[j] = byte(i + j)
		}
		h := derivations[hashed].new()
		h.Write(password)
		if got := hex.EncodeToString(h.Sum(nil)); got != fields[3] {
			t.Errorf("%s: the hash is %s", line, got)
		}
		key, err := DeriveKey(hashed, algorithm, 0, password)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // with and without parity
			if got := hex.EncodeToString(encryptCBC(t, algorithm, key, password[:4])); got != fields[4] {
				t.Errorf("%sencrypts to %s", line, got)
			}
			SetParity(algorithm, key)
		}
		tried++
	}
	if tried != 9 {
		t.Errorf("%d vectors", tried)
	}
}

// encryptCBC encrypts less than a block: PKCS #7 padding, an IV of zeros.
func encryptCBC(t *testing.T, algorithm AlgID, key, plain []byte) []byte {
	t.Helper()
	var block cipher.Block
	var err error
	switch algorithm {
	case DES:
		block, err = des.NewCipher(key)
	case TripleDES112:
		block, err = des.NewTripleDESCipher(slices.Concat(key, key[:8]))
	case TripleDES:
		block, err = des.NewTripleDESCipher(key)
	default:
		block, err = aes.NewCipher(key)
	}
	if err != nil {
		t.Fatal(err)
	}
	n := block.BlockSize()
	out := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(n - len(plain))}, n-len(plain))...)
	cipher.NewCBCEncrypter(block, make([]byte, n)).CryptBlocks(out, out)
	return out
}

// The rule of CryptDeriveKey for all algorithms, worked out with openssl dgst.
func TestDerivedKeysAreThoseOfOpenSSL(t *testing.T) {
	password := []byte("password")
	for hashed, derivation := range derivations {
		dgst := func(in []byte) []byte {
			return openssltest.Run(t, in, "dgst", "-provider", "default", "-provider", "legacy", "-"+hashed.String(), "-binary")
		}
		base := dgst(password)
		var both []byte
		for _, pad := range []byte{0x36, 0x5c} {
			block := bytes.Repeat([]byte{pad}, 64)
			for i, b := range base[:min(len(base), 64)] {
				block[i] ^= b
			}
			both = append(both, dgst(block)...)
		}
		for _, test := range []struct {
			algorithm AlgID
			size      int
			padded    bool
		}{{RC2, 5, false}, {RC2, 16, false}, {RC4, 7, false}, {DES, 8, false}, {TripleDES, 24, true}, {TripleDES112, 16, false}, {AES128, 16, true}, {AES192, 24, true}, {AES256, 32, true}} {
			want := base
			if test.padded && derivation.expands {
				want = both
			}
			got, err := DeriveKey(hashed, test.algorithm, test.size, password)
			if err != nil || !bytes.Equal(got, want[:test.size]) {
				t.Errorf("%v, %v: %x, %v; not %x", hashed, test.algorithm, got, err, want[:test.size])
			}
		}
	}
	// A published value: RC4 keys of 128 bits from MD5 are the MD5 of the password.
	if got, err := DeriveKey(MD5, RC4, 16, password); err != nil || hex.EncodeToString(got) != "5f4dcc3b5aa765d61d8327deb882cf99" {
		t.Errorf("%x, %v", got, err)
	}
	for _, wrong := range []struct {
		hashed, algorithm AlgID
		size              int
	}{{RSAKeyX, RC4, 5}, {MD5, SHA1, 16}, {MD5, RC4, 0}, {MD5, RC4, 17}, {MD5, DES, 7}, {MD5, AES256, 16}, {0x8005, RC4, 5}} {
		if key, err := DeriveKey(wrong.hashed, wrong.algorithm, wrong.size, password); !errors.Is(err, errors.ErrUnsupported) || key != nil {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
}

func TestParityIsThatOfDES(t *testing.T) {
	for _, algorithm := range []AlgID{DES, TripleDES, TripleDES112} {
		for b := range 256 {
			key := []byte{byte(b)}
			SetParity(algorithm, key)
			if bits.OnesCount8(key[0])%2 != 1 || key[0]&^1 != byte(b)&^1 {
				t.Errorf("%v: %02x becomes %02x", algorithm, b, key[0])
			}
		}
	}
	key := []byte{0}
	if SetParity(AES128, key); key[0] != 0 {
		t.Error("an AES key has been changed")
	}
}

func TestBlobsThatAreRefused(t *testing.T) {
	simple, public, private := read(t, "simple.blob"), read(t, "public2048.blob"), read(t, "private2048.blob")
	plain, err := PlaintextKey{AES128, make([]byte, 16)}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	parseSimple := func(b []byte) error { _, err := ParseSimpleBlob(b); return err }
	parsePublic := func(b []byte) error { _, err := ParsePublicKeyBlob(b); return err }
	parsePrivate := func(b []byte) error { _, err := ParsePrivateKeyBlob(b); return err }
	parsePlain := func(b []byte) error { _, err := ParsePlaintextKeyBlob(b); return err }
	at := func(data []byte, i int, value uint32) []byte {
		out := bytes.Clone(data)
		binary.LittleEndian.PutUint32(out[i:], value)
		return out
	}
	flip := func(data []byte, i int) []byte {
		out := bytes.Clone(data)
		out[i] ^= 1
		return out
	}
	half := 128
	for name, test := range map[string]struct {
		parse func([]byte) error
		data  []byte
		want  error
		says  string
	}{
		"nothing":                           {parseSimple, nil, ErrMalformed, "bType"},
		"a header cut":                      {parsePublic, public[:7], ErrMalformed, "aiKeyAlg"},
		"a public key for a session key":    {parseSimple, public, errors.ErrUnsupported, "0x06 (PUBLICKEYBLOB), not 0x01 (SIMPLEBLOB)"},
		"a private key for a public one":    {parsePublic, private, errors.ErrUnsupported, "PRIVATEKEYBLOB"},
		"a type of nobody":                  {parsePrivate, append([]byte{0x77}, private[1:]...), errors.ErrUnsupported, "0x77"},
		"version 3":                         {parseSimple, append([]byte{1, 3}, simple[2:]...), errors.ErrUnsupported, "bVersion is 3"},
		"reserved is used":                  {parseSimple, append([]byte{1, 2, 1}, simple[3:]...), ErrMalformed, "reserved"},
		"an unknown algorithm":              {parseSimple, at(simple, 4, 0x6677), errors.ErrUnsupported, "0x6677"},
		"a hash as the session key":         {parseSimple, at(simple, 4, uint32(MD5)), errors.ErrUnsupported, "md5"},
		"encrypted with a signature key":    {parseSimple, at(simple, 8, uint32(RSASign)), errors.ErrUnsupported, "rsa-sign"},
		"no ciphertext":                     {parseSimple, simple[:12], ErrMalformed, "0 bytes"},
		"a ciphertext too long":             {parseSimple, append(bytes.Clone(simple), make([]byte, 2048)...), ErrMalformed, "2304 bytes"},
		"too large":                         {parseSimple, append(bytes.Clone(simple), make([]byte, MaxSize)...), ErrMalformed, "at most"},
		"a Diffie-Hellman key":              {parsePublic, at(public, 4, 0xaa02), errors.ErrUnsupported, "0xaa02"},
		"RSA2 in a public key":              {parsePublic, at(public, 8, magicPrivate), ErrMalformed, "magic"},
		"bitlen is 2056":                    {parsePublic, at(public, 12, 2056), ErrMalformed, "modulus"},
		"bitlen is 2040":                    {parsePublic, at(public, 12, 2040), ErrMalformed, ""},
		"bitlen is 2047":                    {parsePublic, at(public, 12, 2047), errors.ErrUnsupported, "bitlen"},
		"bitlen is 4294967288":              {parsePublic, at(public, 12, 0xfffffff8), errors.ErrUnsupported, "bitlen"},
		"an even exponent":                  {parsePublic, at(public, 16, 65536), errors.ErrUnsupported, "pubexp"},
		"an even modulus":                   {parsePublic, flip(public, 20), ErrMalformed, "odd"},
		"a byte behind":                     {parsePublic, append(bytes.Clone(public), 0), ErrMalformed, "1 bytes stand behind"},
		"a private key cut":                 {parsePrivate, private[:len(private)-1], ErrMalformed, "privateExponent"},
		"a private key cut sooner":          {parsePrivate, private[:len(private)-257], ErrMalformed, "coefficient"},
		"a prime that is no factor":         {parsePrivate, flip(private, 20+256+1), ErrMalformed, "product of the primes"},
		"exponent1 of another key":          {parsePrivate, flip(private, 20+256+2*half), ErrMalformed, "do not fit"},
		"a coefficient of another key":      {parsePrivate, flip(private, 20+256+4*half), ErrMalformed, "do not fit"},
		"a private exponent of another key": {parsePrivate, flip(private, 20+256+5*half), ErrMalformed, "do not fit"},
		"a plain key of another length":     {parsePlain, at(plain, 8, 15), ErrMalformed, "dwKeySize is 15, and 16"},
		"a plain key too short for AES":     {parsePlain, at(plain[:27], 8, 15), ErrMalformed, "15 bytes"},
		"a plain key of a huge size":        {parsePlain, at(plain, 8, 0xffffffff), ErrMalformed, "dwKeySize"},
	} {
		err := test.parse(test.data)
		if !errors.Is(err, test.want) || !strings.Contains(fmt.Sprint(err), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysThatCannotBeWritten(t *testing.T) {
	if _, err := MarshalPublicKeyBlob(&rsa.PublicKey{N: big.NewInt(15), E: 3}); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := (SimpleBlob{MD5, make([]byte, 256)}).Marshal(); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := (PlaintextKey{DES, make([]byte, 7)}).Marshal(); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func TestSessionKeysRoundTrip(t *testing.T) {
	ids := []AlgID{RC2, RC4, DES, TripleDES, TripleDES112, AES128, AES192, AES256}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.SampledFrom(ids).Draw(t, "algorithm")
		smallest, largest := id.KeySizes()
		plain := PlaintextKey{id, rapid.SliceOfN(rapid.Byte(), smallest, largest).Draw(t, "key")}
		data, err := plain.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParsePlaintextKeyBlob(data); err != nil || got.Algorithm != id || !bytes.Equal(got.Key, plain.Key) {
			t.Fatalf("%+v, %v", got, err)
		}
		simple := SimpleBlob{id, rapid.SliceOfN(rapid.Byte(), minModulus, maxModulus).Draw(t, "ciphertext")}
		if data, err = simple.Marshal(); err != nil {
			t.Fatal(err)
		}
		if got, err := ParseSimpleBlob(data); err != nil || got.Algorithm != id || !bytes.Equal(got.EncryptedKey, simple.EncryptedKey) {
			t.Fatalf("%+v, %v", got, err)
		}
		if parsed, err := ParseCipher(id.String()); err != nil || parsed != id {
			t.Fatalf("%v, %v", parsed, err)
		}
	})
}

// What a parser takes is the one encoding of what it gives, and all else is one of two
// errors.
func fuzz(f *testing.F, seed string, again func([]byte) ([]byte, error)) {
	f.Add(read(f, seed))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := again(data)
		switch {
		case err == nil && !bytes.Equal(out, data):
			t.Error("written otherwise than it was read")
		case err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, errors.ErrUnsupported):
			t.Error(err)
		}
	})
}

func FuzzParseSimpleBlob(f *testing.F) {
	fuzz(f, "simple.blob", func(data []byte) ([]byte, error) {
		b, err := ParseSimpleBlob(data)
		if err != nil {
			return nil, err
		}
		return b.Marshal()
	})
}

func FuzzParsePublicKeyBlob(f *testing.F) {
	fuzz(f, "public1024.blob", func(data []byte) ([]byte, error) {
		key, err := ParsePublicKeyBlob(data)
		if err != nil {
			return nil, err
		}
		out, err := MarshalPublicKeyBlob(key)
		if err == nil { // both kinds of RSA key are read
			copy(out[4:8], data[4:8])
		}
		return out, err
	})
}

func isZero(data []byte) bool { return len(bytes.Trim(data, "\x00")) == 0 }

func FuzzParsePrivateKeyBlob(f *testing.F) {
	short := read(f, "private512.blob")
	f.Add(short)
	f.Add(short[:len(short)-64])
	fuzz(f, "private1024.blob", func(data []byte) ([]byte, error) {
		key, err := ParsePrivateKeyBlob(data)
		if err != nil {
			return nil, err
		}
		out, err := MarshalPrivateKeyBlob(key)
		if err == nil {
			copy(out[4:8], data[4:8])
			// Where the exponent is left out, it is written all the same.
			if before := len(out) - key.N.BitLen()/8; len(data) == before {
				out = out[:before]
			} else if isZero(data[before:]) {
				clear(out[before:])
			}
		}
		return out, err
	})
}

func FuzzParsePlaintextKeyBlob(f *testing.F) {
	f.Add([]byte("\x08\x02\x00\x00\x0e\x66\x00\x00\x10\x00\x00\x000123456789abcdef"))
	fuzz(f, "simple.blob", func(data []byte) ([]byte, error) {
		k, err := ParsePlaintextKeyBlob(data)
		if err != nil {
			return nil, err
		}
		return k.Marshal()
	})
}
