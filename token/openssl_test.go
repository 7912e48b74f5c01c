package token

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/openssltest"
)

// The pair opens what OpenSSL wraps to the certificate of an EC pair: the key agreement is that of
// RFC 5753.
func TestOpenSSLWrapsToAnECPair(t *testing.T) {
	tok := open(t, newToken(t))
	for _, tt := range []struct {
		kind  KeyType
		curve ecdh.Curve
		hash  string
	}{{P256, ecdh.P256(), "sha256"}, {P384, ecdh.P384(), "sha384"}, {P521, ecdh.P521(), "sha512"}} {
		t.Run(tt.kind.String(), func(t *testing.T) {
			p := makePair(t, tok, tt.kind.String(), tt.kind)
			c, err := p.Certify(background, "an EC pair")
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			in, out, certificate := filepath.Join(dir, "in"), filepath.Join(dir, "out"), filepath.Join(dir, "cert.pem")
			const message = "fifteen bytes.."
			for path, content := range map[string][]byte{in: []byte(message), certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})} {
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			openssltest.Run(t, nil, "cms", "-encrypt", "-in", in, "-binary", "-outform", "DER", "-out", out, "-aes-256-cbc",
				"-keyid", "-recip", certificate, "-keyopt", "ecdh_kdf_md:"+tt.hash, "-aes256-wrap")
			der, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			ephemeral, wrapped, iv, encrypted := readEnveloped(t, der)
			public, err := tt.curve.NewPublicKey(ephemeral)
			if err != nil {
				t.Fatal(err)
			}
			key, err := p.Reveal(background, of(encrypts(32), &keyspec.KeyAgreement{Ephemeral: public, EncryptedKey: wrapped}))
			if err != nil {
				t.Fatal(err)
			}
			block, err := aes.NewCipher(key)
			if err != nil {
				t.Fatal(err)
			}
			cipher.NewCBCDecrypter(block, iv).CryptBlocks(encrypted, encrypted)
			if got := string(encrypted[:len(message)]); got != message {
				t.Errorf("it says %q", got)
			}
		})
	}
}

// readEnveloped returns what is needed from an EnvelopedData with one kari (RFC 5652 §6).
func readEnveloped(t *testing.T, der []byte) (ephemeral, wrapped, iv, encrypted []byte) {
	t.Helper()
	type algorithm struct {
		ID         asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
	}
	var info struct {
		Type    asn1.ObjectIdentifier
		Content struct {
			Version    int
			Recipients []asn1.RawValue `asn1:"set"`
			Encrypted  struct {
				Type      asn1.ObjectIdentifier
				Algorithm algorithm
				Content   []byte `asn1:"tag:0"`
			}
		} `asn1:"explicit,tag:0"`
	}
	type kari struct {
		Version    int
		Originator struct {
			Key struct {
				Algorithm algorithm
				Point     asn1.BitString
			} `asn1:"tag:1"`
		} `asn1:"tag:0"`
		Algorithm algorithm
		Keys      []struct {
			ID  asn1.RawValue
			Key []byte
		}
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		t.Fatal(err)
	}
	var r kari
	if _, err := asn1.UnmarshalWithParams(info.Content.Recipients[0].FullBytes, &r, "tag:1"); err != nil {
		t.Fatal(err)
	}
	return r.Originator.Key.Point.Bytes, r.Keys[0].Key, info.Content.Encrypted.Algorithm.Parameters.Bytes, info.Content.Encrypted.Content
}
