package blob

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of the suites
	_ "crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A suite is one row of the closed list: a scheme with its hash and curve, and
// the identifiers that stand for them. Digest identifiers of CMS have no
// parameters (RFC 5754 §2).
type suite struct {
	scheme    keyspec.Scheme
	hash      crypto.Hash
	curve     elliptic.Curve // nil for RSA
	digest    []byte         // AlgorithmIdentifier, DER
	signature []byte         // AlgorithmIdentifier, DER
}

var suites = []*suite{
	{keyspec.RSAPSS, crypto.SHA256, nil, algorithmIdentifier(oidSHA256), algorithmIdentifier(oidRSASSAPSS, pssParameters)},
	{keyspec.RSAPKCS1v15, crypto.SHA256, nil, algorithmIdentifier(oidSHA256), algorithmIdentifier(oidSHA256WithRSA, derNULL)},
	{keyspec.ECDSA, crypto.SHA256, elliptic.P256(), algorithmIdentifier(oidSHA256), algorithmIdentifier(oidECDSAWithSHA256)},
	{keyspec.ECDSA, crypto.SHA384, elliptic.P384(), algorithmIdentifier(oidSHA384), algorithmIdentifier(oidECDSAWithSHA384)},
	{keyspec.ECDSA, crypto.SHA512, elliptic.P521(), algorithmIdentifier(oidSHA512), algorithmIdentifier(oidECDSAWithSHA512)},
}

// suiteIdentifiers are the signature identifiers in the order of suites.
var suiteIdentifiers = func() (list [][]byte) {
	for _, s := range suites {
		list = append(list, s.signature)
	}
	return list
}()

// Inside the parameters of PSS, MGF1 and OAEP a hash has NULL (RFC 4055 §2.1).
var (
	sha256Identifier = algorithmIdentifier(oidSHA256, derNULL)
	mgf1Identifier   = algorithmIdentifier(oidMGF1, sha256Identifier)
)

// pssParameters is RSASSA-PSS-params (RFC 4055 §3.1); trailerField is its
// default and absent.
var pssParameters = mustEncode(func(b *cryptobyte.Builder) {
	addSequence(b, func(b *cryptobyte.Builder) {
		addOctets(b, tagged(0).Constructed(), sha256Identifier)
		addOctets(b, tagged(1).Constructed(), mgf1Identifier)
		b.AddASN1(tagged(2).Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(32) })
	})
})

// suiteFor finds the suite with which pub is used under scheme.
func suiteFor(scheme keyspec.Scheme, pub crypto.PublicKey) (*suite, error) {
	for _, s := range suites {
		if s.scheme == scheme && s.fits(pub) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w: scheme %v with an %s key", ErrUnknown, scheme, kindOf(pub))
}

// fits reports whether pub has the type, and is on the curve, of the suite.
func (s *suite) fits(pub crypto.PublicKey) bool {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return s.curve == nil && pub.N.BitLen() >= keyspec.MinRSABits
	case *ecdsa.PublicKey:
		return s.curve != nil && s.curve == pub.Curve
	}
	return false
}

func (s *suite) sum(data []byte) []byte {
	h := s.hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// sign returns the signature of data, not yet verified.
func (s *suite) sign(signer crypto.Signer, data []byte) ([]byte, error) {
	var opts crypto.SignerOpts = s.hash
	if s.scheme == keyspec.RSAPSS {
		opts = &rsa.PSSOptions{SaltLength: 32, Hash: s.hash}
	}
	sig, err := signer.Sign(rand.Reader, s.sum(data), opts)
	if err == nil && s.scheme == keyspec.ECDSA {
		sig, err = lowS(sig, s.curve)
	}
	return sig, err
}

// verify returns nil only for a signature of data by pub, which must fit s.
func (s *suite) verify(pub crypto.PublicKey, data, sig []byte) error {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if s.scheme == keyspec.RSAPSS {
			return rsa.VerifyPSS(pub, s.hash, s.sum(data), sig, &rsa.PSSOptions{SaltLength: 32})
		}
		return rsa.VerifyPKCS1v15(pub, s.hash, s.sum(data), sig)
	case *ecdsa.PublicKey:
		if low, err := lowS(sig, s.curve); err != nil {
			return err
		} else if string(low) != string(sig) {
			return errors.New("the signature's S is above half the order of the curve")
		}
		if !ecdsa.VerifyASN1(pub, s.sum(data), sig) {
			return errors.New("ECDSA verification failure")
		}
		return nil
	}
	return errors.New("key does not fit")
}

// lowS returns the one of (r, s) and (r, n-s) whose s is at most n/2.
func lowS(sig []byte, curve elliptic.Curve) ([]byte, error) {
	in, r, s := cryptobyte.String(sig), new(big.Int), new(big.Int)
	var values cryptobyte.String
	if !in.ReadASN1(&values, cryptobyte_asn1.SEQUENCE) || !in.Empty() ||
		!values.ReadASN1Integer(r) || !values.ReadASN1Integer(s) || !values.Empty() {
		return nil, errors.New("not a DER Ecdsa-Sig-Value (RFC 3279 §2.2.3)")
	}
	n := curve.Params().N
	if r.Sign() <= 0 || s.Sign() <= 0 || r.Cmp(n) >= 0 || s.Cmp(n) >= 0 {
		return nil, errors.New("r or s out of range")
	}
	if s.Cmp(new(big.Int).Rsh(n, 1)) > 0 {
		s.Sub(n, s)
	}
	return asn1.Marshal(struct{ R, S *big.Int }{r, s})
}

// kindOf returns the name of the kind of a public key, for errors.
func kindOf(pub crypto.PublicKey) string {
	switch pub.(type) {
	case *rsa.PublicKey:
		return "RSA"
	case *ecdsa.PublicKey:
		return "EC"
	default:
		return "unknown"
	}
}
