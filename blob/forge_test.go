package blob

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"slices"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"golang.org/x/crypto/cryptobyte"
)

// A forgery is a key blob in pieces, each of which a test may change before
// the owner's own key signs it. What is then refused is refused for that piece,
// not for its signature. It shares no code with the encoder it tests.
type forgery struct {
	key   crypto.Signer
	suite *suite

	// ContentInfo and SignedData
	outerType        []byte
	version          []byte
	digestAlgorithms [][]byte
	eContentType     []byte
	contentOctets    func(content []byte) []byte // how eContent is encoded
	beforeSigners    []byte                      // certificates, crls
	moreSigners      [][]byte
	afterSigners     []byte

	// SignerInfo
	signerVersion      []byte
	sid                []byte
	digestAlgorithm    []byte
	contentTypeValue   []byte
	digestValue        []byte // of the content, unless set
	timeValue          []byte
	attributes         func(list [][]byte) [][]byte // to drop, double or reorder
	withoutAttributes  bool                         // sign the content itself
	signatureAlgorithm []byte
	signature          func([]byte) []byte
	afterSignature     []byte // unsignedAttrs

	// keyDescriptor
	descriptor [][]byte // the fields
	descTag    byte

	// EnvelopedData
	content             []byte // in place of all below
	innerType           []byte
	envelopedVersion    []byte
	beforeRecipients    []byte // originatorInfo
	recipients          [][]byte
	encryptedType       []byte
	contentAlgorithm    []byte
	afterAlgorithm      []byte // encryptedContent
	afterEncryptedInfo  []byte // unprotectedAttrs
	afterEnvelopedDatas []byte
}

// forge gives the pieces of a blob that is accepted, at payroll's place.
func forge(key crypto.Signer, scheme keyspec.Scheme) *forgery {
	suite := must(suiteFor(scheme, key.Public()))
	d := payroll()
	return &forgery{
		key:              key,
		suite:            suite,
		outerType:        oid(1, 2, 840, 113549, 1, 7, 2),
		version:          tlv(2, []byte{3}),
		digestAlgorithms: [][]byte{suite.digest},
		eContentType:     oid(1, 2, 840, 113549, 1, 9, 16, 1, 6),
		contentOctets:    func(content []byte) []byte { return tlv(0x04, content) },

		signerVersion:      tlv(2, []byte{3}),
		sid:                tlv(0x80, keyID(key)),
		digestAlgorithm:    suite.digest,
		contentTypeValue:   oid(1, 2, 840, 113549, 1, 9, 16, 1, 6),
		timeValue:          tlv(0x17, []byte("260207182818Z")),
		attributes:         func(list [][]byte) [][]byte { return list },
		signatureAlgorithm: suite.signature,
		signature:          func(s []byte) []byte { return s },

		descTag: 0x30,
		descriptor: [][]byte{
			tlv(2, []byte{1}),
			tlv(4, d.KeyringID[:]),
			tlv(0x0c, []byte("payroll")),
			tlv(2, []byte{2}),
			tlv(2, []byte{3}),
			tlv(4, d.KeyID[:]),
			tlv(0x18, []byte("20250314150926Z")),
			tlv(0x0a, []byte{1}),
			tlv(0x80, d.CheckValue),
			tlv(0x81, d.Replaces),
		},

		innerType:        oid(1, 2, 840, 113549, 1, 7, 3),
		envelopedVersion: tlv(2, []byte{2}),
		recipients:       [][]byte{ktri(keyID(ownerRSA())).der(), ktri(keyID(strangerRSA())).der()},
		encryptedType:    oid(1, 2, 840, 113549, 1, 7, 1),
		contentAlgorithm: seq(oid(2, 16, 840, 1, 101, 3, 4, 1, 45)),
	}
}

// The fields of forgery.descriptor.
const (
	fieldVersion = iota
	fieldKeyringID
	fieldName
	fieldKeyVersion
	fieldRevision
	fieldKeyID
	fieldCreated
	fieldPurpose
	fieldCheckValue
	fieldReplaces
)

// der puts the pieces together and signs. Recipients are sorted, as nearly
// every test wants.
func (f *forgery) der(t testing.TB) []byte {
	slices.SortFunc(f.recipients, bytes.Compare)
	return f.derUnsorted(t)
}

func (f *forgery) derUnsorted(t testing.TB) []byte {
	t.Helper()
	content := f.content
	if content == nil {
		content = seq(f.innerType, tlv(0xa0, seq(
			f.envelopedVersion,
			f.beforeRecipients,
			tlv(0x31, f.recipients...),
			seq(f.encryptedType, f.contentAlgorithm, f.afterAlgorithm),
			f.afterEncryptedInfo,
		)), f.afterEnvelopedDatas)
	}
	info := f.signerInfo(t, content)
	return seq(f.outerType, tlv(0xa0, seq(
		f.version,
		tlv(0x31, f.digestAlgorithms...),
		seq(f.eContentType, tlv(0xa0, f.contentOctets(content))),
		f.beforeSigners,
		tlv(0x31, append([][]byte{info}, f.moreSigners...)...),
		f.afterSigners,
	)))
}

