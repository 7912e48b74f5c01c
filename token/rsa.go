package token

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/guard"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// Key transport as in CMS: the session key is encrypted to an RSA key (RFC 5652 §6.2.1).

// rsaWrapped is a session key that was encrypted to an RSA pair.
type rsaWrapped struct {
	hash      crypto.Hash // of RSAES-OAEP
	pkcs1v15  bool        // RSAES-PKCS1-v1_5, from software that knows no OAEP, see [KeyPair.UnwrapRSAES]
	encrypted []byte
}

func (w *rsaWrapped) check(p *KeyPair, _ keyspec.Key) error {
	own, ok := p.public.(*rsa.PublicKey)
	if !ok {
		return errors.New("encrypted to an RSA key, and the pair is not RSA")
	}
	if len(w.encrypted) != own.Size() || w.hash != crypto.SHA1 && w.hash != crypto.SHA256 && !w.pkcs1v15 {
		return fmt.Errorf("%d bytes with %v, for a key of %d bytes", len(w.encrypted), w.hash, own.Size())
	}
	return nil
}

// mechanism returns the mechanism by which the pair decrypts the key.
func (w *rsaWrapped) mechanism() []*pkcs11.Mechanism {
	if w.pkcs1v15 {
		return mechanism(pkcs11.CKM_RSA_PKCS, nil)
	}
	return oaep(w.hash)
}

func (w *rsaWrapped) unwrap(p *KeyPair, s pkcs11.SessionHandle, private pkcs11.ObjectHandle, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	return p.token.ctx.UnwrapKey(s, w.mechanism(), private, w.encrypted, template)
}

// refused reports whether the token does OAEP, but not with SHA-256.
func (w *rsaWrapped) refused(err error) bool {
	return w.hash == crypto.SHA256 && refusesParameters(err)
}

func (w *rsaWrapped) open(ctx context.Context, p *KeyPair) ([]byte, error) {
	const op = "open session key"
	t := p.token
	if !p.private.decrypt && !p.private.unwrap {
		return nil, t.fail(op, errors.ErrUnsupported, errors.New("the pair may not decrypt or unwrap (CKA_DECRYPT, CKA_UNWRAP)"))
	}
	var value []byte
	err := p.with(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) (err error) {
		if p.private.decrypt && t.info.Mechanisms.DecryptRSA {
			if err := t.ctx.DecryptInit(s, w.mechanism(), key); err != nil {
				return err
			}
			if err := p.authenticate(s); err != nil {
				return unusable(err)
			}
			value, err = guard.Take(func() ([]byte, error) { return t.ctx.Decrypt(s, w.encrypted) })
			return unusable(err)
		}
		handle, err := w.unwrap(p, s, key, dataKey())
		if err != nil {
			return err
		}
		value, err = t.readValue(s, handle)
		return also(err, t.ctx.DestroyObject(s, handle))
	})
	if err != nil {
		clear(value)
		kind := unwrapKind(err)
		if refuses(err) {
			kind = errors.ErrUnsupported
		}
		return nil, t.fail(op, kind, err)
	}
	return value, nil
}

// wrapRSA has the token wrap the key to an RSA public key (C_WrapKey).
func (k *tokenTransit) wrapRSA(ctx context.Context, to *rsa.PublicKey, hash crypto.Hash) (*keyspec.KeyTransport, error) {
	const op = "wrap session key"
	t := k.token
	if hash != crypto.SHA256 && hash != crypto.SHA1 {
		return nil, t.fail(op, errors.ErrUnsupported, fmt.Errorf("OAEP with %v", hash))
	}
	if t.sha1Only.Load() {
		hash = crypto.SHA1
	}
	public, err := t.importPublicKey(ctx, to)
	if err != nil {
		return nil, err
	}
	wrapped := &keyspec.KeyTransport{OAEPHash: hash}
	err = k.use(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) (err error) {
		wrapped.EncryptedKey, err = t.ctx.WrapKey(s, oaep(wrapped.OAEPHash), public, key)
		if wrapped.OAEPHash == crypto.SHA1 || !refusesParameters(err) {
			return err
		}
		wrapped.OAEPHash = crypto.SHA1
		if wrapped.EncryptedKey, err = t.ctx.WrapKey(s, oaep(wrapped.OAEPHash), public, key); err == nil {
			t.sha1Only.Store(true) // so it was the hash
		}
		return err
	})
	if err != nil {
		return nil, t.fail(op, nil, err)
	}
	if len(wrapped.EncryptedKey) != to.Size() {
		return nil, t.fail(op, ErrUnsafe, fmt.Errorf("%d bytes came back for a key of %d", len(wrapped.EncryptedKey), to.Size()))
	}
	return wrapped, nil
}

// oaep is RSAES-OAEP with an empty label and MGF1 over the same hash.
func oaep(hash crypto.Hash) []*pkcs11.Mechanism {
	digest, mgf := uint(pkcs11.CKM_SHA_1), uint(pkcs11.CKG_MGF1_SHA1)
	if hash == crypto.SHA256 {
		digest, mgf = pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256
	}
	return mechanism(pkcs11.CKM_RSA_PKCS_OAEP, pkcs11.NewOAEPParams(digest, mgf, pkcs11.CKZ_DATA_SPECIFIED, nil))
}

