package hsmkeys

import (
	"context"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
)

// ExportCMS verifies a key and gives its blob with the signer's certificate put in, DER,
// for other tools that read CMS (RFC 5652). It needs no token, and is nothing that a
// store takes back: no signature covers the certificate.
func (k *Keyring) ExportCMS(ctx context.Context, ref Ref) ([]byte, error) {
	b, err := k.loadRef(ctx, ref)
	if err != nil {
		return nil, err
	}
	signer, ok := k.chain.signed[string(b.SignerKeyID())]
	if !ok {
		return nil, fmt.Errorf("export key %q: no list of members has its signer: %w", ref, blob.ErrNotFound)
	}
	certificate := signer.Certificate
	if signer.Signing != nil {
		certificate = signer.Signing
	}
	return b.WithCertificate(certificate)
}
