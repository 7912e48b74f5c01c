package blob

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var formatDoc = filepath.Join("..", "docs", "format.md")

// oidNames are the names in the document's ASN.1.
var oidNames = map[string]asn1.ObjectIdentifier{
	"id-hsmkeys":                          oidArc,
	"id-hsmkeys-keyDescriptor":            oidKeyDescriptor,
	"id-hsmkeys-checkpoint":               oidCheckpoint,
	"id-hsmkeys-proof":                    oidProof,
	"id-hsmkeys-derivationRecord":         oidDerivationRecord,
	"id-scrypt":                           oidScrypt,
	"id-PBKDF2":                           oidPBKDF2,
	"id-data":                             oidData,
	"id-signedData":                       oidSignedData,
	"id-envelopedData":                    oidEnvelopedData,
	"id-ct-contentInfo":                   oidContentInfo,
	"id-contentType":                      oidContentType,
	"id-messageDigest":                    oidMessageDigest,
	"id-signingTime":                      oidSigningTime,
	"id-sha256":                           oidSHA256,
	"id-sha384":                           oidSHA384,
	"id-sha512":                           oidSHA512,
	"id-RSASSA-PSS":                       oidRSASSAPSS,
	"id-mgf1":                             oidMGF1,
	"sha256WithRSAEncryption":             oidSHA256WithRSA,
	"ecdsa-with-SHA256":                   oidECDSAWithSHA256,
	"ecdsa-with-SHA384":                   oidECDSAWithSHA384,
	"ecdsa-with-SHA512":                   oidECDSAWithSHA512,
	"id-RSAES-OAEP":                       oidRSAESOAEP,
	"id-ecPublicKey":                      oidECPublicKey,
	"dhSinglePass-stdDH-sha256kdf-scheme": oidECDHSHA256,
	"dhSinglePass-stdDH-sha384kdf-scheme": oidECDHSHA384,
	"dhSinglePass-stdDH-sha512kdf-scheme": oidECDHSHA512,
	"id-aes128-wrap":                      oidAES128Wrap,
	"id-aes192-wrap":                      oidAES192Wrap,
	"id-aes256-wrap":                      oidAES256Wrap,
	"id-hmacWithSHA256":                   oidHMACSHA256,
	"id-hmacWithSHA384":                   oidHMACSHA384,
	"id-hmacWithSHA512":                   oidHMACSHA512,
	"rc2CBC":                              oidRC2CBC,
	"rc4":                                 oidRC4,
	"desCBC":                              oidDESCBC,
	"des-ede3-cbc":                        oidDESEDE3CBC,
}

func TestTheDocumentsIdentifiersAreThoseOfTheCode(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(formatDoc)
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]asn1.ObjectIdentifier)
	for _, m := range regexp.MustCompile(`(?m)^([a-zA-Z][\w-]*)\s+OBJECT IDENTIFIER ::=\s+\{([^}]*)\}`).FindAllSubmatch(doc, -1) {
		var oid asn1.ObjectIdentifier
		for _, arc := range strings.Fields(string(m[2])) {
			if n, err := strconv.Atoi(arc); err == nil {
				oid = append(oid, n)
			} else {
				oid = append(oid, documented[arc]...)
			}
		}
		documented[string(m[1])] = oid
	}
	for name, want := range oidNames {
		if !documented[name].Equal(want) {
			t.Errorf("%s is %v in the document, %v in the code", name, documented[name], want)
		}
	}
	if len(documented) != len(oidNames) {
		t.Errorf("the document has %d object identifiers, the code %d", len(documented), len(oidNames))
	}
	// And oid.go has none beside those.
	source, err := os.ReadFile("oid.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(regexp.MustCompile(`(?m)^\toid\w+ +=`).FindAll(source, -1)); n != len(oidNames) {
		t.Errorf("oid.go has %d object identifiers, the test knows %d", n, len(oidNames))
	}
	for _, limit := range []string{fmt.Sprintf("%d bytes", MaxSize), fmt.Sprintf("(1..%d)", MaxNumber), fmt.Sprintf("SIZE (1..%d)),  -- in bytes", maxLabel), fmt.Sprintf("SIZE (1..%d) OF Member", MaxMembers), fmt.Sprintf("1..%d, ktri", MaxRecipients), fmt.Sprintf("%d..%d bytes", minEncryptedKey, maxEncryptedKey),
		fmt.Sprintf("SIZE (1..%d)),  -- of bytes; why", maxReason), fmt.Sprintf("SIZE (1..%d) OF Opened", MaxOpened), fmt.Sprintf("INTEGER (0..%d)", MaxPack)} {
		if !bytes.Contains(doc, []byte(limit)) {
			t.Errorf("the document does not say %q", limit)
		}
	}
}

func TestTheDocumentsExampleIsTheStoredOne(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(formatDoc)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := readExample(t, "pss")
	want, err := withExample(doc, der)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(doc, want) {
		t.Error("docs/format.md differs from the example: run the tests of this package with -update, and look at what changes")
	}
}

const exampleBegin, exampleEnd = "<!-- example -->\n", "<!-- end of example -->"

