// Package token keeps keys where they belong: on a PKCS #11 token.
//
// [Open] logs in to a token once, with one PIN try, and gives a [Token]. On it
// lives the key exchange pair ([KeyPair]): an RSA or EC pair that cannot leave. Session keys pass through two states, and a key is never in
// both:
//
//   - In transit ([Transit]): made by the token, or unwrapped by it, for no
//     other purpose than to be wrapped to public keys. It is extractable, and
//     may do nothing else but, where the token has no check value for it, encrypt
//     one block of zeros.
//   - In use ([SessionKey]): unwrapped by the key exchange pair for exactly one
//     use. It is sensitive and not extractable.
//
// Both are session objects: they are gone when they are closed, when the Token
// is closed, and when the process dies. Where the token can hold no session keys they
// live in locked memory of this process instead, see [KeyPair.Residence].
//
// What a token can do is found out from its mechanisms, from attributes and by trying.
// Nothing here asks which module it is. A token that goes away and comes back gets new
// sessions with the next call; what was lost on the way is an [ErrLost].
//
// The package trusts the token and nothing that reaches the token without a
// PIN. In particular, public sessions may write public objects on most tokens,
// so a public key, a certificate or even a private key object that is not
// CKA_PRIVATE is never believed: the public key of the pair is read from the
// private key object, see [Token.KeyPair].
//
// PINs are overwritten after their one use, and revealed keys are the caller's to
// overwrite. The copies that cgo makes on its way into the module are freed and
// not overwritten: root on the machine can read them, and is not defended against.
//
// Everything here is safe for concurrent use. References to PKCS #11 are to
// version 2.40 of the base specification and its current mechanisms.
package token
