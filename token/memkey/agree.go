package memkey

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Key agreement as in CMS: ephemeral-static ECDH, the X9.63 key derivation function with the hash of
// the curve, AES-256 key wrap (RFC 5753 §3.1 and §7.1.4: dhSinglePass-stdDH-sha256kdf-scheme and its
// siblings).

// SharedInfo is the DER of ECC-CMS-SharedInfo (RFC 5753 §7.2): id-aes256-wrap, no
// entityUInfo, and the length of the key-encryption key, 256 bits.
var SharedInfo = []byte{
	0x30, 0x15, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2d,
	0xa2, 0x06, 0x04, 0x04, 0x00, 0x00, 0x01, 0x00,
}

// KEKSize is the size of the key-encryption key in bytes.
const KEKSize = 32

// Agree makes an ephemeral key and agrees with a public key on a secret. The caller must
// overwrite it.
func Agree(to *ecdsa.PublicKey) (ephemeral *ecdh.PublicKey, secret []byte, err error) {
	public, err := to.ECDH()
	if err != nil {
		return nil, nil, err
	}
	own, err := public.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	secret, err = own.ECDH(public)
	return own.PublicKey(), secret, err
}

// AgreeKEK agrees with a public key on a key-encryption key. The caller must overwrite it.
func AgreeKEK(to *ecdsa.PublicKey) (ephemeral *ecdh.PublicKey, kek []byte, err error) {
	ephemeral, secret, err := Agree(to)
	if err != nil {
		return nil, nil, err
	}
	defer clear(secret)
	kek, err = DeriveKEK(ephemeral.Curve(), secret)
	return ephemeral, kek, err
}

// kdfHashes has the hash of the key derivation for each curve (RFC 5753 §2.1.1).
var kdfHashes = map[ecdh.Curve]crypto.Hash{ecdh.P256(): crypto.SHA256, ecdh.P384(): crypto.SHA384, ecdh.P521(): crypto.SHA512}

// DeriveKEK is the X9.63 key derivation function (SEC 1 §3.6.1). One block of each hash is long
// enough.
func DeriveKEK(curve ecdh.Curve, secret []byte) ([]byte, error) {
	hash, ok := kdfHashes[curve]
	if !ok {
		return nil, fmt.Errorf("%w: curve %v", errors.ErrUnsupported, curve)
	}
	h := hash.New()
	defer wipe(h) // it still holds the secret
	h.Write(secret)
	h.Write([]byte{0, 0, 0, 1})
	h.Write(SharedInfo)
	return h.Sum(nil)[:KEKSize], nil
}

// WrapEC wraps a session key's value to an EC public key in this process.
func WrapEC(to *ecdsa.PublicKey, value []byte) (*keyspec.KeyAgreement, error) {
	ephemeral, kek, err := AgreeKEK(to)
	if err != nil {
		return nil, err
	}
	defer clear(kek)
	wrapped, err := KeyWrap(kek, value)
	return &keyspec.KeyAgreement{Ephemeral: ephemeral, EncryptedKey: wrapped}, err
}

// ShortForEC returns the error for a key of a legacy cipher that is too short to be wrapped to
// EC.
func ShortForEC(spec keyspec.Key) error {
	return fmt.Errorf("a key of %d bytes cannot be wrapped to an EC pair: AES key wrap takes 16 bytes or more", spec.Size)
}
