package blob

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

func unhex(s string) []byte { return must(hex.DecodeString(s)) }

// The encoder of the tests and ours agree, or the refusals below would prove
// nothing.
func TestAnUnchangedForgeryIsAccepted(t *testing.T) {
	t.Parallel()
	for _, s := range signers {
		b, err := parseAndVerify(forge(s.key(), s.scheme).der(t), trust(s.key()), payroll().Place())
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if diff := cmp.Diff(payroll(), b.Descriptor()); diff != "" {
			t.Errorf("%s: %s", s.name, diff)
		}
	}
	f := forge(ownerP256(), keyspec.ECDSA)
	f.recipients = append(f.recipients, kari(bytes.Repeat([]byte{0x0b}, 20)).der())
	b, err := parseAndVerify(f.der(t), trust(ownerP256()), payroll().Place())
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Recipients(); len(got) != 3 || !isAgreement(got[2]) || !bytes.Equal(got[2].Key.(*keyspec.KeyAgreement).Ephemeral.Bytes(), basePoint) {
		t.Errorf("recipients %v", got)
	}
}

// Everything here carries a good signature by the trusted key.
func TestRefusesWhatTheOwnerSignedButWeDoNotAccept(t *testing.T) {
	t.Parallel()
	const arc = "1.2.840.113556.1.8000.2554.47797.52584.63263.19885.34898.7319848.2394228"
	sha384 := seq(oid(2, 16, 840, 1, 101, 3, 4, 2, 2))
	drop := func(name []byte) func([][]byte) [][]byte {
		return func(list [][]byte) [][]byte {
			return slices.DeleteFunc(list, func(a []byte) bool { return bytes.HasPrefix(contentOf(a), name) })
		}
	}
	// edit replaces the attribute of this name.
	edit := func(name []byte, f func(attribute []byte) [][]byte) func([][]byte) [][]byte {
		return func(list [][]byte) (out [][]byte) {
			for _, a := range list {
				if bytes.HasPrefix(contentOf(a), name) {
					out = append(out, f(a)...)
				} else {
					out = append(out, a)
				}
			}
			slices.SortFunc(out, bytes.Compare)
			return out
		}
	}
	twoValues := func(a []byte) [][]byte {
		name, rest := splitElement(contentOf(a))
		value := contentOf(rest)
		return [][]byte{attr(name, value, value)}
	}
	noValue := func(a []byte) [][]byte {
		name, _ := splitElement(contentOf(a))
		return [][]byte{attr(name)}
	}
	twice := func(a []byte) [][]byte { return [][]byte{a, a} }
	contentType, messageDigest, signingTime := oid(1, 2, 840, 113549, 1, 9, 3), oid(1, 2, 840, 113549, 1, 9, 4), oid(1, 2, 840, 113549, 1, 9, 5)
	setRecipients := func(list ...[]byte) func(*forgery) { return func(f *forgery) { f.recipients = list } }
	field := func(i int, der []byte) func(*forgery) { return func(f *forgery) { f.descriptor[i] = der } }
	someone := bytes.Repeat([]byte{0x0b}, 20)

	for _, test := range []struct {
		name     string
		edit     func(*forgery)
		sentinel error
		part     string
	}{
		// SignedData
		{"another outer type", func(f *forgery) { f.outerType = oid(1, 2, 840, 113549, 1, 7, 3) }, ErrUnknown, "contentInfo.contentType is 1.2.840.113549.1.7.3"},
		{"version 1", func(f *forgery) { f.version = tlv(2, []byte{1}) }, ErrUnknown, "signedData.version is 1"},
		{"a padded version", func(f *forgery) { f.version = tlv(2, []byte{0, 3}) }, ErrMalformed, "signedData.version is a padded integer"},
		{"a negative version", func(f *forgery) { f.version = tlv(2, []byte{0xfd}) }, ErrMalformed, "signedData.version is negative"},
		{"an empty version", func(f *forgery) { f.version = tlv(2) }, ErrMalformed, "signedData.version is an integer without content"},
		{"no digest algorithm", func(f *forgery) { f.digestAlgorithms = nil }, ErrMalformed, "digestAlgorithm"},
		{"two digest algorithms", func(f *forgery) { f.digestAlgorithms = append(f.digestAlgorithms, sha384) }, ErrMalformed, "digestAlgorithms has 13 bytes"},
		{"another digest algorithm announced", func(f *forgery) { f.digestAlgorithms = [][]byte{sha384} }, ErrUnknown, "does not fit the signature algorithm"},
		{"a digest algorithm with NULL", func(f *forgery) { f.digestAlgorithms = [][]byte{seq(oid(2, 16, 840, 1, 101, 3, 4, 2, 1), null)} }, ErrUnknown, "digestAlgorithm does not fit"},
		{"MD5", func(f *forgery) {
			md5 := seq(oid(1, 2, 840, 113549, 2, 5))
			f.digestAlgorithms, f.digestAlgorithm = [][]byte{md5}, md5
		}, ErrUnknown, "digestAlgorithm does not fit"},
		{"a signature over data", func(f *forgery) {
			f.eContentType, f.contentTypeValue = oid(1, 2, 840, 113549, 1, 7, 1), oid(1, 2, 840, 113549, 1, 7, 1)
		}, ErrUnknown, "eContentType is 1.2.840.113549.1.7.1"},
		{"a signature over a checkpoint", func(f *forgery) {
			f.eContentType, f.contentTypeValue = must(asn1.Marshal(oidCheckpoint)), must(asn1.Marshal(oidCheckpoint))
		}, ErrUnknown, "eContentType is " + arc + ".5"},
		{"content of indefinite length", func(f *forgery) { f.contentOctets = func(c []byte) []byte { return indefinite(4, tlv(4, c)) } }, ErrMalformed, "eContent.octets"},
		{"content in pieces", func(f *forgery) {
			f.contentOctets = func(c []byte) []byte { return tlv(0x24, tlv(4, c[:9]), tlv(4, c[9:])) }
		}, ErrMalformed, "eContent.octets"},
		{"content with a long length", func(f *forgery) { f.contentOctets = func(c []byte) []byte { return longForm(4, c) } }, ErrMalformed, "eContent.octets"},
		{"content twice", func(f *forgery) {
			f.contentOctets = func(c []byte) []byte { return slices.Concat(tlv(4, c), tlv(4, c)) }
		}, ErrMalformed, "eContent has"},
		{"no content", func(f *forgery) { f.contentOctets = func(c []byte) []byte { return nil } }, ErrMalformed, "eContent.octets"},
		{"a certificate inside", func(f *forgery) { f.beforeSigners = tlv(0xa0, certificate(ownerRSA()).Raw) }, ErrUnknown, "certificates must be absent"},
		{"an empty set of certificates", func(f *forgery) { f.beforeSigners = tlv(0xa0) }, ErrUnknown, "certificates must be absent"},
		{"CRLs inside", func(f *forgery) { f.beforeSigners = tlv(0xa1) }, ErrUnknown, "crls must be absent"},
		{"a stranger as second signer", func(f *forgery) {
			other := forge(strangerP256(), keyspec.ECDSA)
			f.moreSigners = [][]byte{other.signerInfo(t, []byte("other"))}
		}, ErrMalformed, "signerInfo is not the only one"},
		{"the same signer twice", func(f *forgery) { f.moreSigners = [][]byte{f.signerInfo(t, []byte("other"))} }, ErrMalformed, "signerInfo is not the only one"},
		{"something after the signers", func(f *forgery) { f.afterSigners = null }, ErrMalformed, "signedData has 2 bytes that do not belong there"},

		// SignerInfo
		{"signer version 1", func(f *forgery) { f.signerVersion = tlv(2, []byte{1}) }, ErrUnknown, "signerInfo.version is 1"},
		{"a signer named by issuer and serial number", func(f *forgery) { f.sid = seq(seq(), tlv(2, []byte{1})) }, ErrMalformed, "subjectKeyIdentifier"},
		{"an empty key identifier", func(f *forgery) { f.sid = tlv(0x80, nil) }, ErrMalformed, "subjectKeyIdentifier has 0 bytes"},
		{"a key identifier of 65 bytes", func(f *forgery) { f.sid = tlv(0x80, make([]byte, 65)) }, ErrMalformed, "subjectKeyIdentifier has 65 bytes"},
		{"another digest algorithm used", func(f *forgery) { f.digestAlgorithm = sha384 }, ErrUnknown, "does not fit the signature algorithm"},
		{"no signed attributes", func(f *forgery) { f.withoutAttributes = true }, ErrMalformed, "signedAttrs"},
		{"an empty set of attributes", func(f *forgery) { f.attributes = func([][]byte) [][]byte { return nil } }, ErrMalformed, "is there 0 times"},
		{"no contentType", func(f *forgery) { f.attributes = drop(contentType) }, ErrMalformed, "attribute 1.2.840.113549.1.9.3 is there 0 times"},
		{"no messageDigest", func(f *forgery) { f.attributes = drop(messageDigest) }, ErrMalformed, "attribute 1.2.840.113549.1.9.4 is there 0 times"},
		{"no signingTime", func(f *forgery) { f.attributes = drop(signingTime) }, ErrMalformed, "attribute 1.2.840.113549.1.9.5 is there 0 times"},
		{"no keyDescriptor", func(f *forgery) { f.descriptor = nil }, ErrMalformed, "attribute " + arc + ".1 is there 0 times"},
		{"contentType twice", func(f *forgery) { f.attributes = edit(contentType, twice) }, ErrMalformed, "1.9.3 is there 2 times"},
		{"messageDigest twice", func(f *forgery) { f.attributes = edit(messageDigest, twice) }, ErrMalformed, "1.9.4 is there 2 times"},
		{"signingTime twice", func(f *forgery) { f.attributes = edit(signingTime, twice) }, ErrMalformed, "1.9.5 is there 2 times"},
		{"keyDescriptor twice", func(f *forgery) { f.attributes = edit(descriptorOID, twice) }, ErrMalformed, ".1 is there 2 times"},
		{"two values of contentType", func(f *forgery) { f.attributes = edit(contentType, twoValues) }, ErrMalformed, "attrValue is not the only one"},
		{"two values of messageDigest", func(f *forgery) { f.attributes = edit(messageDigest, twoValues) }, ErrMalformed, "attrValue is not the only one"},
		{"two values of signingTime", func(f *forgery) { f.attributes = edit(signingTime, twoValues) }, ErrMalformed, "attrValue is not the only one"},
		{"two values of keyDescriptor", func(f *forgery) { f.attributes = edit(descriptorOID, twoValues) }, ErrMalformed, "attrValue is not the only one"},
		{"no value of keyDescriptor", func(f *forgery) { f.attributes = edit(descriptorOID, noValue) }, ErrMalformed, "attrValue is not a DER element"},
		{"one attribute more", func(f *forgery) {
			f.attributes = func(list [][]byte) [][]byte { return append(list, attr(oid(1, 2, 840, 113549, 1, 9, 52), null)) }
		}, ErrUnknown, "attribute that does not belong there"},
		{"unsorted attributes", func(f *forgery) {
			f.attributes = func(list [][]byte) [][]byte { slices.Reverse(list); return list }
		}, ErrMalformed, "attribute is not in the order of DER"},
		{"two attributes exchanged", func(f *forgery) {
			f.attributes = func(list [][]byte) [][]byte { list[1], list[2] = list[2], list[1]; return list }
		}, ErrMalformed, "attribute is not in the order of DER"},
		{"contentType of something else", func(f *forgery) { f.contentTypeValue = oid(1, 2, 840, 113549, 1, 7, 1) }, ErrUnknown, "contentType.value is 1.2.840.113549.1.7.1"},
		{"contentType that is none", func(f *forgery) { f.contentTypeValue = null }, ErrMalformed, "contentType.value is not an object identifier"},
		{"a digest of something else", func(f *forgery) { f.digestValue = tlv(4, make([]byte, 32)) }, ErrSignature, "messageDigest is not that of the content"},
		{"a digest cut short", func(f *forgery) { f.digestValue = tlv(4, make([]byte, 31)) }, ErrSignature, "messageDigest is not that of the content"},
		{"a digest that is none", func(f *forgery) { f.digestValue = null }, ErrMalformed, "messageDigest.value"},
		{"a signing time with an offset", func(f *forgery) { f.timeValue = tlv(0x17, []byte("260207182818+0100")) }, ErrMalformed, "signingTime.value"},
		{"a signing time without seconds", func(f *forgery) { f.timeValue = tlv(0x17, []byte("2602071828Z")) }, ErrMalformed, "signingTime.value"},
		{"a signing time on 30 February", func(f *forgery) { f.timeValue = tlv(0x17, []byte("260230182818Z")) }, ErrMalformed, "signingTime.value"},
		{"a GeneralizedTime before 2050", func(f *forgery) { f.timeValue = tlv(0x18, []byte("20260207182818Z")) }, ErrMalformed, "signingTime is not in its one encoding"},
		{"a signing time with a fraction", func(f *forgery) { f.timeValue = tlv(0x18, []byte("20600207182818.5Z")) }, ErrMalformed, "signingTime.value"},
		{"an unknown signature algorithm", func(f *forgery) { f.signatureAlgorithm = seq(oid(1, 3, 101, 112)) }, ErrUnknown, "signatureAlgorithm is not one of"},
		{"rsaEncryption as signature algorithm", func(f *forgery) { f.signatureAlgorithm = seq(oid(1, 2, 840, 113549, 1, 1, 1), null) }, ErrUnknown, "signatureAlgorithm is not one of"},
		{"PSS without parameters", func(f *forgery) { f.signatureAlgorithm = seq(oid(1, 2, 840, 113549, 1, 1, 10)) }, ErrUnknown, "signatureAlgorithm is not one of"},
		{"PSS with the defaults of SHA-1", func(f *forgery) { f.signatureAlgorithm = seq(oid(1, 2, 840, 113549, 1, 1, 10), seq()) }, ErrUnknown, "signatureAlgorithm is not one of"},
		{"ECDSA with NULL", func(f *forgery) { f.signatureAlgorithm = seq(oid(1, 2, 840, 10045, 4, 3, 2), null) }, ErrUnknown, "signatureAlgorithm is not one of"},
		{"PKCS #1 v1.5 claimed for a PSS signature", func(f *forgery) { f.signatureAlgorithm = suites[1].signature }, ErrSignature, "verification error"},
		{"ECDSA claimed for an RSA key", func(f *forgery) { f.signatureAlgorithm = suites[2].signature }, ErrUnknown, "does not fit the signer's RSA key"},
		{"an empty signature", func(f *forgery) { f.signature = func([]byte) []byte { return nil } }, ErrSignature, "verification error"},
		{"a signature with a zero before it", func(f *forgery) { f.signature = func(s []byte) []byte { return append([]byte{0}, s...) } }, ErrSignature, "verification error"},
		{"unsigned attributes", func(f *forgery) { f.afterSignature = tlv(0xa1, attr(contentType, null)) }, ErrUnknown, "unsignedAttrs must be absent"},
		{"something after the signature", func(f *forgery) { f.afterSignature = null }, ErrMalformed, "signerInfo has 2 bytes"},

		// keyDescriptor
		{"a descriptor that is a SET", func(f *forgery) { f.descTag = 0x31 }, ErrMalformed, "keyDescriptor.value"},
		{"a descriptor of version 2", field(fieldVersion, tlv(2, []byte{2})), ErrNewer, "format version 2"},
		{"a descriptor with a field of a later version", func(f *forgery) { f.descriptor = append(f.descriptor, tlv(0x86, []byte{1})) }, ErrNewer, "field [6]"},
		{"imported, with something in it", func(f *forgery) { f.descriptor = append(f.descriptor, tlv(0x84, []byte{0})) }, ErrMalformed, "imported"},
		{"a descriptor with a constructed field of a later version", func(f *forgery) { f.descriptor = append(f.descriptor, tlv(0xa7, null)) }, ErrNewer, "field [7]"},
		{"a descriptor with a field that no version has", func(f *forgery) { f.descriptor = append(f.descriptor, null) }, ErrMalformed, "value has 2 bytes that do not belong there"},
		{"a keyring id of 15 bytes", field(fieldKeyringID, tlv(4, make([]byte, 15))), ErrMalformed, "keyringID has 15 bytes"},
		{"a key id of 17 bytes", field(fieldKeyID, tlv(4, make([]byte, 17))), ErrMalformed, "keyID has 17 bytes"},
		{"a name as PrintableString", field(fieldName, tlv(0x13, []byte("payroll"))), ErrMalformed, "value.name"},
		{"a name with capitals", field(fieldName, tlv(0x0c, []byte("Payroll"))), ErrName, `"Payroll"`},
		{"a name that climbs", field(fieldName, tlv(0x0c, []byte("a/../payroll"))), ErrName, `starts with '.'`},
		{"an empty name", field(fieldName, tlv(0x0c)), ErrName, "is empty"},
		{"a padded key version", field(fieldKeyVersion, tlv(2, []byte{0, 2})), ErrMalformed, "keyVersion is a padded integer"},
		{"a negative key version", field(fieldKeyVersion, tlv(2, []byte{0x82})), ErrMalformed, "keyVersion is negative"},
		{"a key version of 33 bits", field(fieldKeyVersion, tlv(2, []byte{1, 0, 0, 0, 2})), ErrMalformed, "keyVersion is above 2147483647"},
		{"a key version of 2^31", field(fieldKeyVersion, tlv(2, []byte{0, 0x80, 0, 0, 0})), ErrMalformed, "keyVersion is above 2147483647"},
		{"key version 0", field(fieldKeyVersion, tlv(2, []byte{0})), ErrMalformed, "key version 0"},
		{"a padded revision", field(fieldRevision, tlv(2, []byte{0, 3})), ErrMalformed, "revision is a padded integer"},
		{"revision 0", field(fieldRevision, tlv(2, []byte{0})), ErrMalformed, "revision 0"},
		{"a creation time with a fraction", field(fieldCreated, tlv(0x18, []byte("20250314150926.0Z"))), ErrMalformed, "value.created"},
		{"a creation time with an offset", field(fieldCreated, tlv(0x18, []byte("20250314150926+0000"))), ErrMalformed, "value.created"},
		{"a creation time in local time", field(fieldCreated, tlv(0x18, []byte("20250314150926"))), ErrMalformed, "value.created"},
		{"a creation time as UTCTime", field(fieldCreated, tlv(0x17, []byte("250314150926Z"))), ErrMalformed, "value.created"},
		{"a creation time in the year 0", field(fieldCreated, tlv(0x18, []byte("00000101000000Z"))), ErrMalformed, "creation time"},
		{"purpose 0", field(fieldPurpose, tlv(0x0a, []byte{0})), ErrMalformed, "unknown purpose 0"},
		{"purpose 5", field(fieldPurpose, tlv(0x0a, []byte{5})), ErrMalformed, "unknown purpose 5"},
		{"a padded purpose", field(fieldPurpose, tlv(0x0a, []byte{0, 1})), ErrMalformed, "purpose is a padded integer"},
		{"a purpose that does not fit the algorithm", field(fieldPurpose, tlv(0x0a, []byte{3})), ErrMalformed, `cannot have the purpose "mac"`},
		{"a key confirmation of 15 bytes", func(f *forgery) { f.descriptor = append(f.descriptor, tlv(0x85, make([]byte, 15))) }, ErrMalformed, "keyConfirmation has 15 bytes"},
		{"a check value of 4 bytes", field(fieldCheckValue, tlv(0x80, make([]byte, 4))), ErrMalformed, "keyCheckValue has 4 bytes"},
		{"a digest of 20 bytes", field(fieldReplaces, tlv(0x81, make([]byte, 20))), ErrMalformed, "replaces has 20 bytes"},
		{"optional fields in the wrong order", func(f *forgery) {
			f.descriptor[fieldCheckValue], f.descriptor[fieldReplaces] = f.descriptor[fieldReplaces], f.descriptor[fieldCheckValue]
		}, ErrMalformed, "value has 5 bytes that do not belong there"},
		{"an integer of the descriptor with a long length", field(fieldRevision, longForm(2, []byte{3})), ErrMalformed, "value.revision"},

		// EnvelopedData
		{"content that is not DER", func(f *forgery) { f.content = []byte("hello") }, ErrMalformed, "content.contentInfo"},
		{"empty content", func(f *forgery) { f.content = []byte{} }, ErrMalformed, "content.contentInfo"},
		{"trailing bytes in the content", func(f *forgery) { f.afterEnvelopedDatas = null }, ErrMalformed, "contentInfo has 2 bytes"},
		{"an inner type of encryptedData", func(f *forgery) { f.innerType = oid(1, 2, 840, 113549, 1, 7, 6) }, ErrUnknown, "contentInfo.contentType is 1.2.840.113549.1.7.6"},
		{"enveloped version 0", func(f *forgery) { f.envelopedVersion = tlv(2, []byte{0}) }, ErrUnknown, "envelopedData.version is 0"},
		{"a padded enveloped version", func(f *forgery) { f.envelopedVersion = tlv(2, []byte{0, 2}) }, ErrMalformed, "envelopedData.version is a padded integer"},
		{"originatorInfo", func(f *forgery) { f.beforeRecipients = tlv(0xa0) }, ErrUnknown, "originatorInfo must be absent"},
		{"no recipients", setRecipients(), ErrMalformed, "0 recipients"},
		{"65 recipients", func(f *forgery) {
			f.recipients = nil
			for i := range 65 {
				f.recipients = append(f.recipients, ktri(bytes.Repeat([]byte{byte(i)}, 20)).der())
			}
		}, ErrMalformed, "is not one of at most 64"},
		{"our own entry twice", setRecipients(ktri(keyID(ownerRSA())).der(), ktri(keyID(ownerRSA())).der()), ErrMalformed, "is there twice"},
		{"our own entry twice with two keys", setRecipients(ktri(keyID(ownerRSA())).der(), ktri(keyID(ownerRSA())).with(3, tlv(4, make([]byte, 256))).der()), ErrMalformed, "is there twice"},
		{"our own entry as transport and as agreement", setRecipients(ktri(someone).der(), kari(someone).der()), ErrMalformed, "is there twice"},
		{"a password recipient", setRecipients(tlv(0xa3, tlv(2, []byte{0}))), ErrUnknown, "neither ktri nor kari"},
		{"a kekri recipient", setRecipients(tlv(0xa2, tlv(2, []byte{4}))), ErrUnknown, "neither ktri nor kari"},
		{"an encrypted type of our own", func(f *forgery) { f.encryptedType = descriptorOID }, ErrUnknown, "encryptedContentInfo.contentType"},
		{"AES-256-CBC as the key's algorithm", func(f *forgery) {
			f.contentAlgorithm = seq(oid(2, 16, 840, 1, 101, 3, 4, 1, 42), tlv(4, make([]byte, 16)))
		}, ErrUnknown, "content-encryption algorithm"},
		{"AES key wrap with NULL", func(f *forgery) { f.contentAlgorithm = seq(oid(2, 16, 840, 1, 101, 3, 4, 1, 45), null) }, ErrUnknown, "content-encryption algorithm"},
		{"HMAC without NULL", func(f *forgery) { f.contentAlgorithm = seq(oid(1, 2, 840, 113549, 2, 9)) }, ErrUnknown, "content-encryption algorithm"},
		{"an HMAC key with the purpose to wrap", func(f *forgery) { f.contentAlgorithm = seq(oid(1, 2, 840, 113549, 2, 9), null) }, ErrMalformed, `cannot have the purpose "wrap"`},
		{"encrypted content", func(f *forgery) { f.afterAlgorithm = tlv(0x80, []byte("x")) }, ErrUnknown, "encryptedContent must be absent"},
		{"unprotected attributes", func(f *forgery) { f.afterEncryptedInfo = tlv(0xa1) }, ErrUnknown, "unprotectedAttrs must be absent"},
		{"something after encryptedContentInfo", func(f *forgery) { f.afterEncryptedInfo = null }, ErrMalformed, "envelopedData has 2 bytes"},

		// KeyTransRecipientInfo
		{"ktri version 0", setRecipients(ktri(someone).with(0, tlv(2, []byte{0})).der()), ErrUnknown, "ktri.version is 0"},
		{"ktri by issuer and serial number", setRecipients(ktri(someone).with(1, seq(seq(), tlv(2, []byte{1}))).der()), ErrMalformed, "ktri.subjectKeyIdentifier"},
		{"a recipient's empty key identifier", setRecipients(ktri(nil).der()), ErrMalformed, "ktri.subjectKeyIdentifier has 0 bytes"},
		{"a recipient's key identifier of 65 bytes", setRecipients(ktri(make([]byte, 65)).der()), ErrMalformed, "ktri.subjectKeyIdentifier has 65 bytes"},
		{"PKCS #1 v1.5 encryption", setRecipients(ktri(someone).with(2, seq(oid(1, 2, 840, 113549, 1, 1, 1), null)).der()), ErrUnknown, "keyEncryptionAlgorithm is not one of"},
		{"OAEP without parameters", setRecipients(ktri(someone).with(2, seq(oid(1, 2, 840, 113549, 1, 1, 7))).der()), ErrUnknown, "keyEncryptionAlgorithm is not one of"},
		{"OAEP with the default SHA-1 spelled out", setRecipients(ktri(someone).with(2, seq(oid(1, 2, 840, 113549, 1, 1, 7), seq(
			tlv(0xa0, seq(oid(1, 3, 14, 3, 2, 26), null))))).der()), ErrUnknown, "keyEncryptionAlgorithm is not one of"},
		{"OAEP with SHA-256 and MGF1 with SHA-1", setRecipients(ktri(someone).with(2, seq(oid(1, 2, 840, 113549, 1, 1, 7), seq(
			tlv(0xa0, seq(oid(2, 16, 840, 1, 101, 3, 4, 2, 1), null))))).der()), ErrUnknown, "keyEncryptionAlgorithm is not one of"},
		{"an encrypted key of RSA 1024", setRecipients(ktri(someone).with(3, tlv(4, make([]byte, 128))).der()), ErrMalformed, "encrypted key has 128 bytes"},
		{"an encrypted key of 2049 bytes", setRecipients(ktri(someone).with(3, tlv(4, make([]byte, 2049))).der()), ErrMalformed, "encrypted key has 2049 bytes"},
		{"an encrypted key in pieces", setRecipients(ktri(someone).with(3, tlv(0x24, tlv(4, make([]byte, 256)))).der()), ErrMalformed, "ktri.encryptedKey"},

		// KeyAgreeRecipientInfo
		{"kari version 2", setRecipients(kari(someone).with(0, tlv(2, []byte{2})).der()), ErrUnknown, "kari.version is 2"},
		{"kari with user keying material", setRecipients(kari(someone).with(kariUKM, tlv(0xa1, tlv(4, []byte("ukm")))).der()), ErrUnknown, "ukm must be absent"},
		{"kari with a static originator", setRecipients(kari(someone).with(kariOriginator, tlv(0xa0, tlv(0x80, someone))).der()), ErrMalformed, "originator.originatorKey"},
		{"kari with a named curve", setRecipients(kari(someone).with(kariOriginator, tlv(0xa0, tlv(0xa1,
			seq(oid(1, 2, 840, 10045, 2, 1), oid(1, 2, 840, 10045, 3, 1, 7)), tlv(3, []byte{0}, basePoint)))).der()), ErrUnknown, "originatorKey.algorithm is not one of"},
		{"kari with a point off the curve", setRecipients(kari(someone).with(kariOriginator, originator(0, flip(basePoint, 64))).der()), ErrMalformed, "is not an uncompressed point of the curve"},
		{"kari with the point at infinity", setRecipients(kari(someone).with(kariOriginator, originator(0, []byte{0})).der()), ErrMalformed, "is not an uncompressed point of the curve"},
		{"kari with a compressed point", setRecipients(kari(someone).with(kariOriginator, originator(0, append([]byte{3}, basePoint[1:33]...))).der()), ErrMalformed, "is not an uncompressed point of the curve"},
		{"kari with unused bits", setRecipients(kari(someone).with(kariOriginator, originator(1, basePoint)).der()), ErrMalformed, "is not an uncompressed point of the curve"},
		{"kari with a BIT STRING that does not count its unused bits", setRecipients(kari(someone).with(kariOriginator, tlv(0xa0, tlv(0xa1, seq(oid(1, 2, 840, 10045, 2, 1)), tlv(3, basePoint)))).der()), ErrMalformed, "is not an uncompressed point of the curve"},
		{"kari with an empty BIT STRING", setRecipients(kari(someone).with(kariOriginator, tlv(0xa0, tlv(0xa1, seq(oid(1, 2, 840, 10045, 2, 1)), tlv(3)))).der()), ErrMalformed, "is not an uncompressed point of the curve"},
		{"kari with the derivation of another curve", setRecipients(kari(someone).with(kariAlgorithm, seq(oid(1, 3, 132, 1, 11, 2), seq(oid(2, 16, 840, 1, 101, 3, 4, 1, 45)))).der()), ErrMalformed, "is not an uncompressed point of the curve"},
		{"kari with cofactor ECDH", setRecipients(kari(someone).with(kariAlgorithm, seq(oid(1, 3, 132, 1, 14, 1), seq(oid(2, 16, 840, 1, 101, 3, 4, 1, 45)))).der()), ErrUnknown, "keyEncryptionAlgorithm is not one of"},
		{"kari with AES-128 key wrap", setRecipients(kari(someone).with(kariAlgorithm, seq(oid(1, 3, 132, 1, 11, 1), seq(oid(2, 16, 840, 1, 101, 3, 4, 1, 5)))).der()), ErrUnknown, "keyEncryptionAlgorithm is not one of"},
		{"kari for two holders", setRecipients(kari(someone).with(kariKeys, seq(encryptedKey(someone), encryptedKey(make([]byte, 20)))).der()), ErrMalformed, "recipientEncryptedKeys has"},
		{"kari for nobody", setRecipients(kari(someone).with(kariKeys, seq()).der()), ErrMalformed, "recipientEncryptedKey"},
		{"kari with a date", setRecipients(kari(someone).with(kariKeys, seq(seq(tlv(0xa0, tlv(4, someone), tlv(0x18, []byte("20250314150926Z"))), tlv(4, make([]byte, 40))))).der()), ErrMalformed, "rKeyId has"},
		{"kari with a wrapped key of another size", setRecipients(kari(someone).with(kariKeys, seq(seq(tlv(0xa0, tlv(4, someone)), tlv(4, make([]byte, 24))))).der()), ErrMalformed, "wrapped aes256 key has 24 bytes, not 40"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := forge(ownerRSA(), keyspec.RSAPSS)
			test.edit(f)
			b, err := parseAndVerify(f.der(t), trust(ownerRSA()), payroll().Place())
			if b != nil {
				t.Error("a blob beside the error")
			}
			if test.sentinel == ErrName {
				wantError(t, err, ErrMalformed, test.part)
			}
			wantError(t, err, test.sentinel, test.part)
		})
	}
}

