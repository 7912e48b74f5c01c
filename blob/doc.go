// Package blob serialises, signs and verifies key blobs and the other objects of a keyring,
// and says what a [Store] of them has to do.
//
// A key blob is a session key wrapped to the key exchange public keys of its
// holders and signed by one of them. It is standard CMS (RFC 5652): a
// SignedData around an EnvelopedData whose content-encryption key is the
// session key and whose content is absent, so that stock OpenSSL can verify
// and open it when this program is gone. docs/format.md has the ASN.1.
//
// # Storage is never trusted
//
// Whoever can write to the storage can put a key of their own, wrapped to our
// public key, in place of ours, and wait for us to encrypt under it. The
// signature stops that, and the types make it impossible to forget: [Parse]
// returns an [*Unverified], which can say who claims to have signed it and
// nothing more. Only [Unverified.Verify], given the parties to trust and
// the place where the bytes were found, returns a [*Blob], and only a [*Blob]
// has the wrapped key.
//
//	unverified, err := blob.Parse(der)
//	...
//	b, err := unverified.Verify(trusted, blob.Place{
//		KeyringID: keyring, Name: "payroll", Version: 1, Revision: 1,
//	})
//	...
//	r, ok := b.Recipient(ourIdentifier)
//
// The state of a keyring is signed in the same way: [SignCheckpoint],
// [ParseCheckpoint]; and so is what a holder says that its token has unwrapped:
// [SignProof], [ParseProof]. A list of members is not signed: a checkpoint has its
// SHA-256.
//
// # Who signs what
//
// An owner signs blobs and checkpoints; a backup authority signs, after the loss of
// an owner's token, the checkpoint that introduces a list with a [Recovery], and the
// blobs that say so. This package verifies each object for itself; that its signer
// was entitled to it is for the caller to check, who knows the lists. docs/format.md
// has the rules.
//
// # One encoding
//
// Every object has exactly one encoding. What is read must be DER with sorted
// sets and algorithms from a closed list; it is encoded again and compared
// byte by byte; ECDSA signatures must have a low S. Nobody without the signing
// key can make a second valid blob out of a first one, and a digest of the
// bytes names an object. What names the signer is not signed: a caller that
// trusts one key under two identifiers accepts a blob under either.
//
// # Errors
//
// Everything that is wrong with bytes from the storage is an [ErrIntegrity].
// A [Store] has [ErrExists], [ErrNotFound] and [ErrName] beside it; all other
// errors keep the cause that the operating system gave.
//
// # Signing
//
// Signing is a [crypto.Signer], which normally stands for a key on a token.
// What it returns is verified before it counts: a token that signs wrongly
// must not go unnoticed until the day the blob is needed.
package blob
