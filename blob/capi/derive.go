package capi

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"math/bits"
	"slices"

	"golang.org/x/crypto/md4" //lint:ignore SA1019 it opens data of that time
)

// derivations are the hashes that keys are derived from. The older ones are expanded
// where a key asks for it; those of the SHA-2 family never are.
var derivations = map[AlgID]struct {
	new     func() hash.Hash
	expands bool
}{
	MD4: {md4.New, true}, MD5: {md5.New, true}, SHA1: {sha1.New, true},
	SHA256: {sha256.New, false}, SHA384: {sha512.New384, false}, SHA512: {sha512.New, false},
}

// DeriveKey computes the key that CryptDeriveKey makes from the hash of a password, so that data of
// that time can be opened. It has no salt and costs an attacker nothing, so it must not be used for
// new keys.
//
// The key is the first bytes of the hash. AES keys, and 3DES keys of three parts, are made from
// MD4, MD5 and SHA-1 in another way, AES-128 keys too, for which the hash would be long enough: the
// hash is XORed into 64 bytes of 0x36 and into 64 bytes of 0x5c, both are hashed, and the key is
// the first bytes of the two hashes, one after the other (CryptDeriveKey, remarks; [MS-OFFCRYPTO]
// §2.3.4.7 for AES-128). The remarks say this of all 3DES keys, but the provider does not do it for
// keys of two parts (CALG_3DES_112), for which each of these hashes is long enough.
//
// The parity bits of DES keys are left as they come out of the hash, see [SetParity].
//
// size is the size of the key in bytes; for algorithms other than RC2 and RC4 it may be 0. The
// error is an [errors.ErrUnsupported] if there is no such key. The caller must overwrite the
// password and the key.
func DeriveKey(hashed, algorithm AlgID, size int, password []byte) ([]byte, error) {
	derivation, ok := derivations[hashed]
	if !ok {
		return nil, fmt.Errorf("%w: no key is derived with %v", errUnsupported, hashed)
	}
	smallest, largest := algorithm.KeySizes()
	if size == 0 && smallest == largest {
		size = largest
	}
	if largest == 0 || size < smallest || size > largest {
		return nil, fmt.Errorf("%w: an %v key of %d bytes, not %d to %d", errUnsupported, algorithm, size, smallest, largest)
	}
	sum := func(in []byte) []byte {
		h := derivation.new()
		h.Write(in)
		return h.Sum(nil)
	}
	base := sum(password)
	defer clear(base)
	key := base
	if derivation.expands && (!algorithm.Legacy() || algorithm == TripleDES) {
		key = append(sum(padded(0x36, base)), sum(padded(0x5c, base))...)
		defer clear(key)
	}
	if len(key) < size {
		return nil, fmt.Errorf("%w: %v returns %d bytes, and an %v key has %d", errUnsupported, hashed, len(key), algorithm, size)
	}
	return slices.Clone(key[:size]), nil
}

// SetParity sets the lowest bit of each byte of a DES or 3DES key so that the byte has an
// odd number of bits set (FIPS 46-3), as keys have them that CryptExportKey exports. DES
// does not use these bits. Keys of other algorithms are left alone.
func SetParity(algorithm AlgID, key []byte) {
	if algorithm != DES && algorithm != TripleDES && algorithm != TripleDES112 {
		return
	}
	for i, b := range key {
		key[i] = b&^1 | byte(bits.OnesCount8(b&^1)+1)&1
	}
}

// padded returns 64 bytes of one value with a hash XORed into the first.
func padded(value byte, base []byte) []byte {
	out := make([]byte, 64)
	for i := range out {
		out[i] = value
		if i < len(base) {
			out[i] ^= base[i]
		}
	}
	return out
}