func TestRefusesUnsortedRecipients(t *testing.T) {
	t.Parallel()
	f := forge(ownerP256(), keyspec.ECDSA)
	slices.SortFunc(f.recipients, bytes.Compare)
	slices.Reverse(f.recipients)
	_, err := parseAndVerify(f.derUnsorted(t), trust(ownerP256()), payroll().Place())
	wantError(t, err, ErrMalformed, "recipientInfo is not in the order of DER")
}

func TestRefusesBERAroundEverything(t *testing.T) {
	t.Parallel()
	der := forge(ownerP256(), keyspec.ECDSA).der(t)
	for name, ber := range map[string][]byte{
		"indefinite length": indefinite(0x30, contentOf(der)),
		"long length":       longForm(0x30, contentOf(der)),
		"high tag":          append([]byte{0x3f, 0x10}, der[1:]...),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(ber)
			wantError(t, err, ErrMalformed, "key blob.contentInfo")
		})
	}
}

func TestRefusesSignaturesOfOtherForms(t *testing.T) {
	t.Parallel()
	key := ownerP256()
	n := key.Public().(*ecdsa.PublicKey).Params().N
	type rs struct{ R, S *big.Int }
	reencode := func(edit func(v *rs)) func([]byte) []byte {
		return func(sig []byte) []byte {
			var v rs
			if rest, err := asn1.Unmarshal(sig, &v); err != nil || len(rest) > 0 {
				t.Fatal(err)
			}
			edit(&v)
			return must(asn1.Marshal(v))
		}
	}
	for _, test := range []struct {
		name string
		edit func([]byte) []byte
		part string
	}{
		{"a high S", reencode(func(v *rs) { v.S.Sub(n, v.S) }), "above half the order"},
		{"S = 0", reencode(func(v *rs) { v.S.SetInt64(0) }), "out of range"},
		{"R = 0", reencode(func(v *rs) { v.R.SetInt64(0) }), "out of range"},
		{"S beyond the order", reencode(func(v *rs) { v.S.Add(n, v.S) }), "out of range"},
		{"R beyond the order", reencode(func(v *rs) { v.R.Add(n, v.R) }), "out of range"},
		{"a negative R", reencode(func(v *rs) { v.R.Neg(v.R) }), "out of range"},
		{"R = S", reencode(func(v *rs) { v.R.Set(v.S) }), "verification failure"},
		{"a trailing byte", func(s []byte) []byte { return append(s, 0) }, "not a DER Ecdsa-Sig-Value"},
		{"a trailing byte inside", func(s []byte) []byte { return seq(contentOf(s), []byte{0}) }, "not a DER Ecdsa-Sig-Value"},
		{"a long length", func(s []byte) []byte { return longForm(0x30, contentOf(s)) }, "not a DER Ecdsa-Sig-Value"},
		{"a padded R", func(s []byte) []byte {
			r, rest := splitElement(contentOf(s))
			return seq(tlv(2, []byte{0, 0}, contentOf(r)), rest)
		}, "not a DER Ecdsa-Sig-Value"},
		{"no signature", func(s []byte) []byte { return nil }, "not a DER Ecdsa-Sig-Value"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := forge(key, keyspec.ECDSA)
			f.signature = test.edit
			_, err := parseAndVerify(f.der(t), trust(key), payroll().Place())
			wantError(t, err, ErrSignature, test.part)
		})
	}
}

