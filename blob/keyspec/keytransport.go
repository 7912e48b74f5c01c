package keyspec

import "crypto"

// A KeyTransport is a session key encrypted with RSAES-OAEP (RFC 8017 §7.1) under the holder's
// RSA key: KeyTransRecipientInfo (RFC 5652 §6.2.1).
type KeyTransport struct {
	// OAEPHash is both OAEP's hash and that of its MGF1: SHA-256, or SHA-1 where a token has no
	// other. The label is empty.
	OAEPHash crypto.Hash
	// EncryptedKey is as long as the modulus, 256 to 2048 bytes.
	EncryptedKey []byte
}

// String returns "RSA-OAEP SHA-256" or "RSA-OAEP SHA-1".
func (t *KeyTransport) String() string { return "RSA-OAEP " + t.OAEPHash.String() }

func (*KeyTransport) kindOfWrapped() {}
