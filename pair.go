package hsmkeys

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/x509"
	"fmt"
	"io"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token"
	"github.com/hsmkeys/hsmkeys/token/softpair"
)

// A Pair is a key exchange pair: whoever holds its private half can open what is wrapped to its
// public half, and sign. The private half stays where it is, so a Pair can be one on a PKCS #11
// token ([token.KeyPair]), in memory ([softpair.Pair]), or behind a network.
//
// All methods may be called by several goroutines at once.
type Pair interface {
	// Public returns the public key: an [*rsa.PublicKey] of [keyspec.MinRSABits] or more, or an
	// [*ecdsa.PublicKey] on P-256, P-384 or P-521.
	Public() crypto.PublicKey

	// Signer returns the key that signs for the pair, which is the pair's own unless that may
	// not sign, and the scheme of its signatures.
	Signer() (crypto.Signer, keyspec.Scheme)

	// Random returns a cryptographic random number generator.
	Random() (io.Reader, error)

	// Records returns where the pair keeps small private values, or nil if it keeps none.
	Records() keyspec.Records

	// Residence returns where the session keys of the pair live while they are used.
	Residence(context.Context) (keyspec.Residence, error)

	// Check returns an error if the pair cannot be used at the moment, such as a [keyspec.ErrLost].
	Check(context.Context) error

	// CheckOpens returns an error if the pair opens nothing that is wrapped to it.
	CheckOpens(context.Context) error

	// CheckComputed returns an error if the pair does not take session keys that were computed
	// elsewhere.
	CheckComputed() error

	// Generate makes a session key.
	Generate(context.Context, keyspec.Key) (keyspec.Transit, error)

	// Unwrap unwraps a session key for its purpose. The error is [keyspec.ErrWrapped] if the key
	// is not wrapped to this pair, damaged, or not the one that its confirmation belongs to.
	Unwrap(context.Context, keyspec.WrappedKey) (keyspec.SessionKey, error)

	// UnwrapTransit unwraps a session key so that it can be wrapped to others.
	UnwrapTransit(context.Context, keyspec.WrappedKey) (keyspec.Transit, error)

	// Reveal unwraps a session key and returns its value, which the caller must overwrite.
	Reveal(context.Context, keyspec.WrappedKey) ([]byte, error)

	// Use returns a session key with a value that was computed elsewhere. The caller must
	// overwrite the value.
	Use(ctx context.Context, key keyspec.Key, value []byte) (keyspec.SessionKey, error)

	// ReadBack unwraps a session key that was wrapped to the pair, and compares it with the
	// original. The error is [keyspec.ErrWrapped] if it is another one.
	ReadBack(ctx context.Context, original keyspec.Transit, wrapped keyspec.WrappedKey) error

	// Rehearse does with a wrapped session key what a recovery does, and keeps nothing.
	Rehearse(context.Context, keyspec.WrappedKey) error
}

// A Certifier is a [Pair] that can get certificates, which [Init] needs.
type Certifier interface {
	// Certificate returns the certificate that the pair has signed itself, or nil.
	Certificate(context.Context) (*x509.Certificate, error)

	// IssuedCertificate returns a certificate that somebody else has issued for the pair, or nil.
	IssuedCertificate(context.Context) (*x509.Certificate, error)

	// SigningCertificate returns the certificate of the key that signs for the pair, or nil for
	// a pair that signs itself.
	SigningCertificate(context.Context) (*x509.Certificate, error)

	// Certify makes and keeps a certificate that the pair signs itself.
	Certify(ctx context.Context, commonName string) (*x509.Certificate, error)

	// TakesOAEP reports whether the pair opens what is wrapped to it with OAEP and a hash.
	TakesOAEP(context.Context, crypto.Hash) (bool, error)
}

// A Loader is a [Pair] that can put session keys where other applications use them.
type Loader interface {
	// Load unwraps a session key into an object for other applications, unless another object
	// has the label, whose id is none of those in beside.
	Load(ctx context.Context, wrapped keyspec.WrappedKey, label string, id []byte, beside ...[]byte) error

	// LoadValue is Load for a session key with a value that was computed elsewhere.
	LoadValue(ctx context.Context, key keyspec.Key, value []byte, label string, id []byte, beside ...[]byte) error

	// Loaded returns the secret keys that other applications can use.
	Loaded(context.Context) ([]token.Loaded, error)

	// Unload deletes one of them.
	Unload(context.Context, token.Loaded) error
}

// A Decrypter is a [Pair] that opens what others encrypt to its public key without a keyring: age
// files to the pair, and the session keys of CryptoAPI.
type Decrypter interface {
	Public() crypto.PublicKey

	// Decrypt decrypts RSAES-OAEP with an empty label (RFC 8017 §7.1). The caller must overwrite
	// the result.
	Decrypt(ctx context.Context, ciphertext []byte, hash crypto.Hash) ([]byte, error)

	// ECDH agrees with a public key on the pair's curve. The caller must overwrite the secret.
	ECDH(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error)

	// UnwrapRSAES unwraps a session key that CryptoAPI has encrypted. Whatever is wrong with it,
	// the error is the same, see [token.KeyPair.UnwrapRSAES].
	UnwrapRSAES(ctx context.Context, key keyspec.Key, encrypted []byte, how keyspec.RSAES) (keyspec.Transit, error)
}

var (
	_ interface {
		Pair
		Certifier
		Loader
		Decrypter
	} = (*token.KeyPair)(nil)

	_ interface {
		Pair
		Certifier
	} = (*softpair.Pair)(nil)
)

// signerOf returns how a pair signs, under the identifier that the first certificate that is not
// nil has for its signing key.
func signerOf(pair Pair, certificates ...*x509.Certificate) blob.Signer {
	key, scheme := pair.Signer()
	s := blob.Signer{Key: key, Scheme: scheme}
	for _, c := range certificates {
		if c != nil {
			s.ID, _ = blob.Identifier(c) // or that of the key
			break
		}
	}
	return s
}

// nonce returns 16 random bytes of the pair at each call.
func nonce(pair Pair) ledger.Nonce {
	return func() ([16]byte, error) {
		id, err := randomID(pair)
		return id, err
	}
}

// randomID returns 16 bytes of the pair's random number generator.
func randomID(pair Pair) (blob.ID, error) {
	var id blob.ID
	random, err := pair.Random()
	if err != nil {
		return id, err
	}
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return id, fmt.Errorf("get random bytes from the token: %w", err)
	}
	return id, nil
}