func TestRefusesSuitesThatDoNotFitTheKey(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		key   crypto.Signer
		suite *suite
	}{
		{"SHA-256 with P-384", ownerP384(), suites[2]},
		{"SHA-512 with P-256", ownerP256(), suites[4]},
		{"PSS with P-256", ownerP256(), suites[0]},
		{"ECDSA with RSA", ownerRSA(), suites[2]},
	} {
		t.Run(test.name, func(t *testing.T) {
			// The key signs with what the suite says, as far as it can.
			claimed := *test.suite
			f := forge(test.key, map[bool]keyspec.Scheme{true: keyspec.ECDSA, false: keyspec.RSAPSS}[isEC(test.key)])
			f.suite = &suite{f.suite.scheme, claimed.hash, f.suite.curve, claimed.digest, claimed.signature}
			f.digestAlgorithms, f.digestAlgorithm, f.signatureAlgorithm = [][]byte{claimed.digest}, claimed.digest, claimed.signature
			_, err := parseAndVerify(f.der(t), trust(test.key), payroll().Place())
			wantError(t, err, ErrUnknown, "does not fit the signer's")
		})
	}
}

func TestRefusesShortTrustedKeys(t *testing.T) {
	t.Parallel()
	short := must(rsa.GenerateKey(rand.Reader, 1024))
	f := forge(ownerRSA(), keyspec.RSAPSS)
	f.key = short
	sum := sha256.Sum256(must(asn1.Marshal(struct {
		N *big.Int
		E int
	}{short.N, short.E})))
	f.sid = tlv(0x80, sum[:20])
	_, err := parseAndVerify(f.der(t), trust(short), payroll().Place())
	wantError(t, err, ErrUnknown, "less than 2048 bits")
}

