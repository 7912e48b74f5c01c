package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
)

// RSA has its bits in its name (FIPS 186-5 §5.1), EC its curve (§6.1).
const (
	RSA2048 KeyType = 2048
	RSA3072 KeyType = 3072
	RSA4096 KeyType = 4096
	P256    KeyType = 256
	P384    KeyType = 384
	P521    KeyType = 521
)

// KeyType is the kind of a key exchange pair.
type KeyType int

func (k KeyType) isEC() bool { return k == P256 || k == P384 || k == P521 }

func (k KeyType) valid() bool { return k.isEC() || k == RSA2048 || k == RSA3072 || k == RSA4096 }

// curve is that of an EC pair.
func (k KeyType) curve() elliptic.Curve {
	for _, c := range curves {
		if c.curve.Params().BitSize == int(k) {
			return c.curve
		}
	}
	return nil
}

// String gives "rsa3072" or "p256" and so on.
func (k KeyType) String() string {
	if k.isEC() {
		return fmt.Sprintf("p%d", int(k))
	}
	return fmt.Sprintf("rsa%d", int(k))
}

// keyTypeOf returns 0 for what none of them is.
func keyTypeOf(key publicKey) KeyType {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if legacyRSA(key.N) {
			return 0 // with 256, 384 or 521 bits it would look like EC
		}
		return KeyType(key.N.BitLen())
	case *ecdsa.PublicKey:
		return KeyType(key.Curve.Params().BitSize)
	}
	return 0
}
