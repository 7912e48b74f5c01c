package keyfile

import (
	"bytes"
	"context"
	"crypto"
	"crypto/cipher"
	"crypto/des"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/hint"
)

// keyFiles makes files of private keys in a directory of its own, with OpenSSL and
// certtool.
type keyFiles struct {
	t   *testing.T
	dir string
}

func newKeyFiles(t *testing.T) keyFiles {
	k := keyFiles{t, t.TempDir()}
	k.run("openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem")
	k.run("openssl req -x509 -new -key key.pem -subj /CN=x -out x.crt")
	k.run("openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem")
	return k
}

func (k keyFiles) run(line string) {
	k.t.Helper()
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = k.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("%s: %v: %s", line, err, out)
	}
}

func (k keyFiles) read(name string) []byte {
	k.t.Helper()
	data, err := os.ReadFile(filepath.Join(k.dir, name))
	if err != nil {
		k.t.Fatal(err)
	}
	return data
}

func (k keyFiles) key(name string) crypto.Signer {
	k.t.Helper()
	block, _ := pem.Decode(k.read(name))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		k.t.Fatal(err)
	}
	return key.(crypto.Signer)
}

// What other programs write is read: with the right password, after asking for it once
// or not at all, and with another one it is refused as that.
func TestPrivateKeysOfOtherPrograms(t *testing.T) {
	k := newKeyFiles(t)
	want := k.key("key.pem")
	const pkcs8, pkcs12, legacy = "openssl pkcs8 -topk8 -in key.pem -out out ", "openssl pkcs12 -export -inkey key.pem -in x.crt -out out ", " -provider default -provider legacy "
	for name, test := range map[string]struct {
		make     string
		password string
		asked    int
	}{
		"PKCS #8":                                {"cp key.pem out", "", 0},
		"a traditional EC key":                   {"openssl ec -in key.pem -out out", "", 0},
		"a traditional EC key in DER":            {"openssl ec -in key.pem -outform DER -out out", "", 0},
		"PKCS #8, DER":                           {pkcs8 + "-nocrypt -outform DER", "", 0},
		"a certificate first":                    {"cat x.crt key.pem >out", "", 0},
		"a certificate behind":                   {"cat key.pem x.crt >out", "", 0},
		"parameters, certificate, encrypted":     {pkcs8 + "-passout pass:horse; openssl ecparam -name prime256v1 >all; cat x.crt out >>all; mv all out", "horse", 1},
		"what openssl pkcs12 prints":             {pkcs12 + "-passout pass:; openssl pkcs12 -in out -passin pass: -nodes >all; mv all out", "", 0},
		"lines that end as on Windows":           {"sed 's/$/\\r/' x.crt key.pem >out", "", 0},
		"a byte order mark":                      {"printf '\\357\\273\\277' >out; cat key.pem >>out", "", 0},
		"PBES2":                                  {pkcs8 + "-passout pass:horse", "horse", 1},
		"PBES2, DER":                             {pkcs8 + "-passout pass:horse -outform DER", "horse", 1},
		"PBES2, 3DES":                            {pkcs8 + "-passout pass:horse -v2 des3", "horse", 1},
		"PBES2, DES":                             {pkcs8 + "-passout pass:horse -v2 des" + legacy, "horse", 1},
		"PBES2, AES-128, SHA-1":                  {pkcs8 + "-passout pass:horse -v2 aes128 -v2prf hmacWithSHA1", "horse", 1},
		"PBES2, AES-192, SHA-512":                {pkcs8 + "-passout pass:horse -v2 aes192 -v2prf hmacWithSHA512", "horse", 1},
		"PBES2, SHA-224":                         {pkcs8 + "-passout pass:horse -v2 aes256 -v2prf hmacWithSHA224", "horse", 1},
		"PBES2, SHA-384":                         {pkcs8 + "-passout pass:horse -v2 aes256 -v2prf hmacWithSHA384", "horse", 1},
		"PBES2, scrypt":                          {pkcs8 + "-passout pass:horse -scrypt", "horse", 1},
		"PBES2, empty password":                  {pkcs8 + "-passout pass:", "", 0},
		"PBES2, password not UTF-8":              {pkcs8 + "-passout pass:$(printf 'h\\344st')", "h\xe4st", 1},
		"PBES1, MD5, DES":                        {pkcs8 + "-passout pass:horse -v1 PBE-MD5-DES" + legacy, "horse", 1},
		"PBES1, SHA-1, DES":                      {pkcs8 + "-passout pass:horse -v1 PBE-SHA1-DES" + legacy, "horse", 1},
		"PBES1, once":                            {pkcs8 + "-passout pass:horse -v1 PBE-MD5-DES -noiter" + legacy, "horse", 1},
		"PBES1, empty password":                  {pkcs8 + "-passout pass: -v1 PBE-SHA1-DES" + legacy, "", 0},
		"PKCS #12's 3DES":                        {pkcs8 + "-passout pass:horse -v1 PBE-SHA1-3DES", "horse", 1},
		"PKCS #12's 3DES with two keys":          {pkcs8 + "-passout pass:horse -v1 PBE-SHA1-2DES", "horse", 1},
		"PKCS #12's RC4":                         {pkcs8 + "-passout pass:horse -v1 PBE-SHA1-RC4-128" + legacy, "horse", 1},
		"PKCS #12's RC4 of 40 bits":              {pkcs8 + "-passout pass:horse -v1 PBE-SHA1-RC4-40" + legacy, "horse", 1},
		"PKCS #12's 3DES, empty password":        {pkcs8 + "-passout pass: -v1 PBE-SHA1-3DES", "", 0},
		"PKCS #12's 3DES, a password in Greek":   {pkcs8 + "-passout pass:ίππος -v1 PBE-SHA1-3DES", "ίππος", 1},
		"PKCS #12's 3DES, a long password":       {pkcs8 + "-passout pass:" + strings.Repeat("horse", 20) + " -v1 PBE-SHA1-3DES", strings.Repeat("horse", 20), 1},
		"certtool's PKCS #8":                     {"certtool --to-p8 --load-privkey key.pem --pkcs-cipher aes-256 --password horse --outfile out", "horse", 1},
		"certtool's PKCS #8, 3DES, DER":          {"certtool --to-p8 --load-privkey key.pem --pkcs-cipher 3des --password horse --outder --outfile out", "horse", 1},
		"certtool's PKCS #8, PKCS #12's 3DES":    {"certtool --to-p8 --load-privkey key.pem --pkcs-cipher 3des-pkcs12 --password horse --outfile out", "horse", 1},
		"certtool's PKCS #12":                    {"certtool --to-p12 --load-privkey key.pem --load-certificate x.crt --p12-name x --password horse --outder --outfile out", "horse", 1},
		"certtool's PKCS #12, empty password":    {"certtool --to-p12 --load-privkey key.pem --load-certificate x.crt --p12-name x --empty-password --outder --outfile out", "", 0},
		"PKCS #12":                               {pkcs12 + "-passout pass:horse", "horse", 1},
		"PKCS #12, empty password":               {pkcs12 + "-passout pass:", "", 0},
		"PKCS #12, empty password, as of 2004":   {pkcs12 + "-passout pass: -legacy", "", 0},
		"PKCS #12 as of 2004":                    {pkcs12 + "-passout pass:horse -legacy", "horse", 1},
		"PKCS #12, MAC with SHA-1":               {pkcs12 + "-passout pass:horse -macalg sha1", "horse", 1},
		"PKCS #12, MAC with SHA-512":             {pkcs12 + "-passout pass:horse -macalg sha512", "horse", 1},
		"PKCS #12, MAC once":                     {pkcs12 + "-passout pass:horse -nomaciter", "horse", 1},
		"PKCS #12, nothing encrypted":            {pkcs12 + "-passout pass:horse -keypbe NONE -certpbe NONE", "horse", 1},
		"PKCS #12, a chain":                      {"openssl req -x509 -newkey rsa:1024 -nodes -keyout /dev/null -subj /CN=ca -out ca.crt; " + pkcs12 + "-passout pass:horse -certfile ca.crt", "horse", 1},
		"PKCS #12, a friendly name and a CSP":    {pkcs12 + "-passout pass:horse -name friend -CSP 'Microsoft Enhanced RSA and AES Cryptographic Provider'", "horse", 1},
		"PKCS #12's key as openssl prints it":    {pkcs12 + "-passout pass:horse; openssl pkcs12 -in out -passin pass:horse -nocerts -passout pass:pony >all; mv all out", "pony", 1},
		"PKCS #12, nothing encrypted and no MAC": {pkcs12 + "-passout pass: -keypbe NONE -certpbe NONE -nomac", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			k.t = t
			k.run(test.make)
			asked := 0
			answer := func(password string) askPassword {
				return func() ([]byte, error) { asked++; return []byte(password), nil }
			}
			got, err := Parse(t.Context(), "FILE", k.read("out"), answer(test.password))
			if err != nil || !got.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(want.Public()) {
				t.Fatalf("%v", err)
			}
			if asked != test.asked {
				t.Errorf("the password was asked for %d times, not %d", asked, test.asked)
			}
			if test.asked == 0 {
				return
			}
			if _, err := Parse(t.Context(), "FILE", k.read("out"), answer("mule")); !errors.Is(err, hsmkeys.ErrPassword) || failure.Status(err) != failure.StatusToken {
				t.Errorf("with a wrong password: %v", err)
			}
		})
	}
}

