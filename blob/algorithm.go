package blob

import (
	"bytes"
	"fmt"
)

// An Algorithm is what a session key is for, to the bit: its kind and length.
type Algorithm int

// The algorithms of session keys. HMAC keys are as long as the hash (RFC 2104
// §3: shorter weakens the MAC, longer gains nothing). The numbers are part of the
// stored format, as docs/format.md has it.
const (
	AES128     Algorithm = iota + 1 // 16-byte key, id-aes128-wrap
	AES192                          // 24-byte key, id-aes192-wrap
	AES256                          // 32-byte key, id-aes256-wrap
	HMACSHA256                      // 32-byte key, id-hmacWithSHA256
	HMACSHA384                      // 48-byte key, id-hmacWithSHA384
	HMACSHA512                      // 64-byte key, id-hmacWithSHA512

	// Legacy algorithms, for keys that come from elsewhere, see [Legacy].
	RC2       // rc2CBC
	RC4       // rc4
	DES       // desCBC
	TripleDES // des-ede3-cbc, with two keys or three
)

// algorithms is the closed list. The AES key wrap identifiers have no
// parameters (RFC 3565 §2.3.2), the HMAC ones have NULL (RFC 8018 B.1.2). Those of the
// legacy ones would say an initialization vector, and no content is encrypted here.
var algorithms = [...]struct {
	name       string
	size       int
	identifier []byte
}{
	AES128:     {"aes128", 16, algorithmIdentifier(oidAES128Wrap)},
	AES192:     {"aes192", 24, algorithmIdentifier(oidAES192Wrap)},
	AES256:     {"aes256", 32, algorithmIdentifier(oidAES256Wrap)},
	HMACSHA256: {"hmac-sha256", 32, algorithmIdentifier(oidHMACSHA256, derNULL)},
	HMACSHA384: {"hmac-sha384", 48, algorithmIdentifier(oidHMACSHA384, derNULL)},
	HMACSHA512: {"hmac-sha512", 64, algorithmIdentifier(oidHMACSHA512, derNULL)},

	RC2:       {"rc2", 0, algorithmIdentifier(oidRC2CBC)},
	RC4:       {"rc4", 0, algorithmIdentifier(oidRC4, derNULL)},
	DES:       {"des", 0, algorithmIdentifier(oidDESCBC)},
	TripleDES: {"3des", 0, algorithmIdentifier(oidDESEDE3CBC)},
}

// ParseAlgorithm is the inverse of [Algorithm.String] for the algorithms that new keys
// can have.
func ParseAlgorithm(s string) (Algorithm, error) {
	for a := AES128; a < RC2; a++ {
		if algorithms[a].name == s {
			return a, nil
		}
	}
	return 0, fmt.Errorf("unknown algorithm %q: use aes128, aes192, aes256, hmac-sha256, hmac-sha384 or hmac-sha512", s)
}

// String gives "aes128", "aes192", "aes256", "hmac-sha256", "hmac-sha384" or
// "hmac-sha512", and of the legacy ones "rc2", "rc4", "des" or "3des".
func (a Algorithm) String() string {
	if !a.valid() {
		return fmt.Sprintf("Algorithm(%d)", int(a))
	}
	return algorithms[a].name
}

// KeySize is the length of the session key in bytes. It is 0 for an unknown algorithm
// and for the legacy ones: see [Blob.KeySize].
func (a Algorithm) KeySize() int {
	if !a.valid() {
		return 0
	}
	return algorithms[a].size
}

// IsHMAC tells the algorithms that authenticate from those that encrypt.
func (a Algorithm) IsHMAC() bool { return a >= HMACSHA256 && a <= HMACSHA512 }

// IsLegacy tells the algorithms with which nothing new is encrypted.
func (a Algorithm) IsLegacy() bool { return a >= RC2 && a.valid() }

func (a Algorithm) valid() bool { return a >= AES128 && int(a) < len(algorithms) }

func algorithmFor(identifier []byte) (Algorithm, bool) {
	for a := AES128; a.valid(); a++ {
		if bytes.Equal(algorithms[a].identifier, identifier) {
			return a, true
		}
	}
	return 0, false
}
