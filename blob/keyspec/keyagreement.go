package keyspec

import "crypto/ecdh"

// A KeyAgreement is a session key wrapped with AES-256 key wrap (RFC 3394) under a key from
// ephemeral-static ECDH with the holder's EC key: KeyAgreeRecipientInfo (RFC 5652 §6.2.2, RFC
// 5753 §3.1). The key derivation is X9.63 with the hash that fits the curve: P-256 SHA-256,
// P-384 SHA-384, P-521 SHA-512; its SharedInfo is ECC-CMS-SharedInfo (RFC 5753 §7.2) without
// entityUInfo.
type KeyAgreement struct {
	Ephemeral *ecdh.PublicKey
	// EncryptedKey is 8 bytes longer than the session key, which has 16 or more.
	EncryptedKey []byte
}

// String returns "ECDH, AES-256 key wrap".
func (a *KeyAgreement) String() string { return "ECDH, AES-256 key wrap" }

func (*KeyAgreement) kindOfWrapped() {}