// Each file that is not read is refused with the name of what it is, and nobody is asked
// for a password that opens nothing.
func TestPrivateKeysThatAreNotRead(t *testing.T) {
	k := newKeyFiles(t)
	const pkcs8, pkcs12, legacy = "openssl pkcs8 -topk8 -in key.pem -out out ", "openssl pkcs12 -export -inkey key.pem -in x.crt -out out ", " -provider default -provider legacy "
	for name, test := range map[string]struct {
		make  string
		asks  bool
		says  string
		hints string
	}{
		"nothing":                      {"true >out", false, "neither PKCS #8 nor PKCS #12 nor a PRIVATEKEYBLOB", ""},
		"text":                         {"echo correct horse >out", false, "neither PKCS #8 nor", ""},
		"a certificate":                {"cp x.crt out", false, `PEM of type CERTIFICATE, and no PRIVATE KEY`, ""},
		"a certificate in DER":         {"openssl x509 -in x.crt -outform DER -out out", false, "a certificate", ""},
		"a public key":                 {"openssl pkey -in key.pem -pubout -outform DER -out out", false, "a public key", ""},
		"a traditional key, encrypted": {"openssl rsa -in rsa.pem -traditional -aes128 -passout pass:horse -out out", false, "Proc-Type: 4,ENCRYPTED", "openssl pkcs8 -topk8"},
		"a PVK file":                   {"printf '\\036\\361\\265\\260\\0\\0\\0\\0' >out", false, "PVK", "openssl rsa -inform PVK"},
		"two keys":                     {"cat key.pem rsa.pem >out", false, "2 private keys", ""},
		"PEM that is cut":              {"head -c 150 key.pem >out", false, "PEM block that cannot be read", ""},
		"a curve of nobody":            {"openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out out", false, `PKCS #8 "FILE": `, ""},
		"a DSA key":                    {"openssl dsaparam -out p.pem 1024; openssl gendsa p.pem | openssl pkcs8 -topk8 -nocrypt -out out", false, `PKCS #8 "FILE": `, ""},
		"an X25519 key":                {"openssl genpkey -quiet -algorithm X25519 -out out", false, "does not sign", ""},
		"a changed PKCS #8":            {pkcs8 + "-nocrypt -outform DER; printf '\\377' | dd of=out bs=1 seek=30 conv=notrunc", false, `PKCS #8 "FILE": `, ""},
		"a byte behind":                {pkcs8 + "-nocrypt -outform DER; printf x >>out", false, "neither PKCS #8 nor", ""},
		"PKCS #12 cut":                 {pkcs12 + "-passout pass:horse; head -c 500 out >cut; mv cut out", false, "neither PKCS #8 nor", ""},
		"PKCS #12 without key":         {pkcs12 + "-nokeys -passout pass:", false, `PKCS #12 "FILE" holds no private key`, ""},
		"PKCS #12 with no certificate": {"openssl pkcs12 -export -nocerts -inkey key.pem -out out -passout pass:", false, `PKCS #12 "FILE": certificate missing`, "openssl pkcs12 -in"},
		"PKCS #12 without MAC":         {pkcs12 + "-passout pass:horse -nomac", false, `PKCS #12 "FILE": it is encrypted and has no MAC`, "openssl pkcs12 -in"},
		"PKCS #12, MAC with SHA-384":   {pkcs12 + "-passout pass:horse -macalg sha384", false, `PKCS #12 "FILE": MAC digest`, "openssl pkcs12 -in"},
		"PKCS #12 in BER":              {pkcs12 + "-passout pass:horse; (printf '0\\200'; tail -c +5 out; printf '\\0\\0') >ber; mv ber out", false, "BER", "openssl pkcs12 -in"},
		"PBES1 with RC2":               {pkcs8 + "-passout pass:horse -v1 PBE-SHA1-RC2-64" + legacy, false, `encrypted PKCS #8 "FILE": encryption with 1.2.840.113549.1.5.11 is not supported`, "openssl pkcs8 -topk8"},
		"PBES1 with MD2":               {pkcs8 + "-passout pass:horse -v1 PBE-MD5-RC2-64" + legacy, false, `encrypted PKCS #8 "FILE": encryption with 1.2.840.113549.1.5.6`, "openssl pkcs8 -topk8"},
		"PBES2 with Camellia":          {pkcs8 + "-passout pass:horse -v2 camellia-256-cbc", false, `encrypted PKCS #8 "FILE": encryption with`, "openssl pkcs8 -topk8"},
		"a PRIVATEKEYBLOB cut":         {"openssl rsa -in rsa.pem -outform MSBLOB | head -c 500 >out", false, "malformed CryptoAPI key BLOB", ""},
		"a PUBLICKEYBLOB":              {"openssl rsa -in rsa.pem -pubout -outform MSBLOB >out", false, "neither PKCS #8 nor", ""},
	} {
		t.Run(name, func(t *testing.T) {
			k.t = t
			k.run(test.make)
			asked := false
			key, err := Parse(t.Context(), "FILE", k.read("out"), func() ([]byte, error) { asked = true; return []byte("horse"), nil })
			if err == nil || key != nil || !strings.Contains(err.Error(), test.says) || failure.Status(err) != failure.StatusUsage {
				t.Errorf("%v, status %d", err, failure.Status(err))
			}
			if hint := hint.For(err); !strings.HasPrefix(hint, test.hints) || test.hints == "" && hint != "" {
				t.Errorf("hint %q", hint)
			}
			if asked != test.asks {
				t.Errorf("a password was asked for: %v", asked)
			}
		})
	}
}

