package token

import (
	"context"
	"crypto/x509"

	"github.com/miekg/pkcs11"
)

// Destroy deletes the pair and its certificates from the token. Objects with the pair's id and
// another key stay: they may belong to another pair.
func (p *KeyPair) Destroy(ctx context.Context) error {
	t := p.token
	private := p.with(ctx, t.destroyQuietly)
	var others error
	if len(p.id) > 0 { // a TPM destroys the public half with the private one
		others = also(
			p.destroyCertificates(ctx),
			t.destroyObjects(ctx, append(p.publicTemplate(), attr(pkcs11.CKA_ID, p.id))...))
	}
	return t.fail("destroy the key exchange pair", nil, also(private, others))
}

// destroyCertificates deletes the certificates of the pair's key.
func (p *KeyPair) destroyCertificates(ctx context.Context) error {
	t := p.token
	found, err := t.findObjects(ctx, []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE), attr(pkcs11.CKA_ID, p.id), attr(pkcs11.CKA_TOKEN, true)})
	if err != nil {
		return err
	}
	return t.with(ctx, func(s pkcs11.SessionHandle) error {
		var failed error
		for _, handle := range found {
			der, err := t.readValue(s, handle)
			if err != nil {
				failed = also(failed, err)
				continue
			}
			if c, err := x509.ParseCertificate(der); err == nil && p.public.Equal(c.PublicKey) {
				failed = also(failed, t.destroyQuietly(s, handle))
			}
		}
		return failed
	})
}
