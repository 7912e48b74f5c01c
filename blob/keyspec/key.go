package keyspec

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"
)

// A Key describes a session key: its algorithm, its purpose and its size.
type Key struct {
	Algorithm Algorithm
	Purpose   Purpose
	Size      int // in bytes; one of the algorithm's, see [Algorithm.HasSize]
}

// Check returns an error if no session key is such a key: if the purpose does not fit the
// algorithm, or the algorithm has no keys of that size.
func (k Key) Check() error {
	switch {
	case !k.Algorithm.Valid():
		return fmt.Errorf("a session key of unknown algorithm %d", int(k.Algorithm))
	case !k.Purpose.Fits(k.Algorithm):
		return fmt.Errorf("an %v key with purpose %v", k.Algorithm, k.Purpose)
	case !k.Algorithm.HasSize(k.Size):
		return fmt.Errorf("an %v key of %d bytes", k.Algorithm, k.Size)
	}
	return nil
}

// WrapsTo reports whether the key can be wrapped to a public key: to EC it is wrapped with
// AES key wrap ([Key.WrapsInAES]), and some keys of legacy ciphers are too short for that. It
// is false for public keys that are neither RSA nor EC.
func (k Key) WrapsTo(pub crypto.PublicKey) bool {
	wraps, err := MatchPublic(pub,
		func(*rsa.PublicKey) bool { return true },
		func(*ecdsa.PublicKey) bool { return k.WrapsInAES() })
	return wraps && err == nil
}

// WrapsInAES reports whether AES key wrap takes the key: its length is a multiple of 8, and 16
// bytes or more (RFC 3394 §2).
func (k Key) WrapsInAES() bool { return k.Size >= 16 && k.Size%8 == 0 }