// How often a password is hashed has bounds.
func TestIterationsAreBounded(t *testing.T) {
	k := newKeyFiles(t)
	k.run("openssl pkcs8 -topk8 -in key.pem -out out -outform DER -passout pass:horse -iter 65537")
	negative := bytes.ReplaceAll(k.read("out"), []byte{2, 3, 1, 0, 1}, []byte{2, 3, 0x80, 0, 1})
	if _, err := Parse(t.Context(), "FILE", negative, nil); err == nil || !strings.Contains(err.Error(), "hashed -8388607 times is not supported") {
		t.Error(err)
	}
	for n, want := range map[int]bool{-1: false, 0: false, 1: true, maxIterations: true, maxIterations + 1: false} {
		if err := checkIterations(n); (err == nil) != want || err != nil && !errors.Is(err, errKeyUnsupported) {
			t.Errorf("%d: %v", n, err)
		}
	}
	huge := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}}
	for _, n := range [][3]int{{1 << 30, 8, 1}, {1 << 14, 1 << 30, 1}, {1 << 14, 8, 1 << 30}, {0, 8, 1}, {1 << 14, 0, 1}} {
		parameters, err := asn1.Marshal(struct {
			Salt    []byte
			N, R, P int
		}{[]byte("salt"), n[0], n[1], n[2]})
		if err != nil {
			t.Fatal(err)
		}
		huge.Parameters.FullBytes = parameters
		if _, err := pbes2Key(huge, []byte("horse"), 32); !errors.Is(err, errKeyUnsupported) {
			t.Errorf("scrypt with %v: %v", n, err)
		}
	}
}

