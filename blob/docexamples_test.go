package blob

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestTheDocumentsExamplesAreTheStoredOnes(t *testing.T) {
	t.Parallel()
	doc := readFile(t, formatDoc)
	want, err := withExamples(doc)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(doc, want) {
		t.Error("docs/format.md differs from its examples: run the tests of this package with -update, and look at what changes")
	}
}

// docExamples are the stored objects that the document shows, and what each of their
// elements is, after its tag, in the order of the encoding.
var docExamples = []struct{ name, notes string }{{"pss", blobNotes}, {"checkpoint", checkpointNotes}}

// withExamples returns the document with the examples in it.
func withExamples(doc []byte) ([]byte, error) {
	for _, e := range docExamples {
		der, err := os.ReadFile(example(e.name + ".cms"))
		if err != nil {
			return nil, err
		}
		if doc, err = withExample(doc, e.name, e.notes, der); err != nil {
			return nil, fmt.Errorf("%s, example %s: %w", formatDoc, e.name, err)
		}
	}
	return doc, nil
}

func withExample(doc []byte, name, notes string, der []byte) ([]byte, error) {
	begin, end := []byte("<!-- example "+name+" -->\n"), []byte("<!-- end of example "+name+" -->")
	head, rest, ok1 := bytes.Cut(doc, begin)
	_, tail, ok2 := bytes.Cut(rest, end)
	if !ok1 || !ok2 {
		return nil, errors.New("there is no place for it")
	}
	a := annotator{notes: strings.Split(strings.TrimSpace(notes), "\n")}
	a.walk(der, 0, 0)
	if a.mismatch != nil {
		return nil, a.mismatch
	}
	if len(a.notes) != 0 {
		return nil, fmt.Errorf("there are %d notes more than elements", len(a.notes))
	}
	return bytes.Join([][]byte{head, begin, []byte("```\n"), a.out.Bytes(), []byte("```\n"), end, tail}, nil), nil
}

const blobNotes = `
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
`

const checkpointNotes = `
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
04 OCTET STRING with the Checkpoint
30 Checkpoint
02 version 1
04 keyringID
02 number 7
18 created, 2025-03-14 15:09:26 UTC
04 nonce
80 previous [0], SHA-256 of checkpoint 6
04 log, tree hash over checkpoints 1 to 6
30 list
02 number 2
04 digest, SHA-256 of the list
02 introduced by checkpoint 5
04 root, digest of the root node
30 rootAt
04 pack
02 offset 4096
02 length 771
02 keys 1234
04 changes, SHA-256 of the record
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
17 signingTime, 2026-02-07 18:28:18 UTC
30 Attribute
06 attrType
31 attrValues, one
04 messageDigest, SHA-256 of eContent's octets
30 Attribute
06 attrType
31 attrValues, one
06 contentType of what is signed
30 signatureAlgorithm, no parameters
06 algorithm
04 signature, an ECDSA-Sig-Value
`

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