// withExample gives the document with this example in it.
func withExample(doc, der []byte) ([]byte, error) {
	head, rest, ok1 := bytes.Cut(doc, []byte(exampleBegin))
	_, tail, ok2 := bytes.Cut(rest, []byte(exampleEnd))
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("%s has no place for an example", formatDoc)
	}
	a := annotator{notes: exampleNotes}
	a.walk(der, 0, 0)
	if a.mismatch != nil {
		return nil, a.mismatch
	}
	if len(a.notes) != 0 {
		return nil, fmt.Errorf("there are %d notes more than elements", len(a.notes))
	}
	return bytes.Join([][]byte{head, []byte(exampleBegin + "```\n"), a.out.Bytes(), []byte("```\n" + exampleEnd), tail}, nil), nil
}

// exampleNotes say what each element is, after its tag, in the order of the
// encoding.
var exampleNotes = strings.Split(strings.TrimSpace(`
30 ContentInfo
06 contentType
a0 content [0]
30 SignedData
02 version 3
31 digestAlgorithms, a SET
30 AlgorithmIdentifier, no parameters
06 algorithm
30 encapContentInfo
06 eContentType
a0 eContent [0]
04 OCTET STRING with a second ContentInfo
30 ContentInfo
06 contentType
a0 content [0]
30 EnvelopedData
02 version 2
31 recipientInfos, a SET in the order of DER
30 ktri, the signer
02 version 2
80 rid, subjectKeyIdentifier [0]
30 keyEncryptionAlgorithm
06 algorithm
30 RSAES-OAEP-params
a0 hashAlgorithm [0]
30 AlgorithmIdentifier
06 algorithm
05 NULL
a1 maskGenAlgorithm [1]
30 AlgorithmIdentifier
06 algorithm
30 its hash
06 algorithm
05 NULL
04 encryptedKey, as long as the modulus
a1 kari [1], the backup authority
02 version 3
a0 originator [0]
a1 originatorKey [1]
30 AlgorithmIdentifier, no parameters
06 algorithm
03 publicKey, the ephemeral point
30 keyEncryptionAlgorithm
06 algorithm
30 KeyWrapAlgorithm, no parameters
06 algorithm
30 recipientEncryptedKeys
30 RecipientEncryptedKey
a0 rid, rKeyId [0]
04 subjectKeyIdentifier of the authority
04 encryptedKey, 32 + 8 bytes
30 encryptedContentInfo, without content
06 contentType
30 contentEncryptionAlgorithm, the session key's
06 algorithm
31 signerInfos, a SET of one
30 SignerInfo
02 version 3
80 sid, subjectKeyIdentifier [0]
30 digestAlgorithm
06 algorithm
a0 signedAttrs [0], signed with the tag 31 of SET
30 Attribute
06 attrType
31 attrValues, one
06 contentType of what is signed
30 Attribute
06 attrType
31 attrValues, one
17 signingTime, 2026-02-07 18:28:18 UTC
30 Attribute
06 attrType
31 attrValues, one
04 messageDigest, SHA-256 of eContent's octets
30 Attribute
06 attrType
31 attrValues, one
30 KeyDescriptor
02 version 1
04 keyringID
0c name, "payroll"
02 keyVersion 2
02 revision 3
04 keyID
18 created, 2025-03-14 15:09:26 UTC
0a purpose wrap
80 keyCheckValue [0]
81 replaces [1]
30 signatureAlgorithm
06 algorithm
30 RSASSA-PSS-params
a0 hashAlgorithm [0]
30 AlgorithmIdentifier
06 algorithm
05 NULL
a1 maskGenAlgorithm [1]
30 AlgorithmIdentifier
06 algorithm
30 its hash
06 algorithm
05 NULL
a2 saltLength [2]
02 32 bytes
04 signature
`), "\n")

// An annotator prints DER, one element a line.
type annotator struct {
	out      bytes.Buffer
	notes    []string // those that are left
	mismatch error
}

func (a *annotator) walk(der []byte, offset, depth int) {
	const most = 16 // bytes of content that are shown
	for len(der) > 0 {
		element, rest := splitElement(der)
		content := contentOf(element)
		header := len(element) - len(content)
		constructed := element[0]&0x20 != 0
		note := a.note(element)
		encapsulates := strings.HasPrefix(note, "OCTET STRING with")

		shown := fmt.Sprintf("% x", element[:header])
		if !constructed && !encapsulates {
			shown = fmt.Sprintf("% x", element[:min(len(element), header+most)])
			if cut := len(content) - most; cut > 0 {
				shown += fmt.Sprintf(" +%d", cut)
			}
		}
		if element[0] == 6 {
			note += ": " + oidName(element)
		}
		fmt.Fprintf(&a.out, "%-79s %s\n", fmt.Sprintf("%04x%*s%s", offset, depth+1, "", shown), note)
		if constructed || encapsulates {
			a.walk(content, offset+header, depth+1)
		}
		offset += len(element)
		der = rest
	}
}

// note takes the next note, which must be for an element of this tag.
func (a *annotator) note(element []byte) string {
	if len(a.notes) == 0 {
		a.mismatch = errors.New("the example has more elements than there are notes")
		return ""
	}
	tag, note, _ := strings.Cut(a.notes[0], " ")
	if tag != fmt.Sprintf("%02x", element[0]) && a.mismatch == nil {
		a.mismatch = fmt.Errorf("the note %q is for an element that starts with %02x", a.notes[0], element[0])
	}
	a.notes = a.notes[1:]
	return note
}

func oidName(der []byte) string {
	for name, oid := range oidNames {
		if bytes.Equal(must(asn1.Marshal(oid)), der) {
			return name
		}
	}
	return "unknown"
}
