package memkey

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
)

// AES key wrap (RFC 3394 §2.2) that leaves nothing behind: it works in the result and in one more
// block, and overwrites the key schedule, which begins with the key. Other implementations leave
// the key in the heap, in pieces and whole, until the memory is used again.

var errKeyWrap = errors.New("AES key wrap: the integrity check failed")

// keyWrapIV is the default initial value (RFC 3394 §2.2.3.1).
const keyWrapIV = 0xa6a6a6a6a6a6a6a6

// withAES runs f with the cipher, and overwrites the key schedule.
func withAES(key []byte, f func(cipher.Block) error) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	defer wipe(block)
	return f(block)
}

// wipe overwrites the state of a cipher or hash of the standard library, which has no
// method for that.
func wipe(state any) { reflect.ValueOf(state).Elem().SetZero() }

// KeyWrap wraps data of 16 bytes or more, a multiple of 8. The result is 8 bytes longer.
func KeyWrap(key, data []byte) ([]byte, error) {
	if len(data) < 16 || len(data)%8 != 0 {
		return nil, fmt.Errorf("AES key wrap of %d bytes", len(data))
	}
	out := make([]byte, 8+len(data))
	copy(out[8:], data)
	err := withAES(key, func(aes cipher.Block) error {
		b := make([]byte, 16)
		defer clear(b)
		binary.BigEndian.PutUint64(b, keyWrapIV)
		for t := range uint64(6 * len(data) / 8) {
			r := out[8+8*(int(t)%(len(data)/8)):][:8]
			copy(b[8:], r)
			aes.Encrypt(b, b)
			binary.BigEndian.PutUint64(b, binary.BigEndian.Uint64(b)^(t+1))
			copy(r, b[8:])
		}
		copy(out, b[:8])
		return nil
	})
	if err != nil {
		clear(out)
		return nil, err
	}
	return out, nil
}

// KeyUnwrap undoes KeyWrap. The caller must overwrite the result.
func KeyUnwrap(key, wrapped []byte) ([]byte, error) {
	if len(wrapped) < 24 || len(wrapped)%8 != 0 {
		return nil, fmt.Errorf("AES key wrap with a result of %d bytes", len(wrapped))
	}
	n := len(wrapped)/8 - 1
	out := make([]byte, 8*n)
	copy(out, wrapped[8:])
	err := withAES(key, func(aes cipher.Block) error {
		b := make([]byte, 16)
		defer clear(b)
		copy(b, wrapped[:8])
		for t := uint64(6 * n); t > 0; t-- {
			r := out[8*(int(t-1)%n):][:8]
			binary.BigEndian.PutUint64(b, binary.BigEndian.Uint64(b)^t)
			copy(b[8:], r)
			aes.Decrypt(b, b)
			copy(r, b[8:])
		}
		iv := binary.BigEndian.AppendUint64(nil, keyWrapIV)
		if subtle.ConstantTimeCompare(b[:8], iv) != 1 {
			return errKeyWrap
		}
		return nil
	})
	if err != nil {
		clear(out)
		return nil, err
	}
	return out, nil
}