func (f *forgery) signerInfo(t testing.TB, content []byte) []byte {
	t.Helper()
	digest := f.digestValue
	if digest == nil {
		digest = tlv(4, f.suite.sum(content))
	}
	list := [][]byte{
		attr(oid(1, 2, 840, 113549, 1, 9, 3), f.contentTypeValue),
		attr(oid(1, 2, 840, 113549, 1, 9, 4), digest),
		attr(oid(1, 2, 840, 113549, 1, 9, 5), f.timeValue),
	}
	if f.descriptor != nil {
		list = append(list, attr(descriptorOID, tlv(f.descTag, f.descriptor...)))
	}
	slices.SortFunc(list, bytes.Compare)
	list = f.attributes(list)
	message, stored := tlv(0x31, list...), tlv(0xa0, list...)
	if f.withoutAttributes {
		message, stored = content, nil
	}
	sig, err := f.suite.sign(f.key, message)
	if err != nil {
		t.Fatal(err)
	}
	return seq(f.signerVersion, f.sid, f.digestAlgorithm, stored, f.signatureAlgorithm, tlv(4, f.signature(sig)), f.afterSignature)
}

// A recipientForgery is a RecipientInfo in pieces.
type recipientForgery struct {
	tag    byte
	pieces [][]byte
}

func (r *recipientForgery) der() []byte { return tlv(r.tag, r.pieces...) }

// with changes one piece.
func (r *recipientForgery) with(i int, piece []byte) *recipientForgery {
	r.pieces[i] = piece
	return r
}

func ktri(keyID []byte) *recipientForgery {
	return &recipientForgery{0x30, [][]byte{
		tlv(2, []byte{2}),
		tlv(0x80, keyID),
		seq(oid(1, 2, 840, 113549, 1, 1, 7), seq(
			tlv(0xa0, seq(oid(2, 16, 840, 1, 101, 3, 4, 2, 1), null)),
			tlv(0xa1, seq(oid(1, 2, 840, 113549, 1, 1, 8), seq(oid(2, 16, 840, 1, 101, 3, 4, 2, 1), null))))),
		tlv(4, bytes.Repeat([]byte{0xe1}, 256)),
	}}
}

// The pieces of kari. Its point is on P-256.
const (
	kariOriginator = 1
	kariUKM        = 2
	kariAlgorithm  = 3
	kariKeys       = 4
)

func kari(keyID []byte) *recipientForgery {
	return &recipientForgery{0xa1, [][]byte{
		tlv(2, []byte{3}),
		originator(0, basePoint),
		nil,
		seq(oid(1, 3, 132, 1, 11, 1), seq(oid(2, 16, 840, 1, 101, 3, 4, 1, 45))),
		seq(encryptedKey(keyID)),
	}}
}

func originator(unusedBits byte, point []byte) []byte {
	return tlv(0xa0, tlv(0xa1, seq(oid(1, 2, 840, 10045, 2, 1)), tlv(3, []byte{unusedBits}, point)))
}

func encryptedKey(keyID []byte) []byte {
	return seq(tlv(0xa0, tlv(4, keyID)), tlv(4, bytes.Repeat([]byte{0xa2}, 40)))
}

// basePoint is the generator of P-256 (SEC 2 §2.4.2), uncompressed.
var basePoint = unhex("046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296" +
	"4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")

var null = []byte{5, 0}

var descriptorOID = oid(1, 2, 840, 113556, 1, 8000, 2554, 47797, 52584, 63263, 19885, 34898, 7319848, 2394228, 1)

func oid(arcs ...int) []byte { return must(asn1.Marshal(asn1.ObjectIdentifier(arcs))) }

func attr(oid []byte, values ...[]byte) []byte { return seq(oid, tlv(0x31, values...)) }

func seq(parts ...[]byte) []byte { return tlv(0x30, parts...) }

// tlv is an element with a minimal length.
func tlv(tag byte, parts ...[]byte) []byte {
	content := bytes.Join(parts, nil)
	out := []byte{tag}
	switch n := len(content); {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	case n < 0x10000:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(out, content...)
}

// indefinite is an element of BER with the indefinite length (X.690 §8.1.3.6).
func indefinite(tag byte, content []byte) []byte {
	return slices.Concat([]byte{tag | 0x20, 0x80}, content, []byte{0, 0})
}

// longForm is an element with a longer length than needed (X.690 §8.1.3.5).
func longForm(tag byte, content []byte) []byte {
	n := len(content)
	return append([]byte{tag, 0x84, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, content...)
}

// contentOf gives what is in an element.
func contentOf(der []byte) []byte {
	in, out := cryptobyte.String(der), cryptobyte.String{}
	if !in.ReadAnyASN1(&out, nil) {
		panic("not an element")
	}
	return out
}
