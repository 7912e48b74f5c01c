package hsmkeys

import (
	"context"
	"crypto/rsa"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/capi"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// ExportSimple verifies a key and has the token wrap it to a CryptoAPI peer's RSA public
// key of 2048 bits or more: a SIMPLEBLOB. Nothing signs that BLOB, and who can decrypt
// with the peer's key has the session key from then on. A key from a password and an HMAC
// key are an [ErrDerivation].
func (k *Keyring) ExportSimple(ctx context.Context, ref Ref, to *rsa.PublicKey, how keyspec.RSAES) ([]byte, error) {
	var exported []byte
	err := k.useNewest(ctx, OpExport, ref, func(ctx context.Context, b *blob.Blob) (err error) {
		exported, err = k.exportSimple(ctx, ref, b, to, how)
		return err
	})
	if err != nil {
		clear(exported)
		return nil, err
	}
	return exported, nil
}

func (k *Keyring) exportSimple(ctx context.Context, ref Ref, b *blob.Blob, to *rsa.PublicKey, how keyspec.RSAES) ([]byte, error) {
	algorithm, ok := simpleAlgorithm(b)
	if !ok || isDerived(b) {
		return nil, withFacts(fmt.Errorf("export key %q as a SIMPLEBLOB: %w", ref, ErrDerivation), ErrNotExportable)
	}
	var key keyspec.Transit
	if _, err := k.openRevision(ctx, b, func(wrapped keyspec.WrappedKey) (err error) {
		key, err = k.pair.UnwrapTransit(ctx, wrapped)
		return err
	}); err != nil {
		return nil, fmt.Errorf("export key %q: %w", ref, err)
	}
	defer key.Close()
	encrypted, err := key.WrapFor(ctx, to, how)
	if err != nil {
		return nil, fmt.Errorf("export key %q: %w", ref, err)
	}
	return capi.SimpleBlob{Algorithm: algorithm, EncryptedKey: encrypted}.Marshal()
}

// simpleAlgorithm is the ALG_ID of a key, if CryptoAPI has one.
func simpleAlgorithm(b *blob.Blob) (capi.AlgID, bool) {
	for id, known := range simpleAlgorithms {
		if known.algorithm == b.Algorithm() && (known.size == 0 || known.size == b.KeySize()) {
			return id, true
		}
	}
	return 0, false
}

// ExportCMS verifies a key and returns its blob with the signer's certificate added, DER, for other
// tools that read CMS (RFC 5652). It needs no token, and a store does not accept the result: no
// signature covers the certificate.
func (k *Keyring) ExportCMS(ctx context.Context, ref Ref) ([]byte, error) {
	f, err := k.findNewest(ctx, ref)
	if err != nil {
		return nil, err
	}
	b, err := k.loadVersion(ctx, f)
	if err != nil {
		return nil, err
	}
	return b.WithCertificate(k.members().Certificate(b.SignerIdentifier()))
}
