package capi

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// A SimpleBlob is a session key encrypted under an RSA key exchange key: PUBLICKEYSTRUC, the ALG_ID
// of that key, and the ciphertext. It does not name the key, nor PKCS #1 v1.5 or OAEP, nor the
// effective length of an RC2 key, nor the salt of an RC4 key.
type SimpleBlob struct {
	Algorithm    AlgID  // of the session key
	EncryptedKey []byte // big-endian, as RSA has it: as long as the modulus, 64 to 2048 bytes
}

const minModulus, maxModulus = 512 / 8, keyspec.MaxRSABits / 8

// ParseSimpleBlob reads a SIMPLEBLOB. The error is an [ErrMalformed] or an
// [errors.ErrUnsupported].
func ParseSimpleBlob(data []byte) (SimpleBlob, error) {
	r, algorithm := parse(data, simpleBlob)
	if wrapping := AlgID(r.uint32("SIMPLEBLOB.algid")); r.err == nil && wrapping != RSAKeyX {
		r.fail(errUnsupported, "the key is encrypted with %v, not with %v", wrapping, RSAKeyX)
	}
	b := SimpleBlob{algorithm, reversed(r.in)}
	if r.err == nil {
		r.err = b.check()
	}
	if r.err != nil {
		return SimpleBlob{}, r.err
	}
	return b, nil
}

func (b SimpleBlob) check() error {
	if _, largest := b.Algorithm.KeySizes(); largest == 0 {
		return fmt.Errorf("%w: %v is no algorithm of a session key", errUnsupported, b.Algorithm)
	}
	if n := len(b.EncryptedKey); n < minModulus || n > maxModulus {
		return fmt.Errorf("%w: an encrypted key of %d bytes, not %d to %d", ErrMalformed, n, minModulus, maxModulus)
	}
	return nil
}

// Marshal is the inverse of [ParseSimpleBlob].
func (b SimpleBlob) Marshal() ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	out := binary.LittleEndian.AppendUint32(header(simpleBlob, b.Algorithm), uint32(RSAKeyX))
	return append(out, reversed(b.EncryptedKey)...), nil
}

// A PlaintextKey is a session key in the clear: a PLAINTEXTKEYBLOB.
type PlaintextKey struct {
	Algorithm AlgID
	Key       []byte // the caller overwrites it
}

// ParsePlaintextKeyBlob reads a PLAINTEXTKEYBLOB. The error is an [ErrMalformed] or an
// [errors.ErrUnsupported].
func ParsePlaintextKeyBlob(data []byte) (PlaintextKey, error) {
	r, algorithm := parse(data, plaintextKeyBlob)
	size := r.uint32("PLAINTEXTKEYBLOB.dwKeySize")
	if r.err == nil && int64(size) != int64(len(r.in)) {
		r.fail(ErrMalformed, "PLAINTEXTKEYBLOB.dwKeySize is %d, and %d bytes follow", size, len(r.in))
	}
	k := PlaintextKey{algorithm, r.in}
	if r.err == nil {
		r.err = k.check()
	}
	if r.err != nil {
		return PlaintextKey{}, r.err
	}
	k.Key = slices.Clone(k.Key)
	return k, nil
}

func (k PlaintextKey) check() error {
	smallest, largest := k.Algorithm.KeySizes()
	if largest == 0 {
		return fmt.Errorf("%w: %v is no algorithm of a session key", errUnsupported, k.Algorithm)
	}
	if n := len(k.Key); n < smallest || n > largest {
		return fmt.Errorf("%w: an %v key of %d bytes, not %d to %d", ErrMalformed, k.Algorithm, n, smallest, largest)
	}
	return nil
}

// Marshal is the inverse of [ParsePlaintextKeyBlob]. The caller must overwrite the result.
func (k PlaintextKey) Marshal() ([]byte, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	out := binary.LittleEndian.AppendUint32(header(plaintextKeyBlob, k.Algorithm), uint32(len(k.Key)))
	return append(out, k.Key...), nil
}