// rsaPair is the [pairKind] of RSA.
type rsaPair struct{ key *rsa.PublicKey }

func (k rsaPair) objectType() uint          { return pkcs11.CKK_RSA }
func (k rsaPair) usage() x509.KeyUsage      { return x509.KeyUsageKeyEncipherment }
func (k rsaPair) oaepHashes() []crypto.Hash { return []crypto.Hash{crypto.SHA256, crypto.SHA1} }

// certifies returns PKCS #1 v1.5, which every reader of certificates knows.
func (k rsaPair) certifies() x509.SignatureAlgorithm { return x509.SHA256WithRSA }

func (k rsaPair) signature(raw []byte) ([]byte, error) { return raw, nil }

func (k rsaPair) keyType() KeyType {
	if legacyRSA(k.key.N) {
		return 0 // with 256, 384 or 521 bits it would look like EC
	}
	return KeyType(k.key.N.BitLen())
}

func (k rsaPair) check() error {
	if k.key.E < 3 || k.key.E%2 == 0 {
		return fmt.Errorf("public exponent %v", k.key.E)
	}
	return nil
}

// values returns CKA_KEY_TYPE, CKA_MODULUS and CKA_PUBLIC_EXPONENT (PKCS #11 current mechanisms
// §2.1.2).
func (k rsaPair) values() ([]*pkcs11.Attribute, error) {
	return []*pkcs11.Attribute{
		attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		attr(pkcs11.CKA_MODULUS, k.key.N.Bytes()),
		attr(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(k.key.E)).Bytes()),
	}, nil
}

func (k rsaPair) finds(modulus []byte) *pkcs11.Attribute {
	if len(modulus) == 0 {
		modulus = k.key.N.Bytes()
	}
	return attr(pkcs11.CKA_MODULUS, modulus)
}

func (k rsaPair) scheme(has Mechanisms) keyspec.Scheme {
	if has.SignPSS {
		return keyspec.RSAPSS
	}
	return keyspec.RSAPKCS1v15
}

func (k rsaPair) mayNotOpen(private privateKey) string {
	if !private.unwrap && !private.decrypt {
		return "unwrap or decrypt (CKA_UNWRAP and CKA_DECRYPT are false)"
	}
	return ""
}

func (k rsaPair) whyMemory(private privateKey, has Mechanisms) string {
	switch {
	case !has.WrapRSA:
		return "the token does not unwrap with RSA (CKM_RSA_PKCS_OAEP)"
	case !private.unwrap:
		return "the pair may not unwrap (CKA_UNWRAP)"
	}
	return ""
}

func (k rsaPair) signMechanism(hash crypto.Hash, digest []byte, opts crypto.SignerOpts) ([]*pkcs11.Mechanism, []byte, error) {
	pss, isPSS := opts.(*rsa.PSSOptions)
	if !isPSS {
		return mechanism(pkcs11.CKM_RSA_PKCS, nil), append(digestInfo[hash], digest...), nil
	}
	salt := pss.SaltLength
	if salt == rsa.PSSSaltLengthEqualsHash {
		salt = hash.Size()
	}
	if salt <= 0 || salt > 64 {
		return nil, nil, fmt.Errorf("a salt of %d bytes: the length must be explicit", pss.SaltLength)
	}
	of := map[crypto.Hash][2]uint{
		crypto.SHA256: {pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256},
		crypto.SHA384: {pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384},
		crypto.SHA512: {pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512},
	}[hash]
	return mechanism(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.NewPSSParams(of[0], of[1], uint(salt))), digest, nil
}

// digestInfo is the DER that precedes a digest (RFC 8017 §9.2 note 1). The slices have no spare
// capacity, so appending copies.
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

func (k rsaPair) verifies(digest, signature []byte, opts crypto.SignerOpts) bool {
	if pss, ok := opts.(*rsa.PSSOptions); ok {
		return rsa.VerifyPSS(k.key, opts.HashFunc(), digest, signature, pss) == nil
	}
	return rsa.VerifyPKCS1v15(k.key, opts.HashFunc(), digest, signature) == nil
}

func (k rsaPair) opens(ctx context.Context, p *KeyPair, secret []byte) (bool, error) {
	wrapped, err := memkey.WrapRSA(k.key, crypto.SHA1, secret)
	if err != nil {
		return false, err
	}
	got, err := (&rsaWrapped{hash: wrapped.OAEPHash, encrypted: wrapped.EncryptedKey}).open(ctx, p)
	defer clear(got)
	if errors.Is(err, ErrWrapped) {
		return false, nil
	}
	return err == nil && subtle.ConstantTimeCompare(got, secret) == 1, err
}

// rsaMaker is the [pairMaker] of RSA with that many bits.
type rsaMaker int

func (m rsaMaker) missing(has Mechanisms) error {
	if !has.GenerateRSA {
		return errors.New("the token makes no RSA pairs (CKM_RSA_PKCS_KEY_PAIR_GEN)")
	}
	return nil
}

func (m rsaMaker) mechanism() (uint, *pkcs11.Attribute, error) {
	return pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, attr(pkcs11.CKA_MODULUS_BITS, int(m)), nil
}
