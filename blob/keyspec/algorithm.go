package keyspec

import "fmt"

// An Algorithm is what a session key is used with, and how long it is.
type Algorithm int

// The algorithms of session keys. An HMAC key is as long as the hash (RFC 2104 §3: a shorter
// one weakens the MAC, a longer one gains nothing). The numbers are part of the stored format,
// see docs/format.md.
const (
	AES128     Algorithm = iota + 1 // 16-byte key, id-aes128-wrap
	AES192                          // 24-byte key, id-aes192-wrap
	AES256                          // 32-byte key, id-aes256-wrap
	HMACSHA256                      // 32-byte key, id-hmacWithSHA256
	HMACSHA384                      // 48-byte key, id-hmacWithSHA384
	HMACSHA512                      // 64-byte key, id-hmacWithSHA512

	// Legacy algorithms, for keys that were made elsewhere.
	RC2       // rc2CBC
	RC4       // rc4
	DES       // desCBC
	TripleDES // des-ede3-cbc, with two keys or three
)

var algorithms = [...]struct {
	name      string
	min, max  int // the smallest and the largest key, in bytes
	increment int // between two sizes of keys
}{
	AES128:     {"aes128", 16, 16, 1},
	AES192:     {"aes192", 24, 24, 1},
	AES256:     {"aes256", 32, 32, 1},
	HMACSHA256: {"hmac-sha256", 32, 32, 1},
	HMACSHA384: {"hmac-sha384", 48, 48, 1},
	HMACSHA512: {"hmac-sha512", 64, 64, 1},

	RC2:       {"rc2", 5, 16, 1},
	RC4:       {"rc4", 5, 16, 1},
	DES:       {"des", 8, 8, 1},
	TripleDES: {"3des", 16, 24, 8},
}

// ParseAlgorithm returns the algorithm whose [Algorithm.String] is s. It knows those that a new
// key can have, and no legacy ones.
func ParseAlgorithm(s string) (Algorithm, error) {
	for a := AES128; a < RC2; a++ {
		if algorithms[a].name == s {
			return a, nil
		}
	}
	return 0, fmt.Errorf("unknown algorithm %q: use aes128, aes192, aes256, hmac-sha256, hmac-sha384 or hmac-sha512", s)
}

// String returns "aes128", "aes192", "aes256", "hmac-sha256", "hmac-sha384" or "hmac-sha512",
// and for the legacy ones "rc2", "rc4", "des" or "3des".
func (a Algorithm) String() string {
	if !a.Valid() {
		return fmt.Sprintf("Algorithm(%d)", int(a))
	}
	return algorithms[a].name
}

// KeySize returns the length of a session key in bytes. It is 0 for a legacy algorithm, whose
// keys have several lengths, and for an unknown one.
func (a Algorithm) KeySize() int {
	if !a.Valid() || a.IsLegacy() {
		return 0
	}
	return algorithms[a].max
}

// HasSize reports whether a key of the algorithm can have so many bytes: [Algorithm.KeySize]; 5
// to 16 for RC2 and RC4, 8 for DES, 16 or 24 for 3DES.
func (a Algorithm) HasSize(size int) bool {
	if !a.Valid() {
		return false
	}
	is := algorithms[a]
	return size >= is.min && size <= is.max && (size-is.min)%is.increment == 0
}

// IsAES reports whether a is one of AES.
func (a Algorithm) IsAES() bool { return a >= AES128 && a <= AES256 }

// IsHMAC reports whether a key of the algorithm authenticates, and does not encrypt.
func (a Algorithm) IsHMAC() bool { return a >= HMACSHA256 && a <= HMACSHA512 }

// IsLegacy reports whether nothing new is encrypted with the algorithm.
func (a Algorithm) IsLegacy() bool { return a >= RC2 && a.Valid() }

// Valid reports whether a is one of the algorithms above.
func (a Algorithm) Valid() bool { return a >= AES128 && int(a) < len(algorithms) }
