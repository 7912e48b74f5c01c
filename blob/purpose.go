package blob

import "fmt"

// A Purpose is what a session key may be used for. One key has one purpose
// (NIST SP 800-57 Part 1 §5.2), and it is signed: a key made to wrap keys
// cannot be turned into one that encrypts data, which would be an oracle for
// what it wrapped.
type Purpose int

const (
	// WrapKeys: a key wrapping key (NIST SP 800-57 Part 1 §5.1.1), AES.
	WrapKeys Purpose = iota + 1
	// Encrypt: a data encryption key, AES.
	Encrypt
	// Authenticate: a data authentication key, HMAC.
	Authenticate
	// Decrypt: a data encryption key of a legacy algorithm, which opens what there is
	// and encrypts nothing new.
	Decrypt
)

var purposes = [...]string{WrapKeys: "wrap", Encrypt: "encrypt", Authenticate: "mac", Decrypt: "decrypt"}

// ParsePurpose is the inverse of [Purpose.String] for the purposes that new keys can
// have.
func ParsePurpose(s string) (Purpose, error) {
	for p := WrapKeys; p < Decrypt; p++ {
		if purposes[p] == s {
			return p, nil
		}
	}
	return 0, fmt.Errorf("unknown purpose %q: use wrap, encrypt or mac", s)
}

// String gives "wrap", "encrypt", "mac" or "decrypt".
func (p Purpose) String() string {
	if !p.valid() {
		return fmt.Sprintf("Purpose(%d)", int(p))
	}
	return purposes[p]
}

func (p Purpose) valid() bool { return p >= WrapKeys && int(p) < len(purposes) }

// fits checks that a key of algorithm a can serve purpose p.
func (p Purpose) fits(a Algorithm) error {
	if a.IsHMAC() != (p == Authenticate) || a.IsLegacy() != (p == Decrypt) {
		return fmt.Errorf("an %s key cannot have the purpose %q", a, p)
	}
	return nil
}
