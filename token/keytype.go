package token

import (
	"crypto"
	"crypto/elliptic"
	"fmt"
)

// A KeyType is the kind of a key exchange pair.
type KeyType int

// RSA by the size of its modulus in bits (FIPS 186-5 §5.1), EC by its curve (§6.1).
const (
	RSA2048 KeyType = 2048
	RSA3072 KeyType = 3072
	RSA4096 KeyType = 4096
	P256    KeyType = 256
	P384    KeyType = 384
	P521    KeyType = 521
)

var keyTypes = map[KeyType]struct {
	name  string
	maker pairMaker
}{
	RSA2048: {"rsa2048", rsaMaker(2048)},
	RSA3072: {"rsa3072", rsaMaker(3072)},
	RSA4096: {"rsa4096", rsaMaker(4096)},
	P256:    {"p256", ecMaker{elliptic.P256()}},
	P384:    {"p384", ecMaker{elliptic.P384()}},
	P521:    {"p521", ecMaker{elliptic.P521()}},
}

func (k KeyType) valid() bool {
	_, ok := keyTypes[k]
	return ok
}

func (k KeyType) maker() pairMaker { return keyTypes[k].maker }

// String returns "rsa3072" or "p256" and so on.
func (k KeyType) String() string {
	if !k.valid() {
		return fmt.Sprintf("KeyType(%d)", int(k))
	}
	return keyTypes[k].name
}

// keyTypeOf returns the KeyType of a public key, or 0 if it has none.
func keyTypeOf(key crypto.PublicKey) KeyType {
	kind, err := kindOf(key)
	if err != nil {
		return 0
	}
	return kind.keyType()
}
