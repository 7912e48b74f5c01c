package blob

import (
	"bytes"
	"encoding/asn1"
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
	"id-hsmkeys-shares":                   oidShares,
	"id-hsmkeys-approval":                 oidApproval,
	"id-hsmkeys-rehearsal":                oidRehearsal,
	"id-aes256-CBC":                       oidAES256CBC,
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
	for _, limit := range []string{fmt.Sprintf("%d bytes", MaxSize), fmt.Sprintf("%d bytes (16 MiB)", MaxPack), fmt.Sprintf("(1..%d)", MaxNumber), fmt.Sprintf("SIZE (1..%d)),  -- in bytes", maxLabel), fmt.Sprintf("SIZE (1..%d) OF Member", MaxMembers), fmt.Sprintf("1..%d, ktri", MaxRecipients), fmt.Sprintf("%d..%d bytes", minEncryptedKey, maxEncryptedKey),
		fmt.Sprintf("SIZE (1..%d)),  -- of bytes; why", maxReason), fmt.Sprintf("SIZE (1..%d) OF Opened", MaxOpened), fmt.Sprintf("INTEGER (0..%d)", MaxPack),
		fmt.Sprintf("SIZE (2..%d) OF Custodian", MaxCustodians), fmt.Sprintf("SIZE (1..%d) OF OCTET STRING OPTIONAL", MaxApprovals), fmt.Sprintf("OCTET STRING (SIZE (%d))", CommitmentSize), fmt.Sprintf("16..%d bytes", MaxSealed), fmt.Sprintf("SIZE (1..%d)),  -- of bytes; name and version", maxRehearsalText)} {
		if !bytes.Contains(doc, []byte(limit)) {
			t.Errorf("the document does not say %q", limit)
		}
	}
}
