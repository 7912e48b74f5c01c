package hsmkeys

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/capi"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// A Simple is a session key in a SIMPLEBLOB of CryptoAPI, with what such a BLOB does not contain.
type Simple struct {
	Blob capi.SimpleBlob
	How  keyspec.RSAES // how it is encrypted
	Pair Decrypter     // the pair that the key is encrypted to; nil for that of the keyring

	Size          int             // of the key, in bytes; needed for RC2 and RC4
	EffectiveBits int             // of an RC2 key: KP_EFFECTIVE_KEYLEN
	Salt          []byte          // of an RC2 or RC4 key: KP_SALT, KP_SALT_EX
	Purpose       keyspec.Purpose // of an AES key; 0 as in [Keyring.Create]
	CheckValue    []byte          // 3 bytes that the key must have, see [token.CheckValue]; nil for any
}

// ErrSimple is the error for a SIMPLEBLOB that cannot be imported as it is described.
var ErrSimple = errors.New("not a key that can be imported")

// simpleAlgorithms are those of the session keys in SIMPLEBLOBs, and the size in bytes
// that goes with each; 0 where there is more than one.
var simpleAlgorithms = map[capi.AlgID]struct {
	algorithm keyspec.Algorithm
	size      int
}{
	capi.AES128: {keyspec.AES128, 16}, capi.AES192: {keyspec.AES192, 24}, capi.AES256: {keyspec.AES256, 32},
	capi.TripleDES112: {keyspec.TripleDES, 16}, capi.TripleDES: {keyspec.TripleDES, 24}, capi.DES: {keyspec.DES, 8},
	capi.RC2: {keyspec.RC2, 0}, capi.RC4: {keyspec.RC4, 0},
}

// Check returns an [ErrSimple] if the description of the key contradicts itself or the BLOB. It
// needs no token.
func (s Simple) Check() error {
	_, _, err := s.describe()
	return err
}

// describe returns what the key blob will say of the key.
func (s Simple) describe() (blob.Descriptor, keyspec.Algorithm, error) {
	known, ok := simpleAlgorithms[s.Blob.Algorithm]
	if !ok {
		return blob.Descriptor{}, 0, fmt.Errorf("%w: its algorithm is %v", ErrSimple, s.Blob.Algorithm)
	}
	size := s.Size
	switch {
	case size == 0 && known.size == 0:
		return blob.Descriptor{}, 0, fmt.Errorf("%w: the BLOB does not tell the length of an %v key", ErrSimple, known.algorithm)
	case size == 0:
		size = known.size
	case known.size != 0 && size != known.size:
		return blob.Descriptor{}, 0, fmt.Errorf("%w: an %v key has %d bits", ErrSimple, s.Blob.Algorithm, known.size*8)
	}
	if s.CheckValue != nil && len(s.CheckValue) != 3 {
		return blob.Descriptor{}, 0, fmt.Errorf("%w: a check value has 3 bytes", ErrSimple)
	}
	d := blob.Descriptor{Purpose: s.Purpose, Imported: true}
	if known.algorithm.IsLegacy() {
		if d.Purpose != 0 && d.Purpose != keyspec.Decrypt {
			return d, 0, fmt.Errorf("%w: with %v nothing new is encrypted", ErrSimple, known.algorithm)
		}
		d.Purpose = keyspec.Decrypt
		d.Legacy = &blob.Legacy{KeySize: size, EffectiveBits: s.EffectiveBits, Salt: s.Salt}
		if err := d.Legacy.Check(known.algorithm); err != nil {
			return d, 0, fmt.Errorf("%w: %w", ErrSimple, err)
		}
		return d, known.algorithm, nil
	}
	d.Purpose = usualPurpose(d.Purpose, known.algorithm)
	if d.Purpose != keyspec.WrapKeys && d.Purpose != keyspec.Encrypt || s.EffectiveBits != 0 || s.Salt != nil {
		return d, 0, fmt.Errorf("%w: an AES key has the purpose wrap or encrypt, and neither effective bits nor a salt", ErrSimple)
	}
	return d, known.algorithm, nil
}

// ImportSimple makes a key of the keyring from a session key in a SIMPLEBLOB that is encrypted to a
// pair on the token. The token decrypts it, wraps it to every member and signs the blob, as for a
// key that it has made. It refuses with [blob.ErrExists] when there is a key of that name.
//
// Nothing signs a SIMPLEBLOB: it may come from anybody who has the pair's public key. With PKCS #1
// v1.5, somebody who may try many BLOBs and sees which are imported can open whatever was encrypted
// to the pair. So whatever is wrong with the encrypted key is the same error, a
// [keyspec.ErrWrapped], after whole seconds. With a CheckValue the answer is also the same for
// another key, so that only somebody who knows the key can have it imported.
func (k *Keyring) ImportSimple(ctx context.Context, name string, s Simple) (Entry, error) {
	d, algorithm, err := s.describe()
	if err != nil {
		return Entry{}, err
	}
	d.Name = name
	return k.create(ctx, OpImport, d, NewKey{}, func(ctx context.Context, d blob.Descriptor) (*blob.Blob, error) {
		key, err := k.unwrapSimple(ctx, s, d.Key(algorithm))
		if err != nil {
			return nil, err
		}
		defer key.Close()
		return k.sealNew(ctx, d, algorithm, key)
	})
}

// unwrapSimple returns after a whole number of seconds, so that its duration does not tell what
// went wrong.
func (k *Keyring) unwrapSimple(ctx context.Context, s Simple, spec keyspec.Key) (keyspec.Transit, error) {
	pair := s.Pair
	if pair == nil {
		own, ok := k.pair.(Decrypter)
		if !ok {
			return nil, fmt.Errorf("decrypt the SIMPLEBLOB: %w", errors.ErrUnsupported)
		}
		pair = own
	}
	began := time.Now()
	key, err := pair.UnwrapRSAES(ctx, spec, s.Blob.EncryptedKey, s.How)
	if err == nil && s.CheckValue != nil {
		var got []byte
		if got, err = key.CheckValue(ctx); err == nil && subtle.ConstantTimeCompare(got, s.CheckValue) != 1 {
			err = keyspec.ErrWrapped
		}
		if err != nil {
			_ = key.Close()
		}
	}
	select {
	case <-time.After(answerEvery - time.Since(began)%answerEvery):
	case <-ctx.Done():
	}
	if errors.Is(err, keyspec.ErrWrapped) {
		return nil, withFacts(fmt.Errorf("the SIMPLEBLOB: %w", keyspec.ErrWrapped), ErrSimpleBlob)
	}
	return key, err
}

// answerEvery is much longer than any token takes to find a wrong padding.
const answerEvery = time.Second