func TestRefusesToTrustWhatIsNoKey(t *testing.T) {
	t.Parallel()
	der := forge(ownerP256(), keyspec.ECDSA).der(t)
	for _, key := range []crypto.PublicKey{nil, "key", (*rsa.PublicKey)(nil), (*ecdsa.PublicKey)(nil), &rsa.PublicKey{}, &ecdsa.PublicKey{}, ownerP256()} {
		_, err := parseAndVerify(der, []Party{{Key: key}}, payroll().Place())
		wantError(t, err, ErrUnknown, "trusted key")
	}
}

func isEC(key crypto.Signer) bool {
	_, ok := key.Public().(*ecdsa.PublicKey)
	return ok
}

// splitElement gives the first element and what follows it.
func splitElement(der []byte) (first, rest []byte) {
	n := len(tlv(0, contentOf(der)))
	return der[:n:n], der[n:]
}

// flip changes the lowest bit of byte i.
func flip(data []byte, i int) []byte {
	out := bytes.Clone(data)
	out[i] ^= 1
	return out
}

// A refused is a change to a T that must not be signed, and what the error says.
type refused[T any] struct {
	name string
	edit func(*T)
	want string
}

// signRefuses checks what sign refuses: values that break the rules, signers that do not fit or sign
// wrongly, and a missing time.
func signRefuses[T, V any](t *testing.T, good func() T, sign func(T, Signer, time.Time) (*V, error), all []refused[T]) {
	t.Helper()
	owner := Signer{Key: ownerP256(), Scheme: keyspec.ECDSA}
	for _, test := range all {
		t.Run(test.name, func(t *testing.T) {
			value := good()
			test.edit(&value)
			v, err := sign(value, owner, signed)
			if v != nil || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v and error %v, want %q", v, err, test.want)
			}
		})
	}
	if v, err := sign(good(), Signer{Key: ownerP256(), Scheme: keyspec.RSAPSS}, signed); v != nil || !errors.Is(err, ErrUnknown) {
		t.Errorf("a scheme that does not fit: %v", err)
	}
	if v, err := sign(good(), owner, time.Time{}); v != nil || err == nil || !strings.Contains(err.Error(), "signing time") {
		t.Errorf("no signing time: %v", err)
	}
	broken := brokenSigner{ownerP256(), func(digest []byte, _ crypto.SignerOpts) ([]byte, error) {
		return strangerP256().Sign(rand.Reader, digest, nil)
	}}
	if v, err := sign(good(), Signer{Key: broken, Scheme: keyspec.ECDSA}, signed); v != nil || !errors.Is(err, ErrSignature) {
		t.Errorf("a token that signs wrongly: %v", err)
	}
}
