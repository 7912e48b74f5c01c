package blob

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // OAEP of tokens that have nothing newer
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"hash"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// These tests hold our blobs against programs that others wrote. A blob that
// only we can read would be no archive, so a missing program is a failure.

// run gives what a program prints. fails says that it must.
func run(t *testing.T, fails bool, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatalf("%v: install OpenSSL and GnuTLS's certtool to run the tests", err)
	}
	if fails != (err != nil) {
		t.Errorf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func writeFile(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	at := filepath.Join(dir, name)
	if err := os.WriteFile(at, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return at
}

func writePEM(t *testing.T, dir, name, kind string, der []byte) string {
	t.Helper()
	return writeFile(t, dir, name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestOpenSSLAndGnuTLSVerifyOurSignatures(t *testing.T) {
	t.Parallel()
	for _, s := range signers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			dir, key := t.TempDir(), s.key()
			blob := mustSign(t, payroll(), holders(key), key, s.scheme)
			as := Signer{Key: key, Scheme: s.scheme}
			cert := writePEM(t, dir, "cert.pem", "CERTIFICATE", certificate(key).Raw)
			inner := filepath.Join(dir, "inner.der")
			openssl := func(fails bool, der []byte) {
				t.Helper()
				in := writeFile(t, dir, "in.der", der)
				run(t, fails, "openssl", "cms", "-verify", "-inform", "DER", "-in", in, "-certfile", cert, "-CAfile", cert, "-purpose", "any", "-binary", "-out", inner)
			}
			gnutls := func(fails bool, der []byte) {
				t.Helper()
				in := writeFile(t, dir, "in.der", der)
				run(t, fails, "certtool", "--p7-verify", "--inder", "--load-certificate", cert, "--infile", in)
			}
			// What they take out is what was signed.
			for _, object := range []struct{ der, content []byte }{
				{must(SignCheckpoint(seventh(), as, signed)).Bytes(), must(seventh().marshal())},
				{must(SignProof(threeOpened(), as, signed)).Bytes(), must(threeOpened().marshal())},
			} {
				openssl(false, object.der)
				gnutls(false, object.der)
				if got := readFile(t, inner); !bytes.Equal(got, object.content) {
					t.Errorf("openssl finds %x", got)
				}
				changed := flip(object.der, bytes.Index(object.der, object.content)+len(object.content)-1)
				openssl(true, changed)
				gnutls(true, changed)
			}
			recovered := mustSign(t, recovered(), holders(key), key, s.scheme)
			openssl(false, recovered)
			gnutls(false, recovered)
			openssl(true, bytes.Replace(recovered, []byte("does not answer"), []byte("does too answer"), 1))
			openssl(false, blob)
			gnutls(false, blob)

			printed := run(t, false, "openssl", "cms", "-cmsout", "-print", "-inform", "DER", "-in", inner)
			for _, want := range []string{
				"pkcs7-envelopedData", "d.ktri", "rsaesOaep", "mgf1", "sha256",
				"d.kari", "dhSinglePass-stdDH-sha256kdf-scheme", "id-aes256-wrap", "<ABSENT>", hexDump(keyID(key)),
			} {
				if !strings.Contains(strings.ToLower(printed), strings.ToLower(want)) {
					t.Errorf("openssl does not show %q:\n%s", want, printed)
				}
			}

			// They notice what we notice. The first is the content, the
			// second the signature.
			for _, i := range []int{bytes.Index(blob, []byte{0xe1, 0xe1, 0xe1}), len(blob) - 1} {
				openssl(true, flip(blob, i))
				gnutls(true, flip(blob, i))
			}
			name := bytes.Replace(blob, []byte("payroll"), []byte("billing"), 1)
			openssl(true, name)
			gnutls(true, name)
			stranger := mustSign(t, payroll(), holders(key), strangerP256(), keyspec.ECDSA)
			openssl(true, stranger)
			gnutls(true, stranger)
		})
	}
}

// hexDump is how OpenSSL prints the first bytes of an OCTET STRING.
func hexDump(b []byte) string { return fmt.Sprintf("% x", b[:8]) }

// Recovery with OpenSSL alone rests on this: it opens what is wrapped to a
// holder the way our recipients say.
func TestOpenSSLOpensWhatIsWrappedToOurRecipients(t *testing.T) {
	t.Parallel()
	sessionKey := make([]byte, 32)
	rand.Read(sessionKey)
	rsaRecipient := func(h crypto.Hash, make func() hash.Hash) func(crypto.Signer) Recipient {
		return func(key crypto.Signer) Recipient {
			wrapped := must(rsa.EncryptOAEP(make(), rand.Reader, key.Public().(*rsa.PublicKey), sessionKey, nil))
			return Recipient{Identifier: keyID(key), Key: &keyspec.KeyTransport{OAEPHash: h, EncryptedKey: wrapped}}
		}
	}
	ecRecipient := func(key crypto.Signer) Recipient { return agree(t, key, sessionKey) }
	for _, test := range []struct {
		name      string
		key       crypto.Signer
		recipient func(crypto.Signer) Recipient
	}{
		{"OAEP with SHA-256", ownerRSA(), rsaRecipient(crypto.SHA256, sha256.New)},
		{"OAEP with SHA-1", ownerRSA(), rsaRecipient(crypto.SHA1, crypto.SHA1.New)},
		{"ECDH on P-256", ownerP256(), ecRecipient},
		{"ECDH on P-384", ownerP384(), ecRecipient},
		{"ECDH on P-521", ownerP521(), ecRecipient},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			recipient := test.recipient(test.key)
			if err := recipient.validate(keyspec.AES256); err != nil {
				t.Fatal(err)
			}
			message := []byte("sixteen bytes...")
			der := seq(oid(1, 2, 840, 113549, 1, 7, 3), tlv(0xa0, seq(
				tlv(2, []byte{2}),
				tlv(0x31, must(recipient.marshal())),
				encryptCBC(sessionKey, message),
			)))
			key := writePEM(t, dir, "key.pem", "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(test.key)))
			cert := writePEM(t, dir, "cert.pem", "CERTIFICATE", certificate(test.key).Raw)
			in, out := writeFile(t, dir, "in.der", der), filepath.Join(dir, "out")
			run(t, false, "openssl", "cms", "-decrypt", "-inform", "DER", "-in", in, "-inkey", key, "-recip", cert, "-binary", "-out", out)
			if got, err := os.ReadFile(out); !bytes.Equal(got, message) {
				t.Errorf("openssl finds %q, %v", got, err)
			}
		})
	}
}

