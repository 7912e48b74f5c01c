// Package capi reads and writes the key BLOBs of Microsoft's CryptoAPI (wincrypt.h, and
// in the documentation of Windows PUBLICKEYSTRUC, RSAPUBKEY and "Base Provider Key
// BLOBs"), for people who bring keys from Windows, and computes the keys that
// CryptDeriveKey makes from passwords.
//
// All integers are little-endian, and so are the big numbers and ciphertexts of RSA; this package
// turns these around. Only the one encoding of a value is accepted: nothing may follow it, and no
// field may contradict another.
//
// Nothing here decrypts or touches a token. These formats are as safe as was thought enough in
// their time: none of them is signed.
package capi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

var (
	// ErrMalformed means that the bytes are not one whole BLOB, or its fields contradict each
	// other.
	ErrMalformed = errors.New("malformed CryptoAPI key BLOB")
	// errUnsupported is an [errors.ErrUnsupported]: a type, a version or an algorithm that is not
	// read here.
	errUnsupported = keyspec.NewKind("unsupported CryptoAPI key BLOB", errors.ErrUnsupported)
)

// MaxSize bounds what is parsed, in bytes.
const MaxSize = 64 << 10

// AlgID is an ALG_ID.
type AlgID uint32

// The ALG_IDs that are known here, with their names in wincrypt.h.
const (
	MD4          AlgID = 0x8002 // CALG_MD4
	MD5          AlgID = 0x8003 // CALG_MD5
	SHA1         AlgID = 0x8004 // CALG_SHA1
	SHA256       AlgID = 0x800c // CALG_SHA_256
	SHA384       AlgID = 0x800d // CALG_SHA_384
	SHA512       AlgID = 0x800e // CALG_SHA_512
	RSASign      AlgID = 0x2400 // CALG_RSA_SIGN
	RSAKeyX      AlgID = 0xa400 // CALG_RSA_KEYX
	DES          AlgID = 0x6601 // CALG_DES
	RC2          AlgID = 0x6602 // CALG_RC2
	TripleDES    AlgID = 0x6603 // CALG_3DES
	TripleDES112 AlgID = 0x6609 // CALG_3DES_112, two keys
	AES128       AlgID = 0x660e // CALG_AES_128
	AES192       AlgID = 0x660f // CALG_AES_192
	AES256       AlgID = 0x6610 // CALG_AES_256
	RC4          AlgID = 0x6801 // CALG_RC4
)

var algorithms = []struct {
	id       AlgID
	name     string
	min, max int // key size in bytes; 0 for what is no session key
}{
	{RC2, "rc2", 5, 16}, {RC4, "rc4", 5, 16}, {DES, "des", 8, 8}, {TripleDES, "3des", 24, 24}, {TripleDES112, "3des-112", 16, 16},
	{AES128, "aes128", 16, 16}, {AES192, "aes192", 24, 24}, {AES256, "aes256", 32, 32},
	{MD4, "md4", 0, 0}, {MD5, "md5", 0, 0}, {SHA1, "sha1", 0, 0},
	{SHA256, "sha256", 0, 0}, {SHA384, "sha384", 0, 0}, {SHA512, "sha512", 0, 0},
	{RSASign, "rsa-sign", 0, 0}, {RSAKeyX, "rsa-keyx", 0, 0},
}

// ParseHash returns the hash with a name, as [AlgID.String] returns it.
func ParseHash(name string) (AlgID, error) {
	return parseAlgID(name, "hash", func(largest int) bool { return largest == 0 })
}

// ParseCipher returns the algorithm of session keys with a name, as [AlgID.String] returns it.
func ParseCipher(name string) (AlgID, error) {
	return parseAlgID(name, "algorithm", func(largest int) bool { return largest > 0 })
}

// parseAlgID finds a name among the algorithms of one kind, which their largest key size
// tells apart.
func parseAlgID(name, kind string, isKind func(largest int) bool) (AlgID, error) {
	var names []string
	for _, a := range algorithms {
		if !isKind(a.max) || a.id == RSASign || a.id == RSAKeyX {
			continue
		}
		if a.name == name {
			return a.id, nil
		}
		names = append(names, a.name)
	}
	return 0, fmt.Errorf("unknown %s %q: use %s or %s", kind, name, strings.Join(names[:len(names)-1], ", "), names[len(names)-1])
}

