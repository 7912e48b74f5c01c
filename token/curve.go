package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"
	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A curve is one on which key exchange pairs can be.
type curve struct {
	curve elliptic.Curve
	ecdh  ecdh.Curve
	oid   asn1.ObjectIdentifier // RFC 5480 §2.1.1.1
	hash  crypto.Hash           // of signature and key derivation, RFC 5753 §2.1.1
	kdf   uint                  // the same, for C_DeriveKey
}

// curves are those of FIPS 186-5 that the format of key blobs knows.
var curves = []curve{
	{elliptic.P256(), ecdh.P256(), asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, crypto.SHA256, pkcs11.CKD_SHA256_KDF},
	{elliptic.P384(), ecdh.P384(), asn1.ObjectIdentifier{1, 3, 132, 0, 34}, crypto.SHA384, pkcs11.CKD_SHA384_KDF},
	{elliptic.P521(), ecdh.P521(), asn1.ObjectIdentifier{1, 3, 132, 0, 35}, crypto.SHA512, pkcs11.CKD_SHA512_KDF},
}

// knownCurve reports whether CKA_EC_PARAMS names one of curves.
func knownCurve(params []byte) bool {
	return slices.ContainsFunc(curves, func(c curve) bool {
		der, err := asn1.Marshal(c.oid)
		return err == nil && bytes.Equal(der, params)
	})
}

// ecPublic returns the public key of CKA_EC_PARAMS, a named curve, and CKA_EC_POINT, an
// uncompressed point in an OCTET STRING (PKCS #11 §2.3.3), or without that as some tokens have it.
func ecPublic(params, point []byte) crypto.PublicKey {
	var named asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(params, &named); err != nil || len(rest) > 0 {
		return nil
	}
	for _, c := range curves {
		if !c.oid.Equal(named) {
			continue
		}
		in, inner := cryptobyte.String(point), cryptobyte.String(nil)
		if in.ReadASN1(&inner, cryptobyte_asn1.OCTET_STRING) && in.Empty() {
			point = inner
		}
		key, err := ecdsa.ParseUncompressedPublicKey(c.curve, point)
		if err != nil {
			return nil
		}
		return key
	}
	return nil
}

// privateCurve returns the curve that the private key object states.
func (p *KeyPair) privateCurve(ctx context.Context) (curve, error) {
	if p.private.kind != pkcs11.CKK_EC {
		return curve{}, errors.New("the pair is not EC")
	}
	var params []byte
	err := p.token.with(ctx, func(s pkcs11.SessionHandle) (err error) {
		params, err = p.token.optionalAttribute(s, p.private.handle, pkcs11.CKA_EC_PARAMS)
		return err
	})
	if err != nil {
		return curve{}, err
	}
	var named asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(params, &named); err != nil {
		return curve{}, fmt.Errorf("its curve: %w", err)
	}
	for _, c := range curves {
		if c.oid.Equal(named) {
			return c, nil
		}
	}
	return curve{}, fmt.Errorf("its curve is %v", named)
}
