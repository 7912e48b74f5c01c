package keyfile

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/rc4"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/scrypt"
)

// Encrypted PKCS #8 (RFC 5958 §3), of every age: PBES2, PBES1 as OpenSSL wrote it before
// version 1.1, and the schemes of PKCS #12 that Java uses. What uses RC2 or MD2 is not
// read.

var (
	errKeyMalformed   = errors.New("malformed")
	errKeyUnsupported = errors.New("not supported")
	errKeyPassword    = errors.New("wrong password")
)

// Limits for the work to check a password: iterations, which take a few seconds, and bytes of memory
// for scrypt. A fuzz target sets lower ones.
var (
	maxIterations   = 10_000_000
	maxScryptMemory = 1 << 30
)

type passwordScheme func(parameters asn1.RawValue, data, password []byte) ([]byte, error)

// passwordSchemes are the schemes by their object identifiers (RFC 8018 §A, RFC 7292 §C).
var passwordSchemes = map[string]passwordScheme{
	"1.2.840.113549.1.5.3":    pbes1(md5.New),
	"1.2.840.113549.1.5.10":   pbes1(sha1.New),
	"1.2.840.113549.1.5.13":   pbes2,
	"1.2.840.113549.1.12.1.1": pbePKCS12(16, nil),
	"1.2.840.113549.1.12.1.2": pbePKCS12(5, nil),
	"1.2.840.113549.1.12.1.3": pbePKCS12(24, des.NewTripleDESCipher),
	"1.2.840.113549.1.12.1.4": pbePKCS12(16, func(key []byte) (cipher.Block, error) {
		return des.NewTripleDESCipher(append(bytes.Clone(key), key[:8]...))
	}),
}

// decryptPKCS8 returns the PrivateKeyInfo in an EncryptedPrivateKeyInfo. The caller must clear it.
// The error is an errKeyMalformed, errKeyUnsupported or errKeyPassword.
func decryptPKCS8(der, password []byte) ([]byte, error) {
	var in struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	if err := unmarshalAll(der, &in); err != nil {
		return nil, err
	}
	scheme, ok := passwordSchemes[in.Algorithm.Algorithm.String()]
	if !ok {
		return nil, fmt.Errorf("encryption with %v is %w", in.Algorithm.Algorithm, errKeyUnsupported)
	}
	out, err := scheme(in.Algorithm.Parameters, in.Data, password)
	if err == nil && formatOf(out) != plainPKCS8 {
		clear(out)
		err = errKeyPassword
	}
	return out, err
}

// pbes1 is PBES1 with DES (RFC 8018 §6.1): PBKDF1 yields the key and the IV.
func pbes1(newHash func() hash.Hash) passwordScheme {
	return func(parameters asn1.RawValue, data, password []byte) ([]byte, error) {
		salt, iterations, err := saltAndIterations(parameters)
		if err != nil {
			return nil, err
		}
		h := newHash()
		h.Write(password)
		h.Write(salt)
		key := h.Sum(nil)
		defer clear(key)
		for range iterations - 1 {
			h.Reset()
			h.Write(key)
			key = h.Sum(key[:0])
		}
		block, err := des.NewCipher(key[:8])
		if err != nil {
			return nil, err
		}
		return decryptCBC(block, key[8:16], data)
	}
}

// pbePKCS12 is one of the schemes of RFC 7292 §C, RC4 where there is no block cipher.
func pbePKCS12(size int, newBlock func([]byte) (cipher.Block, error)) passwordScheme {
	decrypt := func(salt []byte, iterations int, data, password []byte) ([]byte, error) {
		key := kdfPKCS12(1, password, salt, iterations, size)
		defer clear(key)
		if newBlock == nil {
			stream, err := rc4.NewCipher(key)
			if err != nil {
				return nil, err
			}
			out := make([]byte, len(data))
			stream.XORKeyStream(out, data)
			return out, nil
		}
		block, err := newBlock(key)
		if err != nil {
			return nil, err
		}
		return decryptCBC(block, kdfPKCS12(2, password, salt, iterations, block.BlockSize()), data)
	}
	return func(parameters asn1.RawValue, data, password []byte) ([]byte, error) {
		salt, iterations, err := saltAndIterations(parameters)
		if err != nil {
			return nil, err
		}
		wide, err := bmpString(password)
		if err != nil {
			return nil, err
		}
		defer clear(wide)
		out, err := decrypt(salt, iterations, data, wide)
		if len(password) == 0 && (err != nil || !isSequence(out)) {
			// No password is two zeros to some programs, and nothing to others.
			out, err = decrypt(salt, iterations, data, nil)
		}
		return out, err
	}
}

