// Package keyspec has the words that a token and a key blob share: what a session key is
// ([Key], of an [Algorithm] and with a [Purpose]), how it is wrapped to a holder ([Wrapped]),
// how an object is signed ([Scheme]), and how a public key is named ([SubjectKeyID]).
//
// It neither makes nor checks anything. Package blob encodes these words as CMS, package token
// carries them out with PKCS #11, and neither has to know the other.
package keyspec
