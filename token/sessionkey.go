package token

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"

	"github.com/miekg/pkcs11"
)

// Use is the one thing that a session key may do (NIST SP 800-57 part 1 §5.2: a
// key is used for one purpose).
type Use int

const (
	WrapKeys     Use = iota + 1 // AES: wraps and unwraps data keys
	EncryptData                 // AES: encrypts and decrypts data
	Authenticate                // generic secret: HMAC

	// Legacy ciphers, for data that is there: see [Use.IsLegacy].
	DecryptRC2
	DecryptRC4
	DecryptDES
	Decrypt3DES // with two keys or three
)

// IsLegacy tells the keys of legacy ciphers. Nothing here decrypts with them: they can
// be wrapped, loaded for other applications, which may then decrypt and not encrypt, and
// revealed.
func (u Use) IsLegacy() bool { return u >= DecryptRC2 && u <= Decrypt3DES }

// Spec is what a session key is: its use, which settles its type, and its size
// in bytes: 16, 24 or 32 for AES; 32, 48 or 64 for HMAC with SHA-256, SHA-384 or
// SHA-512, as long as the hash (RFC 2104 §3); 5 to 16 for RC2 and RC4, 8 for DES, 16 or
// 24 for 3DES.
type Spec struct {
	Use  Use
	Size int
}

func (s Spec) check() error {
	switch {
	case s.Use == WrapKeys || s.Use == EncryptData:
		if s.Size == 16 || s.Size == 24 || s.Size == 32 {
			return nil
		}
	case s.Use == Authenticate:
		if s.Size == 32 || s.Size == 48 || s.Size == 64 {
			return nil
		}
	case s.Use == DecryptRC2 || s.Use == DecryptRC4:
		if s.Size >= 5 && s.Size <= 16 {
			return nil
		}
	case s.Use == DecryptDES && s.Size == 8, s.Use == Decrypt3DES && (s.Size == 16 || s.Size == 24):
		return nil
	}
	return fmt.Errorf("no session key has use %d and %d bytes", s.Use, s.Size)
}

// keyType is that of the key on its way and, but for legacy ciphers, in use.
func (s Spec) keyType() uint {
	if s.Use == WrapKeys || s.Use == EncryptData {
		return pkcs11.CKK_AES
	}
	return pkcs11.CKK_GENERIC_SECRET
}

// loadedType is the key type that other applications find.
func (s Spec) loadedType() uint {
	switch {
	case s.Use == DecryptRC2:
		return pkcs11.CKK_RC2
	case s.Use == DecryptRC4:
		return pkcs11.CKK_RC4
	case s.Use == DecryptDES:
		return pkcs11.CKK_DES
	case s.Use == Decrypt3DES && s.Size == 16:
		return pkcs11.CKK_DES2
	case s.Use == Decrypt3DES:
		return pkcs11.CKK_DES3
	}
	return s.keyType()
}

// WrapsTo says whether such a key can be wrapped to a public key at all: to EC it is
// wrapped with AES key wrap, which takes 16 bytes or more (RFC 3394 §2), and some keys of
// legacy ciphers are shorter.
func (s Spec) WrapsTo(key crypto.PublicKey) bool {
	_, isEC := key.(*ecdsa.PublicKey)
	return !isEC || s.wrapsInAES()
}

func (s Spec) wrapsInAES() bool { return s.Size >= 16 && s.Size%8 == 0 }

func (s Spec) generator() uint {
	if s.Use == Authenticate {
		return pkcs11.CKM_GENERIC_SECRET_KEY_GEN
	}
	return pkcs11.CKM_AES_KEY_GEN
}

// Wrapped is a session key wrapped to a public key.
//
// To RSA with RSAES-OAEP, empty label, MGF1 with the same hash (RFC 8017 §7.1); to EC
// with AES-256 key wrap under a key from ephemeral-static ECDH (RFC 5753 §3.1), see
// [KeyPair.Unwrap].
type Wrapped struct {
	Hash      crypto.Hash     // RSA: SHA-256, or SHA-1 where a token can do no better
	Ephemeral *ecdh.PublicKey // EC: the sender's; nil for RSA
	Key       []byte          // RSA: as long as the modulus; EC: 8 bytes longer than the session key

	// Confirmation is that of the key that was wrapped, see [Transit], or nil where it
	// is not known. Whatever unwraps the key compares: another key is an [ErrWrapped].
	Confirmation []byte

	pkcs1v15 bool // RSA: from software that knows no OAEP, see [KeyPair.UnwrapRSAES]
}

// rsaes is the mechanism by which an RSA pair opens it.
func (w Wrapped) rsaes() []*pkcs11.Mechanism {
	if w.pkcs1v15 {
		return mechanism(pkcs11.CKM_RSA_PKCS, nil)
	}
	return oaep(w.Hash)
}

// SessionKey is a session key in use, wherever it lives.
type SessionKey interface {
	Spec() Spec
	// WrapData wraps a data key of 16 to 64 bytes, a multiple of 8, with AES key
	// wrap (RFC 3394). The result is 8 bytes longer.
	WrapData(ctx context.Context, data []byte) ([]byte, error)
	// UnwrapData undoes WrapData. Its error is ErrWrapped when the wrapped key
	// was not made by WrapData under this key.
	UnwrapData(ctx context.Context, wrapped []byte) ([]byte, error)
	// MAC computes the HMAC of a message, with the hash that Spec's size stands for.
	MAC(ctx context.Context, message []byte) ([]byte, error)
	// Residence tells where the key lives.
	Residence() Residence
	// Close destroys the key. Closing twice is no error.
	Close() error
}

// Transit is a session key that is here to be wrapped, see the package's
// documentation.
type Transit interface {
	// CheckValue is the key's check value, 3 bytes, as CKA_CHECK_VALUE (PKCS #11
	// §4.10.2), or nil where the token has none for this key.
	CheckValue(ctx context.Context) ([]byte, error)
	// Confirmation is what the key is recognized by when it is unwrapped: the first 16
	// bytes of the SHA-256 of what it makes of one fixed block, by its use: AES key wrap
	// (RFC 3394), AES in ECB mode, or HMAC. It is nil where the token does not compute it,
	// and for a legacy cipher the CheckValue: many such keys are so short that more than
	// 3 bytes would tell the key to whoever tries them all.
	Confirmation(ctx context.Context) ([]byte, error)
	// Wrap wraps the key to an *rsa.PublicKey of 2048 bits or more, with the given
	// OAEP hash, SHA-256 or SHA-1, or with SHA-1 where the token does not take
	// SHA-256; or to an *ecdsa.PublicKey on P-256, P-384 or P-521.
	Wrap(ctx context.Context, to crypto.PublicKey, hash crypto.Hash) (Wrapped, error)
	// WrapFor wraps the key to an RSA public key of 2048 bits or more as CryptoAPI does.
	WrapFor(ctx context.Context, to *rsa.PublicKey, how RSAES) ([]byte, error)
	// Residence tells where the key lives.
	Residence() Residence
	// Close destroys the key. Closing twice is no error.
	Close() error
}
