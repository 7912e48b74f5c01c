package keyspec

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
)

// ErrWrapped is the error for a wrapped key that cannot be opened: it is damaged, wrapped to another
// key, or holds another key than its confirmation belongs to.
var ErrWrapped = errors.New("wrapped key cannot be opened")

// ErrLost is the error for a token that went away while it was used. What was not stored is made
// anew.
var ErrLost = errors.New("the token went away")

// ErrClosed is the error for a key or token that was closed.
var ErrClosed = errors.New("closed")

// A SessionKey is a session key in use, wherever it lives.
type SessionKey interface {
	// Key returns what the key is.
	Key() Key
	// WrapData wraps a data key of 16 to 64 bytes, a multiple of 8, with AES key wrap (RFC
	// 3394). The result is 8 bytes longer.
	WrapData(ctx context.Context, data []byte) ([]byte, error)
	// UnwrapData undoes WrapData. The error is [ErrWrapped] if the wrapped key was not made by
	// WrapData under this key.
	UnwrapData(ctx context.Context, wrapped []byte) ([]byte, error)
	// MAC computes the HMAC of a message, with the hash of the key's algorithm.
	MAC(ctx context.Context, message []byte) ([]byte, error)
	// Residence returns where the key lives.
	Residence() Residence
	// Close destroys the key. Closing twice is no error.
	Close() error
}

// A Transit is a session key that is about to be wrapped to its holders, and is used for
// nothing else.
type Transit interface {
	// CheckValue returns the key's check value, 3 bytes, as CKA_CHECK_VALUE (PKCS #11 §4.10.2),
	// or nil where the token has none for this key.
	CheckValue(ctx context.Context) ([]byte, error)
	// Confirmation returns what the key is recognized by when it is unwrapped: the first 16
	// bytes of the SHA-256 of the output of the key for one fixed block, by its purpose: AES key wrap
	// (RFC 3394), AES in ECB mode, or HMAC. It is nil where the token does not compute it, and
	// for a legacy cipher the CheckValue: many such keys are so short that more than 3 bytes
	// would disclose the key to anybody who tries them all.
	Confirmation(ctx context.Context) ([]byte, error)
	// Wrap wraps the key to an *rsa.PublicKey of [MinRSABits] or more, with the given OAEP hash,
	// SHA-256 or SHA-1, or with SHA-1 where the token does not take SHA-256; or to an
	// *ecdsa.PublicKey on P-256, P-384 or P-521.
	Wrap(ctx context.Context, to crypto.PublicKey, hash crypto.Hash) (Wrapped, error)
	// WrapFor wraps the key to an RSA public key of [MinRSABits] or more as CryptoAPI does.
	WrapFor(ctx context.Context, to *rsa.PublicKey, how RSAES) ([]byte, error)
	// Residence returns where the key lives.
	Residence() Residence
	// Close destroys the key. Closing twice is no error.
	Close() error
}

// A Residence is where a session key lives while it is used.
type Residence string

const (
	// InToken: the key is an object of the token, and never in this process.
	InToken Residence = "token"
	// InMemory: the token decrypts or agrees, and signs; the key is in the memory of this
	// process, locked and kept out of core dumps if the system allows it, and overwritten after
	// use.
	InMemory Residence = "memory"
)

// RSAES is how CryptoAPI encrypts session keys (RFC 8017 §7).
type RSAES int

const (
	RSAESPKCS1v15 RSAES = iota + 1 // RSAES-PKCS1-v1_5
	RSAESOAEPSHA1                  // RSAES-OAEP with SHA-1 and an empty label, CRYPT_OAEP
)
