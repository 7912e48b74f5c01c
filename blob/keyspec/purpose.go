package keyspec

import "fmt"

// A Purpose is what a session key may be used for. A key has one purpose (NIST SP 800-57
// part 1 rev. 5 §5.2), which is signed in its key blob: a key that wraps keys cannot be turned
// into one that decrypts data, which would reveal what it wrapped.
type Purpose int

const (
	// WrapKeys is the purpose of a key-wrapping key (NIST SP 800-57 part 1 rev. 5 §5.1.1), AES.
	WrapKeys Purpose = iota + 1
	// Encrypt is the purpose of a data-encryption key, AES.
	Encrypt
	// Authenticate is the purpose of a data-authentication key, HMAC.
	Authenticate
	// Decrypt is the purpose of a key of a legacy algorithm, which decrypts data that exists
	// and encrypts nothing new.
	Decrypt
)

var purposes = [...]string{WrapKeys: "wrap", Encrypt: "encrypt", Authenticate: "mac", Decrypt: "decrypt"}

// ParsePurpose returns the purpose whose [Purpose.String] is s. It knows those that a new key
// can have, and not [Decrypt].
func ParsePurpose(s string) (Purpose, error) {
	for p := WrapKeys; p < Decrypt; p++ {
		if purposes[p] == s {
			return p, nil
		}
	}
	return 0, fmt.Errorf("unknown purpose %q: use wrap, encrypt or mac", s)
}

// String returns "wrap", "encrypt", "mac" or "decrypt".
func (p Purpose) String() string {
	if !p.Valid() {
		return fmt.Sprintf("Purpose(%d)", int(p))
	}
	return purposes[p]
}

// Valid reports whether p is one of the purposes above.
func (p Purpose) Valid() bool { return p >= WrapKeys && int(p) < len(purposes) }

// Fits reports whether a key of an algorithm can have the purpose.
func (p Purpose) Fits(a Algorithm) bool {
	return p.Valid() && a.Valid() && a.IsHMAC() == (p == Authenticate) && a.IsLegacy() == (p == Decrypt)
}