// OpenSSL's own key agreement recipients are byte for byte of our form.
func TestWeReadOpenSSLsKeyAgreement(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		key crypto.Signer
		kdf string
	}{{ownerP256(), "sha256"}, {ownerP384(), "sha384"}, {ownerP521(), "sha512"}} {
		dir := t.TempDir()
		cert := writePEM(t, dir, "cert.pem", "CERTIFICATE", certificate(test.key).Raw)
		in, out := writeFile(t, dir, "in", []byte("message")), filepath.Join(dir, "out.der")
		run(t, false, "openssl", "cms", "-encrypt", "-in", in, "-binary", "-outform", "DER", "-out", out, "-aes-256-cbc",
			"-keyid", "-recip", cert, "-keyopt", "ecdh_kdf_md:"+test.kdf, "-aes256-wrap")
		der, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		d := decode("test", der)
		info := d.sequence("contentInfo")
		info.oidIs("contentType", oidEnvelopedData)
		body := info.part("content", tagged(0).Constructed()).sequence("envelopedData")
		body.version(2)
		element := body.octets("recipientInfos", 0x31)
		r := decode("test", element).recipient()
		if *d.err != nil || !isAgreement(r) || !bytes.Equal(r.Identifier, keyID(test.key)) || r.validate(keyspec.AES256) != nil {
			t.Fatalf("%v, %v", r, *d.err)
		}
		if again, err := r.marshal(); !bytes.Equal(again, element) {
			t.Errorf("OpenSSL writes %x, we write %x, %v", element, again, err)
		}
	}
}

// encryptCBC gives an EncryptedContentInfo.
func encryptCBC(key, message []byte) []byte {
	iv := make([]byte, 16)
	padded := append(bytes.Clone(message), bytes.Repeat([]byte{16}, 16)...)
	cipher.NewCBCEncrypter(must(aes.NewCipher(key)), iv).CryptBlocks(padded, padded)
	return seq(oid(1, 2, 840, 113549, 1, 7, 1), seq(oid(2, 16, 840, 1, 101, 3, 4, 1, 42), tlv(4, iv)), tlv(0x80, padded))
}

// agree wraps key to an EC holder as RFC 5753 §3.1 says.
func agree(t *testing.T, holder crypto.Signer, key []byte) Recipient {
	t.Helper()
	public := must(holder.Public().(*ecdsa.PublicKey).ECDH())
	ephemeral := must(public.Curve().GenerateKey(rand.Reader))
	newHash := map[ecdh.Curve]crypto.Hash{ecdh.P256(): crypto.SHA256, ecdh.P384(): crypto.SHA384, ecdh.P521(): crypto.SHA512}[public.Curve()]
	// ECC-CMS-SharedInfo (RFC 5753 §7.2): the wrapping algorithm, and the
	// length of its key in bits.
	shared := seq(seq(oid(2, 16, 840, 1, 101, 3, 4, 1, 45)), tlv(0xa2, tlv(4, []byte{0, 0, 1, 0})))
	h := newHash.New() // one block of X9.63 is enough for 32 bytes
	h.Write(must(ephemeral.ECDH(public)))
	h.Write([]byte{0, 0, 0, 1})
	h.Write(shared)
	wrapped := wrapKey(h.Sum(nil)[:32], key)
	return Recipient{Identifier: keyID(holder), Key: &keyspec.KeyAgreement{Ephemeral: ephemeral.PublicKey(), EncryptedKey: wrapped}}
}

// wrapKey is AES key wrap (RFC 3394 §2.2.1).
func wrapKey(kek, key []byte) []byte {
	block := must(aes.NewCipher(kek))
	n := len(key) / 8
	out := append(bytes.Repeat([]byte{0xa6}, 8), key...)
	for j := range 6 {
		for i := 1; i <= n; i++ {
			b := append(bytes.Clone(out[:8]), out[8*i:8*i+8]...)
			block.Encrypt(b, b)
			copy(out[8*i:], b[8:])
			binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(b)^uint64(n*j+i))
		}
	}
	return out
}