// A password that takes long to check does not keep the program from being stopped.
func TestAFileThatHashesForLongIsInterrupted(t *testing.T) {
	k := newKeyFiles(t)
	k.run("openssl pkcs12 -export -inkey key.pem -in x.crt -out out -passout pass:horse -iter 65537")
	data := bytes.ReplaceAll(k.read("out"), []byte{2, 3, 1, 0, 1}, []byte{2, 3, 0x7f, 0xff, 0xff}) // an INTEGER
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Parse(ctx, "FILE", data, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What is read is a key or an error, whatever it is.
// endlessPKCS12 returns files that have the password hashed 2^55-1 times: for the MAC, for a
// content, and for the key in a content that is not encrypted, and in one that is.
func endlessPKCS12(t testing.TB) map[string][]byte {
	t.Helper()
	const endless = 1<<55 - 1
	der := func(value any) []byte {
		t.Helper()
		out, err := asn1.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	explicit := func(value []byte) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: value}
	}
	type parameters struct {
		Salt       []byte
		Iterations int
	}
	tripleDES := func(iterations int) pkix.AlgorithmIdentifier {
		return pkix.AlgorithmIdentifier{Algorithm: append(slices.Clone(oidPKCS12PBE), 3), Parameters: asn1.RawValue{FullBytes: der(parameters{make([]byte, 8), iterations})}}
	}
	pbkdf2 := func(iterations int) pkix.AlgorithmIdentifier {
		return pkix.AlgorithmIdentifier{Algorithm: oidPBKDF2, Parameters: asn1.RawValue{FullBytes: der(parameters{make([]byte, 8), iterations})}}
	}
	pbes2 := pkix.AlgorithmIdentifier{Algorithm: oidPBES2, Parameters: asn1.RawValue{FullBytes: der(struct{ KDF, Cipher pkix.AlgorithmIdentifier }{
		pbkdf2(endless), pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, Parameters: asn1.RawValue{FullBytes: der(make([]byte, 16))}}})}}
	bags := func(algorithm pkix.AlgorithmIdentifier) []byte {
		key := struct {
			Algorithm pkix.AlgorithmIdentifier
			Data      []byte
		}{algorithm, make([]byte, 16)}
		return der([]pkcs12Bag{{Type: oidEncryptedKey, Value: explicit(der(key))}})
	}
	encrypted := func(algorithm pkix.AlgorithmIdentifier, data []byte) pkcs12Content {
		in := pkcs12Encrypted{}
		in.Info.Type, in.Info.Algorithm, in.Info.Data = oidData, algorithm, data
		return pkcs12Content{oidEncrypted, explicit(der(in))}
	}
	file := func(mac pkcs12MAC, contents ...pkcs12Content) []byte {
		f := pkcs12File{Version: 3, AuthSafe: pkcs12Content{oidData, explicit(der(der(contents)))}, MAC: mac}
		return der(f)
	}
	data := func(bags []byte) pkcs12Content { return pkcs12Content{oidData, explicit(der(bags))} }
	mac := func(algorithm pkix.AlgorithmIdentifier, iterations int) (m pkcs12MAC) {
		m.Digest.Algorithm, m.Digest.Digest, m.Salt, m.Iterations = algorithm, make([]byte, 20), make([]byte, 8), iterations
		return m
	}
	sha1 := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}}
	pbmac1 := pkix.AlgorithmIdentifier{Algorithm: oidPBMAC1, Parameters: asn1.RawValue{FullBytes: der(struct{ KDF, MAC pkix.AlgorithmIdentifier }{pbkdf2(endless), sha1})}}

	// What is in an encrypted content is seen with the password alone.
	plain := bags(tripleDES(endless))
	plain = append(plain, bytes.Repeat([]byte{byte(8 - len(plain)%8)}, 8-len(plain)%8)...)
	wide := []byte{0, 0} // the empty password
	block, err := des.NewTripleDESCipher(kdfPKCS12(1, wide, make([]byte, 8), 1, 24))
	if err != nil {
		t.Fatal(err)
	}
	cipher.NewCBCEncrypter(block, kdfPKCS12(2, wide, make([]byte, 8), 1, 8)).CryptBlocks(plain, plain)

	none := mac(sha1, 1)
	return map[string][]byte{
		"MAC":                      file(mac(sha1, endless), data(bags(tripleDES(1)))),
		"PBMAC1":                   file(mac(pbmac1, 1), data(bags(tripleDES(1)))),
		"content":                  file(none, encrypted(tripleDES(endless), make([]byte, 16))),
		"content with PBES2":       file(none, encrypted(pbes2, make([]byte, 16))),
		"key":                      file(none, data(bags(tripleDES(endless)))),
		"key with PBES2":           file(none, data(bags(pbes2))),
		"key in encrypted content": file(none, encrypted(tripleDES(1), plain)),
	}
}

