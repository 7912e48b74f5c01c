// Package keyspec has the words that a token and a key blob share: what a session key is
// ([Key], of an [Algorithm] and with a [Purpose]), how it is wrapped to a holder ([Wrapped]),
// how an object is signed ([Scheme]), and how a public key is named ([SubjectKeyID]).
//
// It has no cryptography of its own. [SessionKey] and [Transit] are the interfaces by which
// session keys are used and wrapped, so that a key exchange pair can be something else than an
// object on a PKCS #11 token. Package blob encodes these words as CMS, package token
// carries them out with PKCS #11, and neither has to know the other.
package keyspec
