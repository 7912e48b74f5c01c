package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/miekg/pkcs11"
)

// noExpiry is the notAfter of a certificate that does not expire (RFC 5280 §4.1.2.5): this one
// carries a key and vouches for nothing that could lapse.
var noExpiry = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// The S/MIME capabilities extension (RFC 4262) states in a standard way what the holder of a
// certificate can decrypt. It is used for one thing here, RSAES-OAEP with SHA-256 (RFC 5751
// §2.5.2, RFC 4055 §4.1), which cannot be tried without the holder's token.
var (
	oidCapabilities = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 15}
	oaepSHA256      = []byte{ // SMIMECapabilities: one, RSAES-OAEP with SHA-256 and MGF1 with SHA-256
		0x30, 0x3c, 0x30, 0x3a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07, 0x30, 0x2d,
		0xa0, 0x0d, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
		0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08,
		0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
	}
)

// CertifiedOAEPHash returns the OAEP hash that the holder of a certificate can decrypt according
// to the certificate: SHA-256 if it says so, else SHA-1, which every token can.
func CertifiedOAEPHash(c *x509.Certificate) crypto.Hash {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidCapabilities) && bytes.Equal(e.Value, oaepSHA256) {
			return crypto.SHA256
		}
	}
	return crypto.SHA1
}

// Certify makes a certificate (RFC 5280) for the pair and stores it on the token under the pair's
// id and label. The pair signs it itself, or the key does that signs for the pair
// ([KeyPair.SignWith]). The error is [ErrTaken] if the pair has a certificate.
func (p *KeyPair) Certify(ctx context.Context, commonName string) (*x509.Certificate, error) {
	const op = "certify the key exchange pair"
	if p.Legacy() {
		return nil, p.refuseLegacy(op)
	}
	if have, err := p.Certificate(ctx); err != nil {
		return nil, err
	} else if have != nil {
		return nil, p.token.fail(op, ErrTaken, fmt.Errorf("its certificate has serial number %x", have.SerialNumber))
	}
	hash, err := p.OAEPHash(ctx)
	opens := err == nil
	if err != nil && !(errors.Is(err, errors.ErrUnsupported) && p.CanSign()) {
		return nil, err
	}
	serial := make([]byte, 16)
	_, _ = rand.Read(serial)
	serial[0] = serial[0]&0x7f | 0x40 // positive and of full length
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    time.Now().UTC().Truncate(time.Second),
		NotAfter:     noExpiry,
		SubjectKeyId: keyID(p.public),
		KeyUsage:     p.usage(opens),
		// Not a certification authority.
		BasicConstraintsValid: true,
		SignatureAlgorithm:    p.Signing().kind().certifies(),
	}
	if hash == crypto.SHA256 {
		template.ExtraExtensions = []pkix.Extension{{Id: oidCapabilities, Value: oaepSHA256}}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, p.public, p.Signing())
	if err != nil {
		return nil, p.token.fail(op, nil, err)
	}
	c, err := x509.ParseCertificate(der)
	if err == nil {
		// Not c.CheckSignature: the signature may be another key's.
		err = (&x509.Certificate{PublicKey: p.Signing().Public()}).
			CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
	}
	if err == nil {
		err = p.storeCertificate(c)
	}
	if err != nil {
		return nil, p.token.fail(op, nil, err)
	}
	return c, nil
}

// usage returns what the pair does (RFC 5280 §4.2.1.3): it signs key blobs, and if opens is set it
// receives session keys.
func (p *KeyPair) usage(opens bool) x509.KeyUsage {
	var usage x509.KeyUsage
	if p.signing == nil && p.CanSign() {
		usage = x509.KeyUsageDigitalSignature
	}
	if opens {
		usage |= p.kind().usage()
	}
	return usage
}

// storeCertificate stores a certificate on the token, if the token accepts one: many cards and
// TPMs are written by their own tools alone, and the keyring has the certificate as well.
func (p *KeyPair) storeCertificate(c *x509.Certificate) error {
	if len(p.id) == 0 {
		return nil // it could not be found again
	}
	err := p.token.with(context.Background(), func(s pkcs11.SessionHandle) error {
		_, err := p.token.ctx.CreateObject(s, p.certificateObject(c))
		return err
	})
	if refuses(err) || refusesRecords(err) {
		return nil
	}
	return err
}

// Certificate returns the pair's self-signed certificate from the token, or nil if there is none.
//
// Only a certificate that the pair has signed itself counts: anybody can write one to the token
// that has the pair's public key and says anything about its holder, such as an OAEP hash that the
// token cannot decrypt.
func (p *KeyPair) Certificate(ctx context.Context) (*x509.Certificate, error) {
	return p.latest(ctx, true)
}

// IssuedCertificate returns the certificate on the token that another party has issued for the
// pair, such as a certification authority, or nil if there is none. Its public key is the pair's;
// anybody may have written the rest of it.
func (p *KeyPair) IssuedCertificate(ctx context.Context) (*x509.Certificate, error) {
	return p.latest(ctx, false)
}

// latest returns the certificate with the latest notBefore, among those that the pair has signed
// itself or among the others.
func (p *KeyPair) latest(ctx context.Context, own bool) (*x509.Certificate, error) {
	if len(p.id) == 0 {
		return nil, nil // no certificate can be known to be its own
	}
	all, err := p.token.certificates(ctx, p.id)
	if err != nil {
		return nil, err
	}
	var latest *x509.Certificate
	for _, der := range all {
		c, err := x509.ParseCertificate(der)
		if err != nil || !p.public.Equal(c.PublicKey) {
			continue // see Mismatch
		}
		signed := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
		if signed == own && (latest == nil || c.NotBefore.After(latest.NotBefore)) {
			latest = c
		}
	}
	return latest, nil
}

// certificates returns the X.509 certificates on the token with an id, DER, unverified.
func (t *Token) certificates(ctx context.Context, id []byte) ([][]byte, error) {
	found, err := t.findObjects(ctx, []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE), attr(pkcs11.CKA_ID, id)})
	if err != nil {
		return nil, err
	}
	var all [][]byte
	err = t.with(ctx, func(s pkcs11.SessionHandle) error {
		for _, handle := range found {
			der, err := t.readValue(s, handle)
			if err != nil {
				return err
			}
			all = append(all, der)
		}
		return nil
	})
	return all, t.fail("read certificates", nil, err)
}
