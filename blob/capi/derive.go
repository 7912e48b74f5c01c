package capi

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"hash"
)

// DeriveKey computes the key that CryptDeriveKey makes from the hash of a password, so
// that data of that time can be opened. It has no salt and costs an attacker nothing:
// never for new keys.
//
// The key is the first bytes of the hash. With MD5 and SHA-1, 3DES and AES keys are made
// in another way, also where the hash would be long enough: the hash is XORed into 64
// bytes of 0x36 and into 64 bytes of 0x5c, both are hashed, and the key is the first
// bytes of the two hashes, one behind the other (CryptDeriveKey, remarks; [MS-OFFCRYPTO]
// §2.3.4.7 makes AES-128 keys so). Parity bits of DES keys are left as they come out.
//
// size is that of the key in bytes, needed for RC2 and RC4; 0 is the size of the others.
// An [ErrUnsupported] says that there is no such key. The caller overwrites both.
func DeriveKey(hashed, algorithm AlgID, size int, password []byte) ([]byte, error) {
	news := map[AlgID]func() hash.Hash{MD5: md5.New, SHA1: sha1.New, SHA256: sha256.New}
	newHash, ok := news[hashed]
	if !ok {
		return nil, fmt.Errorf("%w: no key is derived with %v", ErrUnsupported, hashed)
	}
	smallest, largest := algorithm.KeySizes()
	if size == 0 && smallest == largest {
		size = largest
	}
	if largest == 0 || size < smallest || size > largest {
		return nil, fmt.Errorf("%w: an %v key of %d bytes, not %d to %d", ErrUnsupported, algorithm, size, smallest, largest)
	}
	sum := func(in []byte) []byte {
		h := newHash()
		h.Write(in)
		return h.Sum(nil)
	}
	base := sum(password)
	defer clear(base)
	key := base
	if hashed != SHA256 && (!algorithm.Legacy() || algorithm == TripleDES || algorithm == TripleDES112) {
		key = append(sum(padded(0x36, base)), sum(padded(0x5c, base))...)
		defer clear(key)
	}
	if len(key) < size {
		return nil, fmt.Errorf("%w: %v gives %d bytes, and an %v key has %d", ErrUnsupported, hashed, len(key), algorithm, size)
	}
	return append([]byte(nil), key[:size]...), nil
}

// padded is 64 bytes of one value with a hash XORed into the first.
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
