package token

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
)

// Decrypt has the token decrypt a ciphertext that was encrypted to the pair's RSA public key with
// RSAES-OAEP, the given hash and an empty label. The caller must overwrite the result.
//
// Session keys are encrypted in the same way, so the result may be one. The caller must tell its
// own secrets from session keys, and must not disclose anything about a result that is not its
// own. The error is [ErrWrapped] for whatever the token cannot decrypt, and does not say why.
func (p *KeyPair) Decrypt(ctx context.Context, ciphertext []byte, hash crypto.Hash) ([]byte, error) {
	const op = "decrypt with the key exchange pair"
	key, ok := p.public.(*rsa.PublicKey)
	if !ok {
		return nil, p.token.fail(op, errors.ErrUnsupported, errors.New("it is not an RSA pair"))
	}
	if len(ciphertext) != key.Size() || hash != crypto.SHA1 && hash != crypto.SHA256 {
		return nil, p.token.fail(op, ErrWrapped, fmt.Errorf("%d bytes with %v, for a key of %d bytes", len(ciphertext), hash, key.Size()))
	}
	if new(big.Int).SetBytes(ciphertext).Cmp(key.N) >= 0 { // to which no two tokens return the same error
		return nil, p.token.fail(op, ErrWrapped, errors.New("it is not smaller than the modulus"))
	}
	secret, err := (&rsaWrapped{hash: hash, encrypted: ciphertext}).open(ctx, p)
	if e := (*Error)(nil); errors.As(err, &e) { // no session key was meant
		named := *e
		named.Op = op
		return nil, &named
	}
	return secret, err
}
