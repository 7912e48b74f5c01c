package main

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"filippo.io/age"
	"filippo.io/age/plugin"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
)

// theAge builds the age command of the version in go.mod, once, and gives its directory.
var theAge = sync.OnceValues(func() (string, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("go", "tool", "-n", "filippo.io/age/cmd/age")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build age: %w\n%s", err, &stderr)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
})

// addAge puts it first on a script's path: an older age of the system may be there too.
func addAge(e *testscript.Env) error {
	dir, err := theAge()
	if err != nil {
		return err
	}
	e.Setenv("AGE", dir)
	e.Setenv("PATH", dir+string(os.PathListSeparator)+e.Getenv("PATH"))
	return nil
}

// agekey IDENTITY RECIPIENT: files with a key of age's own.
func ageKey(ts *testscript.TestScript, neg bool, args []string) {
	identity, err := age.GenerateX25519Identity()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(identity.String()+"\n"), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(identity.Recipient().String()+"\n"), 0o600))
}

// bech32 recipient|identity HEX FILE: what the plugin gets of it is these bytes.
func bech32(ts *testscript.TestScript, neg bool, args []string) {
	data, err := hex.DecodeString(args[1])
	ts.Check(err)
	encode := map[string]func(string, []byte) string{"recipient": plugin.EncodeRecipient, "identity": plugin.EncodeIdentity}[args[0]]
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(encode(hsmkeys.PluginName, data)+"\n"), 0o600))
}

// stanza IN OUT tag|enc|body: one bit of the first stanza is another.
func stanza(ts *testscript.TestScript, neg bool, args []string) {
	lines := strings.SplitAfterN(ts.ReadFile(args[0]), "\n", 4) // version, stanza, body, the rest
	fields := strings.Fields(lines[1])
	part := map[string]*string{"tag": &fields[2], "enc": &fields[3], "body": &lines[2]}[args[2]]
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	at := 2 // behind the 0x04 of a point
	*part = (*part)[:at] + string(digits[strings.IndexByte(digits, (*part)[at])^1]) + (*part)[at+1:]
	lines[1] = strings.Join(fields, " ") + "\n"
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.Join(lines, "")), 0o600))
}

// stolen BLOB IN OUT: a file for the pair, made from what a key blob has wrapped to it.
func stolen(ts *testscript.TestScript, neg bool, args []string) {
	der := []byte(ts.ReadFile(args[0]))
	// The encrypted key is the one OCTET STRING of 256 bytes that has no signature: the first.
	_, wrapped, ok := bytes.Cut(der, []byte{0x04, 0x82, 0x01, 0x00})
	if !ok {
		ts.Fatalf("the blob has no RSA-2048 recipient")
	}
	block, _ := pem.Decode([]byte(ts.ReadFile("owner.pem")))
	certificate, err := x509.ParseCertificate(block.Bytes)
	ts.Check(err)
	enc := wrapped[:256]
	line := strings.Fields(strings.SplitN(ts.ReadFile(args[1]), "\n", 3)[1])
	line[2], line[3] = tagFor(ts, enc, certificate.PublicKey), base64.RawStdEncoding.EncodeToString(enc)
	lines := strings.SplitAfterN(ts.ReadFile(args[1]), "\n", 3)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(lines[0]+strings.Join(line, " ")+"\n"+lines[2]), 0o600))
}

// tagFor is the tag that a stanza has to have to be tried at all: by docs/age.md.
func tagFor(ts *testscript.TestScript, enc []byte, public any) string {
	id, err := blob.PublicKeyID(public)
	ts.Check(err)
	prk, err := hkdf.Extract(sha256.New, append(bytes.Clone(enc), id...), []byte("hsmkeys-rsa v1 tag"))
	ts.Check(err)
	return base64.RawStdEncoding.EncodeToString(prk[:4])
}