// isSequence reports whether there is one SEQUENCE and nothing else: what is encrypted here
// is a PrivateKeyInfo, or in PKCS #12 also SafeContents.
func isSequence(der []byte) bool {
	in, inner := cryptobyte.String(der), cryptobyte.String(nil)
	return in.ReadASN1(&inner, cryptobyte_asn1.SEQUENCE) && in.Empty()
}

// pbes2 is PBES2 (RFC 8018 §6.2) with AES or 3DES, and PBKDF2 or scrypt (RFC 7914 §7).
func pbes2(parameters asn1.RawValue, data, password []byte) ([]byte, error) {
	var in struct{ KDF, Cipher pkix.AlgorithmIdentifier }
	if err := unmarshalAll(parameters.FullBytes, &in); err != nil {
		return nil, err
	}
	known, ok := map[string]struct {
		size int
		new  func([]byte) (cipher.Block, error)
	}{
		"2.16.840.1.101.3.4.1.2":  {16, aes.NewCipher},
		"2.16.840.1.101.3.4.1.22": {24, aes.NewCipher},
		"2.16.840.1.101.3.4.1.42": {32, aes.NewCipher},
		"1.2.840.113549.3.7":      {24, des.NewTripleDESCipher},
		"1.3.14.3.2.7":            {8, des.NewCipher},
	}[in.Cipher.Algorithm.String()]
	if !ok {
		return nil, fmt.Errorf("encryption with %v is %w", in.Cipher.Algorithm, errKeyUnsupported)
	}
	var iv []byte
	if err := unmarshalAll(in.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, err
	}
	key, err := pbes2Key(in.KDF, password, known.size)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := known.new(key)
	if err != nil {
		return nil, err
	}
	return decryptCBC(block, iv, data)
}

func pbes2Key(kdf pkix.AlgorithmIdentifier, password []byte, size int) ([]byte, error) {
	switch kdf.Algorithm.String() {
	case "1.2.840.113549.1.5.12":
		var in struct {
			Salt       []byte
			Iterations int
			Size       int                      `asn1:"optional"`
			PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
		}
		if err := unmarshalAll(kdf.Parameters.FullBytes, &in); err != nil {
			return nil, err
		}
		if in.Size != 0 && in.Size != size {
			return nil, fmt.Errorf("%w: a key of %d bytes where the cipher takes %d", errKeyMalformed, in.Size, size)
		}
		if err := checkIterations(in.Iterations); err != nil {
			return nil, err
		}
		newHash, ok := map[string]func() hash.Hash{
			"":                    sha1.New, // the default
			"1.2.840.113549.2.7":  sha1.New,
			"1.2.840.113549.2.8":  sha256.New224,
			"1.2.840.113549.2.9":  sha256.New,
			"1.2.840.113549.2.10": sha512.New384,
			"1.2.840.113549.2.11": sha512.New,
			"1.2.840.113549.2.12": sha512.New512_224,
			"1.2.840.113549.2.13": sha512.New512_256,
		}[in.PRF.Algorithm.String()]
		if !ok {
			return nil, fmt.Errorf("PBKDF2 with %v is %w", in.PRF.Algorithm, errKeyUnsupported)
		}
		return pbkdf2.Key(newHash, string(password), in.Salt, in.Iterations, size)
	case "1.3.6.1.4.1.11591.4.11":
		var in struct {
			Salt    []byte
			N, R, P int
			Size    int `asn1:"optional"`
		}
		if err := unmarshalAll(kdf.Parameters.FullBytes, &in); err != nil {
			return nil, err
		}
		most := maxScryptMemory / 128
		if in.N < 2 || in.R < 1 || in.P < 1 || in.N > most || in.R > most/in.N || in.P > most/in.N/in.R || in.Size != 0 && in.Size != size {
			return nil, fmt.Errorf("scrypt with N %d, r %d and p %d is %w", in.N, in.R, in.P, errKeyUnsupported)
		}
		key, err := scrypt.Key(password, in.Salt, in.N, in.R, in.P, size)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errKeyMalformed, err)
		}
		return key, nil
	}
	return nil, fmt.Errorf("key derivation with %v is %w", kdf.Algorithm, errKeyUnsupported)
}

