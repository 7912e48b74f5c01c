package hsmkeys_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// recoverWithOpenSSL runs the script of which docs/recovery.md tells.
func recoverWithOpenSSL(t *testing.T, env []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.Command("scripts/recover-with-openssl.sh", args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
		status = exit.ExitCode()
	}
	return strings.TrimSpace(out.String()), errs.String(), status
}

func writePEM(t *testing.T, dir, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// inFile is a backup authority whose key is in a file.
func inFile(t *testing.T, dir, name string, key crypto.Signer) (path string, m blob.Member) {
	t.Helper()
	id, err := blob.PublicKeyID(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, SubjectKeyId: id,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, dir, name+".key", "PRIVATE KEY", pkcs8), blob.Member{Role: blob.BackupAuthority, Label: name, Certificate: certificate}
}

func TestRecoveryWithOpenSSLAlone(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	office := newSite(t, "office")
	k, store, at := office.found(t)
	cert := writePEM(t, dir, "office.pem", "CERTIFICATE", office.cert.Raw)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.Signer{"rsa": rsaKey}
	for name, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()} {
		if keys[name], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{}
	for name, key := range keys {
		var m blob.Member
		files[name], m = inFile(t, dir, name, key)
		add(t, k, m)
	}
	for name, algorithm := range map[string]keyspec.Algorithm{"site-b/payroll": keyspec.AES256, "short": keyspec.AES128, "mac": keyspec.HMACSHA512} {
		if _, err := k.Create(ctx, name, algorithm, 0); err != nil {
			t.Fatal(err)
		}
		value, err := k.Reveal(ctx, hsmkeys.Ref{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(at, pathOf(t, store, name, 1, 1))
		for kind, file := range files {
			out, errs, status := recoverWithOpenSSL(t, nil, path, cert, file)
			if status != 0 || out != hex.EncodeToString(value) || !strings.Contains(errs, "genuine: key "+name+", version 1, revision 1") {
				t.Errorf("%s, %s: status %d, %s", name, kind, status, errs)
			}
		}
		if name != "short" {
			continue
		}
		// The token's own pair, through OpenSSL's PKCS #11 engine.
		pin := filepath.Join(dir, "pin")
		key := "pkcs11:token=" + url.PathEscape(office.soft.Label) + ";id=" + percent(office.id()) + ";type=private?pin-source="
		onToken := append(env.Environ(), "PKCS11_MODULE_PATH="+env.Module())
		for _, test := range []struct {
			name, content, source string
			status                int
		}{
			{"without a line ending", office.soft.PIN, "file:" + pin, 0},
			{"with a line ending", office.soft.PIN + "\n", "file:" + pin, 0},
			{"with the line ending of Windows", office.soft.PIN + "\r\n", pin, 0},
			{"in a file with an escaped name", office.soft.PIN + "\n", "file://localhost" + strings.ReplaceAll(pin, "pin", "%70%69n"), 0},
			{"none", "\n", "file:" + pin, 2},
			{"two lines", office.soft.PIN + "\n\n", "file:" + pin, 2},
			{"no file", office.soft.PIN, "file:" + pin + "-missing", 2},
			{"a broken escape", office.soft.PIN, "file:" + pin + "%7", 2},
		} {
			if err := os.WriteFile(pin, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			out, errs, status := recoverWithOpenSSL(t, onToken, path, cert, key+test.source)
			if status != test.status || status == 0 && out != hex.EncodeToString(value) || strings.Contains(errs, office.soft.PIN) {
				t.Errorf("with the token, the PIN %s: status %d, want %d: %s", test.name, status, test.status, errs)
			}
		}
		out, errs, status := recoverWithOpenSSL(t, onToken, path, cert, strings.TrimSuffix(key, "pin-source=")+"pin-value="+office.soft.PIN)
		if status != 2 || out != "" || strings.Contains(errs, office.soft.PIN) {
			t.Errorf("with the PIN in the URI: status %d, %s", status, errs)
		}
	}

	t.Run("OAEP with SHA-256 and with SHA-1", func(t *testing.T) {
		value := bytes.Repeat([]byte{7}, 32)
		for hash, h := range map[crypto.Hash]func() ([]byte, error){
			crypto.SHA256: func() ([]byte, error) {
				return rsa.EncryptOAEP(sha256.New(), rand.Reader, &rsaKey.PublicKey, value, nil)
			},
			crypto.SHA1: func() ([]byte, error) { return rsa.EncryptOAEP(sha1.New(), rand.Reader, &rsaKey.PublicKey, value, nil) },
		} {
			wrapped, err := h()
			if err != nil {
				t.Fatal(err)
			}
			id, err := blob.PublicKeyID(rsaKey.Public())
			if err != nil {
				t.Fatal(err)
			}
			// The other recipient has the other hash, and must not be taken for this one.
			b, err := signAs(t, office, k, "by-hand", func(_ *blob.Descriptor, c *blob.Content) {
				c.Recipients = append(c.Recipients, blob.Recipient{Identifier: id, Key: &keyspec.KeyTransport{OAEPHash: hash, EncryptedKey: wrapped}})
			})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "by-hand.cms")
			if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, errs, status := recoverWithOpenSSL(t, nil, path, cert, files["rsa"]); status != 0 || out != hex.EncodeToString(value) {
				t.Errorf("%v: status %d, %s", hash, status, errs)
			}
		}
	})

	t.Run("what is not genuine is refused", func(t *testing.T) {
		genuine, err := store.Get(ctx, pathOf(t, store, "short", 1, 1))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "tampered.cms")
		refused := func(name string, data []byte, cert string) {
			t.Helper()
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, errs, status := recoverWithOpenSSL(t, nil, path, cert, files["p256"]); status != 3 || out != "" {
				t.Errorf("%s: status %d, %d bytes on stdout, %s", name, status, len(out), errs)
			}
		}
		// Not every bit: OpenSSL reads BER, and versions that it does not look at.
		for _, mark := range [][]byte{[]byte("short"), office.id(), {0x04, 0x01, 0x05}} {
			i := bytes.Index(genuine, mark)
			if i < 0 {
				t.Fatalf("%x is not there", mark)
			}
			changed := bytes.Clone(genuine)
			changed[i+len(mark)-1] ^= 1
			refused("changed "+hex.EncodeToString(mark), changed, cert)
		}
		refused("something behind it", append(bytes.Clone(genuine), 0, 0, 0), cert)
		for i := 200; i < len(genuine); i += 97 {
			changed := bytes.Clone(genuine)
			changed[i] ^= 4
			if err := os.WriteFile(path, changed, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, _, status := recoverWithOpenSSL(t, nil, path, cert, files["p256"]); status == 0 || out != "" {
				t.Errorf("byte %d changed: status %d", i, status)
			}
		}
		_, other := inFile(t, dir, "stranger", must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
		refused("another signer", genuine, writePEM(t, dir, "stranger.pem", "CERTIFICATE", other.Certificate.Raw))
		refused("cut", genuine[:len(genuine)-1], cert)
		refused("empty", nil, cert)
		checkpoint, err := store.Get(ctx, blob.SlotPath(1))
		if err != nil {
			t.Fatal(err)
		}
		refused("a checkpoint", checkpoint, cert)
		if _, err := k.CreateFromPassword(ctx, "password", hsmkeys.NewKey{Algorithm: keyspec.AES256}, blob.PBKDF2, []byte(goodPassword)); err != nil {
			t.Fatal(err)
		}
		record, err := store.Get(ctx, pathOf(t, store, "password", 1, 1))
		if err != nil {
			t.Fatal(err)
		}
		refused("a derivation record", record, cert)

		path = filepath.Join(at, pathOf(t, store, "short", 1, 1))
		if out, _, status := recoverWithOpenSSL(t, nil, path, cert, filepath.Join(dir, "stranger.key")); status != 4 || out != "" {
			t.Errorf("the key of nobody: status %d", status)
		}
		for _, args := range [][]string{{}, {path, cert}, {path, cert, filepath.Join(dir, "none")}, {filepath.Join(dir, "none"), cert, files["rsa"]}} {
			if out, _, status := recoverWithOpenSSL(t, nil, args...); status != 2 || out != "" {
				t.Errorf("%q: status %d", args, status)
			}
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// percent writes an id as a PKCS #11 URI has it.
func percent(id []byte) string {
	var out strings.Builder
	for _, b := range id {
		out.WriteString("%" + hex.EncodeToString([]byte{b}))
	}
	return out.String()
}
