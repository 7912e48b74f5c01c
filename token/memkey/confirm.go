package memkey

import (
	"context"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"errors"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// ConfirmationSize is the size of a confirmation in bytes, see [keyspec.Transit].
const ConfirmationSize = 16

// Confirmed is the block of which a key makes its confirmation.
//
// The confirmation is public. It discloses nothing but a way to test a guess at the whole key, as
// every encrypted file does: AES key wrap and HMAC are pseudorandom functions of this block, and a
// block of AES cannot be inverted without the key. It is hashed and truncated, so that neither a
// wrapped key nor a MAC is published; and the block is not zero, because AES of zeros is GCM's
// authentication key (SP 800-38D §6.4).
const Confirmed = "hsmkeys/confirm1"

func (k *Key) Confirmation(ctx context.Context) (made []byte, err error) {
	switch k.spec.Purpose {
	case keyspec.WrapKeys:
		made, err = k.WrapData(ctx, []byte(Confirmed))
	case keyspec.Authenticate:
		made, err = k.MAC(ctx, []byte(Confirmed))
	case keyspec.Encrypt:
		err = k.Do(ctx, "recognize the session key", func(value []byte) error {
			return withAES(value, func(block cipher.Block) error {
				made = make([]byte, block.BlockSize())
				block.Encrypt(made, []byte(Confirmed))
				return nil
			})
		})
	default:
		return k.CheckValue(ctx)
	}
	if err != nil {
		return nil, err
	}
	return CutConfirmation(made), nil
}

func CutConfirmation(made []byte) []byte {
	sum := sha256.Sum256(made)
	return sum[:ConfirmationSize]
}

// MustConfirm refuses a key in memory whose confirmation is not that of the key that was wrapped.
func (k *Key) MustConfirm(ctx context.Context, want []byte) error {
	if want == nil {
		return nil
	}
	got, err := k.Confirmation(ctx)
	if err != nil {
		return err
	}
	if got != nil && subtle.ConstantTimeCompare(got, want) != 1 {
		return k.fail("unwrap session key", keyspec.ErrWrapped, ErrAnother)
	}
	return nil
}

// ErrAnother is the error for a key that is not the one that was wrapped.
var ErrAnother = errors.New("the unwrapped key is not the one that was wrapped")
