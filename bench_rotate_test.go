package hsmkeys_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"iter"
	"math/big"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token"
)

// BenchmarkRotate rotates keys with one command, wrapped to owner and authority, beside what the token
// must do for that: C_GenerateKey, C_WrapKey for each member, C_Sign; and C_UnwrapKey where the wrapped
// key is read back.
func BenchmarkRotate(b *testing.B) {
	readBack(b, func(b *testing.B, all bool) {
		ctx := context.Background()
		k, p := benchKeyring(b)
		k.Options().NoReadBack = !all
		var names []string
		for i := range benchOps {
			names = append(names, fmt.Sprintf("k%d", i))
		}
		for r := range k.CreateMany(ctx, names, hsmkeys.NewKey{Algorithm: keyspec.AES256}) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
		besideMany(b, "rotate", func() iter.Seq[hsmkeys.Result] { return k.RotateMany(ctx, keyRefs(names...), "a benchmark") }, newBare(b, p).makeKey(b, k, p, all))
	})
}

// makeKey is what the token must do to make a key for the members of a keyring.
func (r *bare) makeKey(b *testing.B, k *hsmkeys.Keyring, p *token.KeyPair, readBack bool) func(worker, i int) error {
	b.Helper()
	var members [][]pkcs11.ObjectHandle // by worker
	for _, s := range r.sessions {
		var all []pkcs11.ObjectHandle
		for _, m := range k.Members() {
			all = append(all, r.public(b, s, m.Certificate))
		}
		members = append(members, all)
	}
	digest, mgf := uint(pkcs11.CKM_SHA_1), uint(pkcs11.CKG_MGF1_SHA1)
	if r.hash == crypto.SHA256 {
		digest, mgf = pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256
	}
	oaep := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_OAEP, pkcs11.NewOAEPParams(digest, mgf, pkcs11.CKZ_DATA_SPECIFIED, nil))}
	generate := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}
	unwrap := r.unwrap(b, p)
	attribute := pkcs11.NewAttribute
	template := []*pkcs11.Attribute{
		attribute(pkcs11.CKA_VALUE_LEN, 32), attribute(pkcs11.CKA_TOKEN, false), attribute(pkcs11.CKA_PRIVATE, true),
		attribute(pkcs11.CKA_SENSITIVE, true), attribute(pkcs11.CKA_EXTRACTABLE, true),
		attribute(pkcs11.CKA_WRAP, true), attribute(pkcs11.CKA_UNWRAP, true),
	}
	return func(worker, i int) error {
		s := r.sessions[worker]
		key, err := r.ctx.GenerateKey(s, generate, template)
		if err != nil {
			return err
		}
		for _, public := range members[worker] {
			if _, err := r.ctx.WrapKey(s, oaep, public, key); err != nil {
				return err
			}
		}
		if readBack {
			if err := unwrap(worker, i); err != nil {
				return err
			}
		}
		if err := r.sign(worker, i); err != nil {
			return err
		}
		return r.ctx.DestroyObject(s, key)
	}
}

// public makes the public key of a certificate an object that wraps.
func (r *bare) public(b *testing.B, s pkcs11.SessionHandle, c *x509.Certificate) pkcs11.ObjectHandle {
	b.Helper()
	key := c.PublicKey.(*rsa.PublicKey)
	object, err := r.ctx.CreateObject(s, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_WRAP, true),
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS, key.N.Bytes()), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(key.E)).Bytes()),
	})
	if err != nil {
		b.Fatal(err)
	}
	return object
}
