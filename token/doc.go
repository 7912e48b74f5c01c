// Package token keeps keys on a PKCS #11 token.
//
// [Open] logs in to a token, trying the PIN once, and returns a [Token]. On the token lives the key
// exchange pair, a [KeyPair]: an RSA or EC pair whose private half cannot leave it. Session keys are
// in one of two states, and a key is never in both:
//
//   - In transit ([keyspec.Transit]): made by the token, or unwrapped by it, only to be wrapped to
//     public keys. Such a key is extractable, and may otherwise do no more than its confirmation and
//     check value need.
//   - In use ([keyspec.SessionKey]): unwrapped by the key exchange pair for exactly one purpose. Such
//     a key is sensitive and not extractable.
//
// Both are session objects: they are gone when they are closed, when the Token is closed, and when
// the process dies. If the token cannot hold session keys they live in locked memory of this
// process instead, see [KeyPair.Residence].
//
// What a token can do is found out from its mechanisms, from attributes and by trying, and never from
// the name of its module. A token that goes away and comes back gets new sessions with the next
// call; what was lost on the way is an [ErrLost].
//
// The package trusts the token, and nothing that reaches the token without a PIN. In particular,
// public sessions may write public objects on most tokens, so a public key, a certificate or even a
// private key object that is not CKA_PRIVATE is never trusted: the public key of the pair comes from
// the private key object, see [Token.KeyPair].
//
// An error is an [Error], whose kind is one of the Err values. What a program may want to explain to
// a person, such as which tokens there are, are its Facts; the package words no advice.
//
// PINs are overwritten after their one use, and the caller must overwrite revealed keys. The copies
// that cgo makes on the way into the module are freed and not overwritten: root on the machine can
// read them, which is not defended against.
//
// Everything here is safe for concurrent use. References to PKCS #11 are to version 2.40 of the base
// specification and its current mechanisms.
package token
