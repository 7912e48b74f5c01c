package keyfile

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
)

// maxKeyFile is the maximal size of a file that [Read] reads, in bytes.
const maxKeyFile = 1 << 20

// Read reads a small file. The caller must clear what it returns if there may be a secret in it.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(data) > maxKeyFile {
		err = failure.Usage("%q has more than %d bytes", path, maxKeyFile)
	}
	if err != nil {
		clear(data)
		return nil, err
	}
	return data, nil
}

// ReadCertificate reads a file with one certificate, in PEM or DER.
func ReadCertificate(path string) (*x509.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, blob.MaxSize))
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(data); block != nil {
		if block.Type != "CERTIFICATE" {
			return nil, failure.Usage("%q holds a PEM block of type %q, not a certificate", path, block.Type)
		}
		data = block.Bytes
	}
	if len(data) == 0 { // as "> FILE" leaves it if the command fails
		return nil, failure.Usage("%q is empty, not a certificate", path)
	}
	certificate, err := x509.ParseCertificate(data)
	if err != nil {
		return nil, failure.Usage("%q is not a certificate: %v", path, err)
	}
	return certificate, nil
}
