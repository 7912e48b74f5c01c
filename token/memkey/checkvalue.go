package memkey

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// CheckValue returns the check value of a session key, 3 bytes, as CKA_CHECK_VALUE is defined
// (PKCS #11 §4.10.2): the start of an encrypted block of zeros, or of the SHA-1 of a key that
// encrypts nothing.
func CheckValue(spec keyspec.Key, value []byte) ([]byte, error) {
	if !spec.Algorithm.IsAES() {
		h := sha1.New()
		defer wipe(h) // it still holds a key that is shorter than its block
		h.Write(value)
		return h.Sum(nil)[:CheckValueSize], nil
	}
	block := make([]byte, aes.BlockSize)
	err := withAES(value, func(aes cipher.Block) error {
		aes.Encrypt(block, block)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return block[:CheckValueSize], nil
}

const CheckValueSize = 3

func (k *Key) CheckValue(ctx context.Context) (check []byte, err error) {
	err = k.Do(ctx, "compute the key check value", func(value []byte) error {
		check, err = CheckValue(k.spec, value)
		return err
	})
	return check, err
}
