package softpair

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"time"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// noExpiry is the end of the validity of a certificate that does not expire (RFC 5280 §4.1.2.5).
var noExpiry = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// Certify makes a certificate that the pair signs itself (RFC 5280), and keeps it in memory. It is an
// error if there is one.
func (p *Pair) Certify(_ context.Context, commonName string) (*x509.Certificate, error) {
	const op = "certify the pair"
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.certificate != nil {
		return nil, fail(op, nil, errors.New("it has a certificate"))
	}
	id, err := keyspec.SubjectKeyID(p.Public())
	if err != nil {
		return nil, fail(op, nil, err)
	}
	serial := make([]byte, 16)
	_, _ = rand.Read(serial)          // which never fails
	serial[0] = serial[0]&0x7f | 0x40 // positive and of full length
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             time.Now().UTC().Truncate(time.Second),
		NotAfter:              noExpiry,
		SubjectKeyId:          id,
		KeyUsage:              x509.KeyUsageDigitalSignature | p.kind.usage(),
		BasicConstraintsValid: true, // not a certification authority
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, p.Public(), p.private)
	if err != nil {
		return nil, fail(op, nil, err)
	}
	if p.certificate, err = x509.ParseCertificate(der); err != nil {
		return nil, fail(op, nil, err)
	}
	return p.certificate, nil
}

// Certificate returns the certificate that [Pair.Certify] has made, or nil.
func (p *Pair) Certificate(context.Context) (*x509.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.certificate, nil
}

// IssuedCertificate returns nil: nobody can give a certificate to a pair in memory.
func (p *Pair) IssuedCertificate(context.Context) (*x509.Certificate, error) { return nil, nil }

// SigningCertificate returns nil: the pair signs itself.
func (p *Pair) SigningCertificate(context.Context) (*x509.Certificate, error) { return nil, nil }

// TakesOAEP reports whether the pair opens what is wrapped to it with OAEP and a hash: RSA does with
// SHA-256 and SHA-1. EC has no OAEP, and takes any.
func (p *Pair) TakesOAEP(_ context.Context, hash crypto.Hash) (bool, error) {
	_, isRSA := p.private.(*rsa.PrivateKey)
	return !isRSA || hash == crypto.SHA256 || hash == crypto.SHA1, nil
}
