package token

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/guard"
)

// Key transport, as CMS has it: the session key is encrypted to an RSA key (RFC 5652 §6.2.1).

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

// mechanism returns that by which the pair decrypts the key.
func (w *rsaWrapped) mechanism() []*pkcs11.Mechanism {
	if w.pkcs1v15 {
		return mechanism(pkcs11.CKM_RSA_PKCS, nil)
	}
	return oaep(w.hash)
}

func (w *rsaWrapped) unwrap(p *KeyPair, s pkcs11.SessionHandle, private pkcs11.ObjectHandle, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	return p.token.ctx.UnwrapKey(s, w.mechanism(), private, w.encrypted, template)
}

// refused reports whether the token does OAEP, and not with SHA-256.
func (w *rsaWrapped) refused(err error) bool {
	return w.hash == crypto.SHA256 && refusesParameters(err)
}

func (w *rsaWrapped) open(ctx context.Context, p *KeyPair) ([]byte, error) {
	const op = "open session key"
	t := p.token
	if !p.private.decrypt && !p.private.unwrap {
		return nil, t.fail(op, errors.ErrUnsupported, errors.New("the pair must not decrypt or unwrap (CKA_DECRYPT, CKA_UNWRAP)"))
	}
	var value []byte
	err := p.with(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) (err error) {
		if p.private.decrypt && t.info.Can.DecryptRSA {
			if err := t.ctx.DecryptInit(s, w.mechanism(), key); err != nil {
				return err
			}
			if err := p.authenticate(s); err != nil {
				return burn(err)
			}
			value, err = guard.Take(func() error {
				_, err := t.ctx.Decrypt(s, w.encrypted)
				return err
			})
			return burn(err)
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
			t.sha1Only.Store(true) // it was the hash and nothing else
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

// wrapRSA wraps a session key's value to an RSA public key in this process.
func wrapRSA(to *rsa.PublicKey, hash crypto.Hash, value []byte) (*keyspec.KeyTransport, error) {
	encrypted, err := rsa.EncryptOAEP(hash.New(), rand.Reader, to, value, nil)
	return &keyspec.KeyTransport{OAEPHash: hash, EncryptedKey: encrypted}, err
}

// checkRSA returns an error for an RSA public key that nothing should be encrypted to.
func checkRSA(key *rsa.PublicKey) error {
	if bits := key.N.BitLen(); bits < keyspec.MinRSABits || bits > keyspec.MaxRSABits || key.E < 3 || key.E%2 == 0 {
		return fmt.Errorf("RSA with %d bits and exponent %d", bits, key.E)
	}
	return nil
}

// oaep is RSAES-OAEP with an empty label and MGF1 over the same hash.
func oaep(hash crypto.Hash) []*pkcs11.Mechanism {
	digest, mgf := uint(pkcs11.CKM_SHA_1), uint(pkcs11.CKG_MGF1_SHA1)
	if hash == crypto.SHA256 {
		digest, mgf = pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256
	}
	return mechanism(pkcs11.CKM_RSA_PKCS_OAEP, pkcs11.NewOAEPParams(digest, mgf, pkcs11.CKZ_DATA_SPECIFIED, nil))
}
