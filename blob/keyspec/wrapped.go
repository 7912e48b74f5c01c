package keyspec

import "fmt"

// A Wrapped is a session key wrapped to the public key of a holder: a [*KeyTransport] or a
// [*KeyAgreement], and nothing else. Use [Match] to tell them apart.
type Wrapped interface {
	// String returns how the key is wrapped, for people: "RSA-OAEP SHA-256".
	fmt.Stringer
	kindOfWrapped() // closes the set
}

// Match calls the function for the kind of w, and returns its result. A new kind is a new
// argument, and the compiler names the callers that lack it. Match panics if w is nil.
func Match[T any](w Wrapped, transport func(*KeyTransport) T, agreement func(*KeyAgreement) T) T {
	switch w := w.(type) {
	case *KeyTransport:
		return transport(w)
	case *KeyAgreement:
		return agreement(w)
	}
	panic(fmt.Sprintf("keyspec: a wrapped key of type %T", w))
}

// A WrappedKey is all that is needed to unwrap a session key.
type WrappedKey struct {
	Key     Key
	Wrapped Wrapped
	// Confirmation is that of the key that was wrapped, see [Transit], or nil where it is not
	// known. Whatever unwraps the key compares it: another key is an [ErrWrapped].
	Confirmation []byte
}