// Nothing is hashed of a file that asks for too much: this test would not end.
func TestPKCS12IsNotHashedWithoutEnd(t *testing.T) {
	for name, data := range endlessPKCS12(t) {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(t.Context(), "FILE", data, func() ([]byte, error) { return nil, errors.New("the password is asked for") })
			if err == nil || !strings.Contains(err.Error(), "a password that is hashed 36028797018963967 times is not supported") {
				t.Errorf("%v", err)
			}
		})
	}
}

func FuzzParsePrivateKey(f *testing.F) {
	defer func(iterations, memory int) { maxIterations, maxScryptMemory = iterations, memory }(maxIterations, maxScryptMemory)
	maxIterations, maxScryptMemory = 3000, 16<<20
	for _, name := range []string{"pbes1.der", "pbes2.der", "scrypt.der", "3des-pkcs12.der", "keytool.p12", "pair.pem"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, endless := range endlessPKCS12(f) {
		f.Add(endless)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := Parse(t.Context(), "FILE", data, func() ([]byte, error) { return []byte("horse"), nil })
		if (key == nil) == (err == nil) {
			t.Errorf("%v, %v", key, err)
		}
	})
}

// keytool's own PKCS #12 of Java 17, which CI has not got.
func TestAPairOfKeytool(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "keytool.p12"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(t.Context(), "FILE", data, func() ([]byte, error) { return []byte("horse1"), nil }); err != nil {
		t.Error(err)
	}
	if _, err := Parse(t.Context(), "FILE", data, func() ([]byte, error) { return []byte("horse"), nil }); !errors.Is(err, hsmkeys.ErrPassword) {
		t.Error(err)
	}
}