// String returns a name such as "rc2", or the number.
func (id AlgID) String() string {
	for _, a := range algorithms {
		if a.id == id {
			return a.name
		}
	}
	return fmt.Sprintf("ALG_ID 0x%04x", uint32(id))
}

// KeySizes returns the smallest and largest size of a session key in bytes, or 0 and 0 if a is no
// algorithm of session keys.
func (id AlgID) KeySizes() (smallest, largest int) {
	for _, a := range algorithms {
		if a.id == id {
			return a.min, a.max
		}
	}
	return 0, 0
}

// Legacy reports whether the algorithm no longer encrypts anything new.
func (id AlgID) Legacy() bool { return id != AES128 && id != AES192 && id != AES256 }

// blobType is PUBLICKEYSTRUC.bType.
type blobType byte

const (
	simpleBlob       blobType = 1
	publicKeyBlob    blobType = 6
	privateKeyBlob   blobType = 7
	plaintextKeyBlob blobType = 8
)

var blobTypes = map[blobType]string{simpleBlob: "SIMPLEBLOB", publicKeyBlob: "PUBLICKEYBLOB", privateKeyBlob: "PRIVATEKEYBLOB", plaintextKeyBlob: "PLAINTEXTKEYBLOB"}

func (t blobType) String() string {
	if name, ok := blobTypes[t]; ok {
		return fmt.Sprintf("0x%02x (%s)", byte(t), name)
	}
	return fmt.Sprintf("0x%02x", byte(t))
}

// IsPrivateKeyBlob reports whether data begins like a PRIVATEKEYBLOB.
func IsPrivateKeyBlob(data []byte) bool {
	return len(data) > 1 && data[0] == byte(privateKeyBlob) && data[1] == blobVersion
}

// blobVersion is CUR_BLOB_VERSION, the only one with these layouts.
const blobVersion = 2

// A reader takes fields from a BLOB. After a failure it returns zeros, and keeps the first error.
type reader struct {
	in  []byte
	err error
}

// parse reads the PUBLICKEYSTRUC that each BLOB begins with.
func parse(data []byte, want blobType) (r *reader, algorithm AlgID) {
	r = &reader{in: data}
	if len(data) > MaxSize {
		r.fail(ErrMalformed, "it has %d bytes, at most %d are read", len(data), MaxSize)
	}
	if got := blobType(r.take("PUBLICKEYSTRUC.bType", 1)[0]); got != want {
		r.fail(errUnsupported, "PUBLICKEYSTRUC.bType is %v, not %v", got, want)
	}
	if got := r.take("PUBLICKEYSTRUC.bVersion", 1)[0]; got != blobVersion {
		r.fail(errUnsupported, "PUBLICKEYSTRUC.bVersion is %d, not %d", got, blobVersion)
	}
	if got := binary.LittleEndian.Uint16(r.take("PUBLICKEYSTRUC.reserved", 2)); got != 0 {
		r.fail(ErrMalformed, "PUBLICKEYSTRUC.reserved is %d, not 0", got)
	}
	return r, AlgID(r.uint32("PUBLICKEYSTRUC.aiKeyAlg"))
}

func (r *reader) fail(kind error, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{kind}, args...)...)
	}
}

// take takes n bytes, of which there are always n.
func (r *reader) take(field string, n int) []byte {
	if r.err == nil && len(r.in) < n {
		r.fail(ErrMalformed, "%s has %d bytes, and %d are left", field, n, len(r.in))
	}
	if r.err != nil {
		return make([]byte, n)
	}
	out := r.in[:n]
	r.in = r.in[n:]
	return out
}

func (r *reader) uint32(field string) uint32 { return binary.LittleEndian.Uint32(r.take(field, 4)) }

// end fails if something is left.
func (r *reader) end() error {
	if r.err == nil && len(r.in) > 0 {
		r.fail(ErrMalformed, "%d bytes stand behind it", len(r.in))
	}
	return r.err
}

// header is a PUBLICKEYSTRUC.
func header(kind blobType, algorithm AlgID) []byte {
	return binary.LittleEndian.AppendUint32([]byte{byte(kind), blobVersion, 0, 0}, uint32(algorithm))
}

// reversed turns big-endian into little-endian and back.
func reversed(in []byte) []byte {
	out := slices.Clone(in)
	slices.Reverse(out)
	return out
}
