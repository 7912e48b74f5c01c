package token

import (
	"context"
	"crypto"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes that are signed
	_ "crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Scheme returns the best signature scheme that the pair's key and the token's mechanisms allow.
func (p *KeyPair) Scheme() keyspec.Scheme {
	switch {
	case !isRSA(p.public):
		return keyspec.ECDSA
	case p.token.info.Can.SignPSS:
		return keyspec.RSAPSS
	default: // a token without PSS
		return keyspec.RSAPKCS1v15
	}
}

// CanSign reports whether the private key may sign (CKA_SIGN). The decryption key of
// many cards must not, and no legacy pair does, whatever its attributes are.
func (p *KeyPair) CanSign() bool { return p.private.sign && !p.Legacy() }

// Sign makes the token sign the SHA-256, SHA-384 or SHA-512 of a message: for RSA
// with [rsa.PSSOptions] and an explicit salt length, or with a plain [crypto.Hash]
// for PKCS #1 v1.5; for EC with a plain [crypto.Hash], and the signature is DER.
//
// It goes through our own sessions and not through crypto11, which insists on a
// public half and knows no PIN for each signature.
func (p *KeyPair) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	const op = "sign"
	t := p.token
	// With a hash that nobody checks, the token would sign whatever bytes the
	// caller was made to put there.
	var hash crypto.Hash
	if opts != nil {
		hash = opts.HashFunc()
	}
	switch hash {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
	default:
		return nil, t.fail(op, errors.ErrUnsupported, fmt.Errorf("hash %v", hash))
	}
	if len(digest) != hash.Size() {
		return nil, t.fail(op, errors.ErrUnsupported, fmt.Errorf("a digest of %d bytes, %v has %d", len(digest), hash, hash.Size()))
	}
	if p.Legacy() {
		return nil, p.refuseLegacy(op)
	}
	if !p.private.sign {
		return nil, t.fail(op, errors.ErrUnsupported, ErrMayNotSign)
	}
	how, input, err := p.signMechanism(hash, digest, opts)
	if err != nil {
		return nil, t.fail(op, errors.ErrUnsupported, err)
	}
	var signature []byte
	// crypto.Signer knows no context.
	err = p.with(context.Background(), func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) error {
		if err := t.ctx.SignInit(s, how, key); err != nil {
			return err
		}
		if err := p.authenticate(s); err != nil {
			return burn(err)
		}
		var err error
		signature, err = t.ctx.Sign(s, input)
		return burn(err)
	})
	if err == nil && !isRSA(p.public) {
		signature, err = ecdsaDER(signature)
	}
	return signature, t.fail(op, nil, err)
}

// signMechanism gives the mechanism, and what the token is handed.
func (p *KeyPair) signMechanism(hash crypto.Hash, digest []byte, opts crypto.SignerOpts) ([]*pkcs11.Mechanism, []byte, error) {
	pss, isPSS := opts.(*rsa.PSSOptions)
	switch {
	case !isRSA(p.public) && isPSS:
		return nil, nil, errors.New("an EC key has no PSS")
	case !isRSA(p.public):
		return mechanism(pkcs11.CKM_ECDSA, nil), digest, nil
	case !isPSS:
		return mechanism(pkcs11.CKM_RSA_PKCS, nil), append(digestInfo[hash], digest...), nil
	}
	salt := pss.SaltLength
	if salt == rsa.PSSSaltLengthEqualsHash {
		salt = hash.Size()
	}
	if salt <= 0 || salt > 64 {
		return nil, nil, fmt.Errorf("a salt of %d bytes: it needs an explicit length", pss.SaltLength)
	}
	of := map[crypto.Hash][2]uint{
		crypto.SHA256: {pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256},
		crypto.SHA384: {pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384},
		crypto.SHA512: {pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512},
	}[hash]
	return mechanism(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.NewPSSParams(of[0], of[1], uint(salt))), digest, nil
}

// digestInfo is the DER that stands before a digest (RFC 8017 §9.2 note 1). The
// slices have no room left, so appending copies.
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// ecdsaDER makes an Ecdsa-Sig-Value (RFC 3279 §2.2.3) of r and s side by side, as
// PKCS #11 has them (§2.3.1).
func ecdsaDER(raw []byte) ([]byte, error) {
	if len(raw) == 0 || len(raw)%2 != 0 {
		return nil, fmt.Errorf("the token gave an ECDSA signature of %d bytes", len(raw))
	}
	half := len(raw) / 2
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
}