func saltAndIterations(parameters asn1.RawValue) ([]byte, int, error) {
	var in struct {
		Salt       []byte
		Iterations int
	}
	if err := unmarshalAll(parameters.FullBytes, &in); err != nil {
		return nil, 0, err
	}
	return in.Salt, in.Iterations, checkIterations(in.Iterations)
}

func checkIterations(n int) error {
	if n < 1 || n > maxIterations {
		return fmt.Errorf("a password that is hashed %d times is %w", n, errKeyUnsupported)
	}
	return nil
}

// decryptCBC decrypts and removes the padding of PKCS #7, by which a wrong password is
// found.
func decryptCBC(block cipher.Block, iv, data []byte) ([]byte, error) {
	n := block.BlockSize()
	if len(iv) != n || len(data) == 0 || len(data)%n != 0 {
		return nil, fmt.Errorf("%w: an IV of %d bytes and %d encrypted bytes", errKeyMalformed, len(iv), len(data))
	}
	out := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, data)
	pad := int(out[len(out)-1])
	if pad < 1 || pad > n || !bytes.Equal(out[len(out)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		clear(out)
		return nil, errKeyPassword
	}
	return out[:len(out)-pad], nil
}

// kdfPKCS12 is the key derivation of RFC 7292 §B.2 with SHA-1.
func kdfPKCS12(purpose byte, password, salt []byte, iterations, size int) []byte {
	const block = 64
	filled := func(in []byte) []byte { // in, repeated up to a multiple of the block
		out := make([]byte, (len(in)+block-1)/block*block)
		for i := range out {
			out[i] = in[i%len(in)]
		}
		return out
	}
	diversifier := bytes.Repeat([]byte{purpose}, block)
	input := append(filled(salt), filled(password)...)
	defer clear(input)
	var out []byte
	for len(out) < size {
		sum := sha1.Sum(append(bytes.Clone(diversifier), input...))
		for range iterations - 1 {
			sum = sha1.Sum(sum[:])
		}
		out = append(out, sum[:]...)
		add := filled(sum[:])[:block]
		for i := 0; i < len(input); i += block { // each block of it grows by the sum, and 1
			carry := 1
			for j := block - 1; j >= 0; j-- {
				carry += int(input[i+j]) + int(add[j])
				input[i+j] = byte(carry)
				carry >>= 8
			}
		}
	}
	return out[:size]
}

// bmpString returns a password as PKCS #12 has it, in UTF-16 with a final zero.
func bmpString(password []byte) ([]byte, error) {
	if !utf8.Valid(password) {
		return nil, fmt.Errorf("a password that is not UTF-8 is %w with this encryption", errKeyUnsupported)
	}
	out := make([]byte, 0, 2*len(password)+2)
	for len(password) > 0 {
		r, n := utf8.DecodeRune(password)
		password = password[n:]
		for _, unit := range utf16.AppendRune(nil, r) {
			out = append(out, byte(unit>>8), byte(unit))
		}
	}
	return append(out, 0, 0), nil
}

// unmarshalAll reads one value of DER, after which nothing may follow.
func unmarshalAll(der []byte, value any) error {
	rest, err := asn1.Unmarshal(der, value)
	if err == nil && len(rest) > 0 {
		err = errors.New("data after it")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errKeyMalformed, err)
	}
	return nil
}
