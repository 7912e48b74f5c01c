package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// A pairKind is a public key with all that differs between the kinds of key exchange pairs. A new
// kind is one more type, beside rsaPair and ecPair; [wrappedKey] and [pairMaker] are its other
// sides.
type pairKind interface {
	keyType() KeyType                        // 0 for one that is not made here
	objectType() uint                        // CKA_KEY_TYPE
	check() error                            // refuses what nothing here can use
	values() ([]*pkcs11.Attribute, error)    // the numbers of the public key, to make an object of
	finds(modulus []byte) *pkcs11.Attribute  // finds public halves; modulus is in the token's own form, or nil
	scheme(Mechanisms) keyspec.Scheme        // the best that the token has
	usage() x509.KeyUsage                    // of a pair that opens session keys (RFC 5280 §4.2.1.3)
	certifies() x509.SignatureAlgorithm      // by which the pair signs certificates
	oaepHashes() []crypto.Hash               // to try with the token, the best first; 0 for none
	mayNotOpen(privateKey) string            // by which attribute the pair opens nothing, or ""
	whyMemory(privateKey, Mechanisms) string // that the token cannot hold session keys, or ""

	// signMechanism returns the mechanism, and what the token is handed.
	signMechanism(hash crypto.Hash, digest []byte, opts crypto.SignerOpts) ([]*pkcs11.Mechanism, []byte, error)
	// signature returns a signature of the token in the form of [crypto.Signer].
	signature(raw []byte) ([]byte, error)
	verifies(digest, signature []byte, opts crypto.SignerOpts) bool
	// opens reports whether the private key of p opens what is encrypted to the public key here:
	// then one is the other's.
	opens(ctx context.Context, p *KeyPair, secret []byte) (bool, error)
}

func kindOf(key crypto.PublicKey) (pairKind, error) {
	return keyspec.MatchPublic(key,
		func(key *rsa.PublicKey) pairKind { return rsaPair{key} },
		func(key *ecdsa.PublicKey) pairKind { return ecPair{key} })
}

// kind returns the kind of the pair. Its public key is of one: see checkPublic.
func (p *KeyPair) kind() pairKind {
	kind, _ := kindOf(p.public)
	return kind
}

// A pairMaker makes pairs of a [KeyType].
type pairMaker interface {
	// missing returns which mechanisms the token lacks, or nil.
	missing(Mechanisms) error
	// attributes returns what the templates of such a pair have beside those of all pairs.
	attributes() (public, private []*pkcs11.Attribute)
	// mechanism returns how the pair is made, and the attribute that says of what kind.
	mechanism() (uint, *pkcs11.Attribute, error)
	// generateNamed has crypto11 make the pair.
	generate(c11 *crypto11Context, public, private []*pkcs11.Attribute) error
}
