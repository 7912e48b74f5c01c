package token

import (
	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// keyType returns the CKA_KEY_TYPE of a session key in transit and, but for legacy ciphers, in
// use.
func keyType(spec keyspec.Key) uint {
	switch spec.Purpose {
	case keyspec.WrapKeys, keyspec.Encrypt:
		return pkcs11.CKK_AES
	}
	return pkcs11.CKK_GENERIC_SECRET
}

// loadedType returns the CKA_KEY_TYPE that other applications find.
func loadedType(spec keyspec.Key) uint {
	switch {
	case spec.Algorithm == keyspec.RC2:
		return pkcs11.CKK_RC2
	case spec.Algorithm == keyspec.RC4:
		return pkcs11.CKK_RC4
	case spec.Algorithm == keyspec.DES:
		return pkcs11.CKK_DES
	case spec.Algorithm == keyspec.TripleDES && spec.Size == 16:
		return pkcs11.CKK_DES2
	case spec.Algorithm == keyspec.TripleDES:
		return pkcs11.CKK_DES3
	}
	return keyType(spec)
}

// generator returns the mechanism that makes a session key.
func generator(spec keyspec.Key) uint {
	if keyType(spec) == pkcs11.CKK_AES {
		return pkcs11.CKM_AES_KEY_GEN
	}
	return pkcs11.CKM_GENERIC_SECRET_KEY_GEN
}
