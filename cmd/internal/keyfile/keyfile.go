// Package keyfile reads private keys from files in the formats that other programs write, and
// certificates.
package keyfile

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob/capi"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// keyFormat is the format of a file by its outermost values.
type keyFormat string

const (
	unknownFormat    keyFormat = "of no format that is known here"
	plainPKCS8       keyFormat = "PKCS #8"
	encryptedPKCS8   keyFormat = "encrypted PKCS #8"
	formatPKCS12     keyFormat = "PKCS #12"
	formatBER        keyFormat = "in BER with indefinite lengths, not in DER"
	formatPKCS1      keyFormat = "a traditional RSA or DSA private key"
	formatSEC1       keyFormat = "a traditional EC private key"
	formatPublicKey  keyFormat = "a public key"
	formatSigned     keyFormat = "a certificate or another signed structure, without a private key"
	convertTradition           = "openssl pkcs8 -topk8 -in FILE -out pair.pem"
	convertPKCS12              = "openssl pkcs12 -in FILE -nocerts -out pair.pem writes the key alone, as encrypted PKCS #8"
)

// formatOf returns the format of a file by its tags, without decoding its values.
func formatOf(der []byte) keyFormat {
	if bytes.HasPrefix(der, []byte{0x30, 0x80}) {
		return formatBER
	}
	in, outer := cryptobyte.String(der), cryptobyte.String(nil)
	if !in.ReadASN1(&outer, cryptobyte_asn1.SEQUENCE) || !in.Empty() {
		return unknownFormat
	}
	version := -1
	if outer.PeekASN1Tag(cryptobyte_asn1.INTEGER) && !outer.ReadASN1Integer(&version) {
		return unknownFormat
	}
	second, tag := cryptobyte.String(nil), cryptobyte_asn1.Tag(0)
	if !outer.ReadAnyASN1(&second, &tag) {
		return unknownFormat
	}
	third := func(want cryptobyte_asn1.Tag) bool { return outer.PeekASN1Tag(want) }
	switch sequence := tag == cryptobyte_asn1.SEQUENCE; {
	case version == 3 && sequence:
		return formatPKCS12
	case version >= 0 && sequence && third(cryptobyte_asn1.OCTET_STRING):
		return plainPKCS8
	case version == 0 && tag == cryptobyte_asn1.INTEGER:
		return formatPKCS1
	case version == 1 && tag == cryptobyte_asn1.OCTET_STRING:
		return formatSEC1
	case version < 0 && sequence && third(cryptobyte_asn1.OCTET_STRING):
		return encryptedPKCS8
	case version < 0 && sequence && third(cryptobyte_asn1.BIT_STRING):
		return formatPublicKey
	case version < 0 && sequence && third(cryptobyte_asn1.SEQUENCE):
		return formatSigned
	}
	return unknownFormat
}

// Parse returns the only private key in a file. No error contains any of the key. ask is called
// only if the file is encrypted, and not with the empty password.
func Parse(ctx context.Context, path string, data []byte, ask askPassword) (crypto.Signer, error) {
	if capi.IsPrivateKeyBlob(data) {
		key, err := capi.ParsePrivateKeyBlob(data)
		if err != nil {
			return nil, failure.Usage("%q: %v", path, err)
		}
		return key, nil
	}
	if bytes.HasPrefix(data, []byte{0x1e, 0xf1, 0xb5, 0xb0}) {
		return nil, failure.UsageHint("openssl rsa -inform PVK -in FILE -out pair.pem", "%q is a PVK file of Windows", path)
	}
	data, err := derOf(path, data)
	if err != nil {
		return nil, err
	}
	switch format := formatOf(data); format {
	case plainPKCS8:
		return parsePKCS8(path, data)
	case encryptedPKCS8:
		return withFilePassword(ctx, ask, func(password []byte) (crypto.Signer, error) { return readEncryptedPKCS8(path, data, password) })
	case formatPKCS12:
		return withFilePassword(ctx, ask, func(password []byte) (crypto.Signer, error) { return readPKCS12(path, data, password) })
	case formatBER:
		return nil, failure.UsageHint(convertPKCS12, "%q is %s", path, format)
	case formatPKCS1, formatSEC1:
		return parseTraditional(path, format, data)
	case formatPublicKey, formatSigned:
		return nil, failure.Usage("%q is %s", path, format)
	default:
		return nil, failure.Usage("%q is neither PKCS #8 nor PKCS #12 nor a PRIVATEKEYBLOB", path)
	}
}

