package token

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Legacy pairs: RSA from a time when 512 and 1024 bits were usual. They open the session keys that
// were encrypted to them then, and do nothing else.

// minLegacyRSA is the length of the shortest modulus that CryptoAPI made, in bits.
const minLegacyRSA = 512

func legacyRSA(n *big.Int) bool { return n.BitLen() < keyspec.MinRSABits }

// Legacy reports whether the pair is RSA of less than [keyspec.MinRSABits], whoever has put it on
// the token. Such a pair opens what was encrypted to it ([KeyPair.UnwrapRSAES]); it does not sign
// and cannot be certified.
func (p *KeyPair) Legacy() bool {
	key, ok := p.public.(*rsa.PublicKey)
	return ok && legacyRSA(key.N)
}

// RefuseLegacy returns an [errors.ErrUnsupported] for a legacy pair, and nil for any other.
func (p *KeyPair) RefuseLegacy() error {
	if !p.Legacy() {
		return nil
	}
	return p.refuseLegacy("use the pair " + fmt.Sprintf("%q", p.label))
}

func (p *KeyPair) refuseLegacy(op string) error {
	return p.token.fail(op, errors.ErrUnsupported,
		fmt.Errorf("it is %w, RSA with %d bits: it opens SIMPLEBLOBs and does nothing else", ErrLegacyPair, p.public.(*rsa.PublicKey).N.BitLen()))
}

// ImportLegacyPair is [Token.ImportPair] for RSA with 512 to 2047 bits. The pair may decrypt and
// unwrap and nothing else, and must open a key of 16 bytes that is encrypted to it.
func (t *Token) ImportLegacyPair(ctx context.Context, label string, private crypto.Signer) (*KeyPair, error) {
	key, ok := private.(*rsa.PrivateKey)
	if !ok || key.N.BitLen() < minLegacyRSA || !legacyRSA(key.N) {
		return nil, t.fail(importOp(label), errors.ErrUnsupported, fmt.Errorf("a legacy pair is RSA with %d to %d bits", minLegacyRSA, keyspec.MinRSABits-1))
	}
	return t.importChecked(ctx, label, private, importing{
		templates: legacyTemplates,
		checks:    []func(*KeyPair, context.Context) error{(*KeyPair).checkOpens},
		is:        ErrLegacyPair,
	})
}

// checkOpens has the pair open what is encrypted to it in this process.
func (p *KeyPair) checkOpens(ctx context.Context) error {
	want := make([]byte, 16)
	_, _ = rand.Read(want)
	encrypted, err := encryptPKCS1v15(p.public.(*rsa.PublicKey), want)
	if err != nil {
		return err
	}
	got, err := (&rsaWrapped{pkcs1v15: true, encrypted: encrypted}).open(ctx, p)
	defer clear(got)
	if err == nil && subtle.ConstantTimeCompare(got, want) != 1 {
		err = p.token.fail("try the new pair", ErrUnsafe, errors.New("it opens another key than was encrypted to it"))
	}
	return err
}

// encryptPKCS1v15 is RSAES-PKCS1-v1_5 (RFC 8017 §7.2.1) for keys that are too short for
// crypto/rsa. What it encrypts protects nothing.
func encryptPKCS1v15(key *rsa.PublicKey, message []byte) ([]byte, error) {
	size := key.Size()
	if len(message) > size-11 {
		return nil, fmt.Errorf("%d bytes for a key of %d", len(message), size)
	}
	block := make([]byte, size) // 0, 2, padding without zeros, 0, message
	block[1] = 2
	padding := block[2 : size-len(message)-1]
	_, _ = rand.Read(padding)
	for i := range padding {
		padding[i] |= 1
	}
	copy(block[size-len(message):], message)
	return new(big.Int).Exp(new(big.Int).SetBytes(block), big.NewInt(int64(key.E)), key.N).FillBytes(make([]byte, size)), nil
}

// legacyTemplates are for a pair that only opens what exists.
func legacyTemplates(id []byte, label string) (public, private []*pkcs11.Attribute) {
	public, private = pairTemplates(id, label, RSA2048)
	for _, kind := range []uint{pkcs11.CKA_WRAP, pkcs11.CKA_ENCRYPT, pkcs11.CKA_VERIFY} {
		setAttr(public, attr(kind, false)) // nothing new is encrypted to it, and it has signed nothing
	}
	setAttr(private, attr(pkcs11.CKA_SIGN, false)) // its signatures prove nothing
	return public, private
}

// dropLegacy drops the private keys of legacy pairs, which are only found by their name.
func (t *Token) dropLegacy(ctx context.Context, found []pkcs11.ObjectHandle) (keep []pkcs11.ObjectHandle, err error) {
	err = t.with(ctx, func(s pkcs11.SessionHandle) error {
		for _, handle := range found {
			modulus, err := t.optionalAttribute(s, handle, pkcs11.CKA_MODULUS)
			if err != nil {
				return err
			}
			if len(modulus) == 0 || !legacyRSA(new(big.Int).SetBytes(modulus)) {
				keep = append(keep, handle)
			}
		}
		return nil
	})
	return keep, err
}

// LegacyKey is an RSA public key of less than 2048 bits on a token.
type LegacyKey struct {
	Label string `json:"label"`
	ID    []byte `json:"id"`
	Bits  int    `json:"bits"`
}

// maxLegacyKeys is how many are listed at most.
const maxLegacyKeys = 64

// legacyKeys returns the legacy public keys that a token shows without a PIN, which anybody can
// have written. It returns none for a token that shows nothing.
func legacyKeys(ctx *pkcs11.Ctx, slot uint) []LegacyKey {
	s, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return nil
	}
	defer func() { _ = ctx.CloseSession(s) }()
	if err := ctx.FindObjectsInit(s, []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA), attr(pkcs11.CKA_TOKEN, true),
	}); err != nil {
		return nil
	}
	found, _, err := ctx.FindObjects(s, maxLegacyKeys)
	if final := ctx.FindObjectsFinal(s); err != nil || final != nil {
		return nil
	}
	var all []LegacyKey
	for _, handle := range found {
		a, err := ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{attr(pkcs11.CKA_LABEL, nil), attr(pkcs11.CKA_ID, nil), attr(pkcs11.CKA_MODULUS, nil)})
		if err != nil || len(a) != 3 {
			continue
		}
		if n := new(big.Int).SetBytes(a[2].Value); n.Sign() > 0 && legacyRSA(n) {
			all = append(all, LegacyKey{string(a[0].Value), a[1].Value, n.BitLen()})
		}
	}
	return all
}
