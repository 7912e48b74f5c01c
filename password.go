package hsmkeys

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// Keys from passwords: CryptoAPI's alternative to storing a key. What is stored is a
// derivation record, which has nothing secret and is signed like a key blob. The key
// is computed when it is needed, outside the token, and is then used like any other.

// ErrPassword is the error for a wrong password.
var ErrPassword = errors.New("wrong password")

// ErrNewPassword is the error for a new password that is shorter than [MinPassword], or not text.
var ErrNewPassword = errors.New("not a password for a new key")

// ErrDerivation is the error for what cannot be done with a key from a password, or only with such
// a key.
var ErrDerivation = errors.New("not possible for this kind of key")

// MinPassword is the length of the shortest password, in characters (NIST SP 800-63B §5.1.1.2).
// Whoever has the record can try passwords offline, so longer is better.
const MinPassword = 8

// A PasswordFunc gets the password of a key, in UTF-8 as it was typed. The Keyring
// overwrites what it returns.
type PasswordFunc func(ctx context.Context, key Entry) ([]byte, error)

// CreateFromPassword makes a session key from a password: it stores how, with a new salt from the
// token, and nothing secret. The caller must overwrite the password. Only somebody who knows the password has the key; no backup authority can help.
func (k *Keyring) CreateFromPassword(ctx context.Context, name string, key NewKey, kdf blob.KDF, password []byte) (Entry, error) {
	return k.create(ctx, ledger.Create.String(), blob.Descriptor{Name: name, Purpose: usualPurpose(key.Purpose, key.Algorithm)}, key, func(ctx context.Context, d blob.Descriptor) (*blob.Blob, error) {
		return k.derive(ctx, d, key.Algorithm, kdf, password)
	})
}

// RotatePassword is [Keyring.Rotate] with a new password for a key from a password.
// The versions before stay under the passwords they have.
func (k *Keyring) RotatePassword(ctx context.Context, name string, password []byte, reason string) (Entry, error) {
	if err := CheckPassword(password); err != nil {
		return Entry{}, err
	}
	return k.rotate(ctx, name, password, reason)
}

// CheckPassword refuses with [ErrNewPassword] what cannot be the password of a new key.
func CheckPassword(password []byte) error {
	if !utf8.Valid(password) || bytes.ContainsFunc(password, unicode.IsControl) {
		return fmt.Errorf("%w: it is not one line of UTF-8 without control characters", ErrNewPassword)
	}
	if n := utf8.RuneCount(password); n < MinPassword {
		return fmt.Errorf("%w: it has %d characters, and must have %d", ErrNewPassword, n, MinPassword)
	}
	return nil
}

// deriveLike makes the next version of a key from a password: from the password that
// it has, or from a new one.
func (k *Keyring) deriveLike(ctx context.Context, d blob.Descriptor, model *blob.Blob, kdf blob.KDF, password []byte) (*blob.Blob, error) {
	if password != nil {
		return k.derive(ctx, d, model.Algorithm(), kdf, password)
	}
	password, err := k.password(ctx, model)
	if err != nil {
		return nil, err
	}
	defer clear(password)
	value, err := computed(model, password) // a typing error must not become the password of the next version
	if err != nil {
		return nil, err
	}
	clear(value)
	return k.derive(ctx, d, model.Algorithm(), kdf, password)
}

// derive stores a new derivation record as the first revision of what the descriptor
// says.
func (k *Keyring) derive(ctx context.Context, d blob.Descriptor, algorithm keyspec.Algorithm, kdf blob.KDF, password []byte) (*blob.Blob, error) {
	if err := CheckPassword(password); err != nil {
		return nil, err
	}
	if err := k.pair.CheckComputed(); err != nil { // or it could not be used
		return nil, err
	}
	how := blob.Derivation{KDF: kdf, Cost: blob.DefaultScryptCost}
	if kdf == blob.PBKDF2 {
		how.Cost = blob.DefaultPBKDF2Cost
	}
	random, err := k.pair.Random()
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(random, how.Salt[:]); err != nil {
		return nil, fmt.Errorf("get random bytes from the token: %w", err)
	}
	if d.KeyID, err = randomID(k.pair); err != nil {
		return nil, err
	}
	value, err := how.Key(password, algorithm.KeySize())
	if err != nil {
		return nil, err
	}
	defer clear(value)
	if d.CheckValue, err = memkey.CheckValue(d.Key(algorithm), value); err != nil {
		return nil, err
	}
	d.KeyringID, d.Revision, d.Created = k.ID(), 1, time.Now()
	return k.put(ctx, d, blob.Content{Algorithm: algorithm, Derivation: &how})
}

// isDerived reports whether the key of a blob comes from a password.
func isDerived(b *blob.Blob) bool {
	_, ok := b.Derivation()
	return ok
}

// password asks for the password of a key.
func (k *Keyring) password(ctx context.Context, b *blob.Blob) ([]byte, error) {
	if k.options.Password == nil {
		return nil, fmt.Errorf("the key comes from a password, and there is nobody to ask for it: %w", ErrPassword)
	}
	return k.options.Password(ctx, k.entry(b))
}

// value computes the key that a verified derivation record describes. The caller
// overwrites it.
func (k *Keyring) value(ctx context.Context, b *blob.Blob) ([]byte, error) {
	password, err := k.password(ctx, b)
	if err != nil {
		return nil, err
	}
	defer clear(password)
	return computed(b, password)
}

// computed returns the key from a password. The check value tells a wrong one.
func computed(b *blob.Blob, password []byte) ([]byte, error) {
	how, _ := b.Derivation()
	value, err := how.Key(password, b.Algorithm().KeySize())
	if err != nil {
		return nil, err
	}
	check, err := memkey.CheckValue(b.Key(), value)
	if err == nil && subtle.ConstantTimeCompare(check, b.Descriptor().CheckValue) != 1 {
		err = ErrPassword
	}
	if err != nil {
		clear(value)
		return nil, err
	}
	return value, nil
}