// derOf returns the private key's block of a PEM file, or the whole file if it is not PEM. It skips
// certificates, parameters and text around the block, which openssl writes.
func derOf(path string, data []byte) ([]byte, error) {
	begin := []byte("-----BEGIN ")
	if !bytes.Contains(data, begin) {
		return data, nil
	}
	var others []string
	var keys []*pem.Block
	for rest := bytes.TrimPrefix(data, []byte("\ufeff")); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			keys = append(keys, block)
		} else if !slices.Contains(others, block.Type) {
			others = append(others, block.Type)
		}
	}
	switch {
	case len(keys) > 1:
		return nil, failure.Usage("%q holds %d private keys; one is imported at a time", path, len(keys))
	case len(keys) == 0 && len(others) == 0 && data[0] == 0x30:
		return data, nil // DER that happens to have these bytes
	case len(keys) == 0 && len(others) == 0:
		return nil, failure.Usage("%q holds a PEM block that cannot be read: it is cut, or its lines are damaged", path)
	case len(keys) == 0:
		return nil, failure.Usage("%q holds PEM of type %s, and no PRIVATE KEY", path, text.Enumerate(others))
	case keys[0].Headers["DEK-Info"] != "" || strings.Contains(keys[0].Headers["Proc-Type"], "ENCRYPTED"):
		return nil, failure.UsageHint(convertTradition, "%q holds a PEM block of type %q that is encrypted in the traditional way (Proc-Type: 4,ENCRYPTED)", path, keys[0].Type)
	case !slices.Contains([]string{"PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"}, keys[0].Type):
		return nil, failure.UsageHint(convertTradition, "%q holds a PEM block of type %q, not PRIVATE KEY or ENCRYPTED PRIVATE KEY", path, keys[0].Type)
	}
	return keys[0].Bytes, nil
}

// askPassword returns the password of a file, which the caller overwrites.
type askPassword func() ([]byte, error)

// withFilePassword reads an encrypted file. It tries the empty password first, which need not be
// asked for, and which some sources cannot express.
func withFilePassword(ctx context.Context, ask askPassword, read func(password []byte) (crypto.Signer, error)) (crypto.Signer, error) {
	key, err := unlessDone(ctx, func() (crypto.Signer, error) { return read(nil) })
	if !errors.Is(err, hsmkeys.ErrPassword) {
		return key, err
	}
	password, err := ask()
	if err != nil {
		return nil, err
	}
	defer clear(password)
	return unlessDone(ctx, func() (crypto.Signer, error) { return read(password) })
}

// unlessDone abandons a file when ctx is done: the file decides how often a password is hashed, and
// the libraries for that take no context. The process ends then.
func unlessDone(ctx context.Context, read func() (crypto.Signer, error)) (crypto.Signer, error) {
	type result struct {
		key crypto.Signer
		err error
	}
	done := make(chan result, 1)
	go func() {
		key, err := read()
		done <- result{key, err}
	}()
	select {
	case r := <-done:
		return r.key, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func readEncryptedPKCS8(path string, data, password []byte) (crypto.Signer, error) {
	plain, err := decryptPKCS8(data, password)
	switch {
	case errors.Is(err, errKeyPassword):
		return nil, fmt.Errorf("%q: %w", path, hsmkeys.ErrPassword)
	case errors.Is(err, errKeyUnsupported):
		return nil, failure.UsageHint("openssl pkcs8 -topk8 -v2 aes256 -in FILE -out pair.pem", "encrypted PKCS #8 %q: %v", path, err)
	case err != nil:
		return nil, failure.Usage("encrypted PKCS #8 %q: %v", path, err)
	}
	defer clear(plain)
	return parsePKCS8(path, plain)
}

func readPKCS12(path string, data, password []byte) (crypto.Signer, error) {
	if err := checkPKCS12(data, password); err != nil {
		return nil, failure.Usage("PKCS #12 %q: %v", path, err)
	}
	key, _, _, err := pkcs12.DecodeChain(data, string(password))
	switch {
	case err == nil:
		return signer(path, key)
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, fmt.Errorf("%q: %w", path, hsmkeys.ErrPassword)
	}
	what := strings.TrimPrefix(err.Error(), "pkcs12: ")
	switch {
	case strings.Contains(what, "private key missing"):
		return nil, failure.Usage("PKCS #12 %q holds no private key", path)
	case len(password) == 0 && strings.Contains(what, "decryption error"):
		what = "it is encrypted and has no MAC" // which would have refused the empty password before
	}
	return nil, failure.UsageHint(convertPKCS12, "PKCS #12 %q: %s", path, what) // OpenSSL reads more of it
}

func parsePKCS8(path string, der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, failure.Usage("PKCS #8 %q: %v", path, strings.TrimPrefix(err.Error(), "x509: "))
	}
	return signer(path, key)
}

// parseTraditional reads the formats from before PKCS #8: PKCS #1 (RFC 8017 appendix A.1.2) and SEC
// 1 (RFC 5915).
func parseTraditional(path string, format keyFormat, der []byte) (crypto.Signer, error) {
	var key any
	var err error
	if format == formatPKCS1 {
		key, err = x509.ParsePKCS1PrivateKey(der)
	} else {
		key, err = x509.ParseECPrivateKey(der)
	}
	if err != nil {
		return nil, failure.Usage("%q is %s that cannot be read: %s", path, format, strings.TrimPrefix(err.Error(), "x509: "))
	}
	return signer(path, key)
}

func signer(path string, key any) (crypto.Signer, error) {
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, failure.Usage("%q holds a key that is neither RSA nor EC and does not sign", path)
	}
	return s, nil
}
