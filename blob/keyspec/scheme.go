package keyspec

import "fmt"

// A Scheme is a signature scheme.
type Scheme int

const (
	// RSAPSS is RSASSA-PSS with SHA-256, MGF1 with SHA-256 and a salt of 32 bytes (RFC 8017
	// §8.1, RFC 4056).
	RSAPSS Scheme = iota + 1

	// RSAPKCS1v15 is RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 §8.2), for tokens without PSS.
	RSAPKCS1v15

	// ECDSA uses the hash that fits the curve: SHA-256 for P-256, SHA-384 for P-384, SHA-512 for
	// P-521 (RFC 5753 §2.1.1). The s of a stored signature is at most half the group's order:
	// anybody can turn (r, s) into (r, n-s), and only one of the two is valid here.
	ECDSA
)

// String returns "rsa-pss", "rsa-pkcs1v15" or "ecdsa".
func (s Scheme) String() string {
	switch s {
	case RSAPSS:
		return "rsa-pss"
	case RSAPKCS1v15:
		return "rsa-pkcs1v15"
	case ECDSA:
		return "ecdsa"
	}
	return fmt.Sprintf("Scheme(%d)", int(s))
}
