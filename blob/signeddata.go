package blob

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxSize is the size limit of any object, in bytes. It is checked before anything is read, so that
// storage cannot cause work for nothing.
const MaxSize = 256 << 10

// A profile is the part of SignedData that is fixed for a kind of object.
type profile struct {
	what        string                  // for messages
	contentType asn1.ObjectIdentifier   // of what is signed
	attributes  []asn1.ObjectIdentifier // all the signed attributes there must be
}

// signedData is a ContentInfo with a SignedData (RFC 5652 §3, §5), cut down to
// the one form that we write: version 3, no certificates, no CRLs, one signer
// named by its subject key identifier, signed attributes present, unsigned
// ones absent.
type signedData struct {
	contentType asn1.ObjectIdentifier
	content     []byte
	suite       *suite
	signerID    []byte // as CMS names the signer, see [Identifier]
	attributes  []attribute
	signature   []byte
}

// An attribute has exactly one value here, kept as it was encoded.
type attribute struct {
	oid   asn1.ObjectIdentifier
	value []byte
	der   []byte // of the whole, as this program encodes it
}

func encodeAttribute(oid asn1.ObjectIdentifier, value []byte) (attribute, error) {
	der, err := encode(func(b *cryptobyte.Builder) {
		addSequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oid)
			addOctets(b, cryptobyte_asn1.SET, value)
		})
	})
	return attribute{oid, value, der}, err
}

// newAttribute returns an attribute whose encoding cannot fail.
func newAttribute(oid asn1.ObjectIdentifier, value []byte) attribute {
	a, err := encodeAttribute(oid, value)
	if err != nil {
		panic(err) // an oid of ours does not encode
	}
	return a
}

// signContent signs content, which is of p's type, with extra attributes beside
// contentType, messageDigest and signingTime.
func signContent(p profile, content []byte, extra []attribute, signer Signer, signingTime time.Time) ([]byte, error) {
	if !validTime(signingTime) {
		return nil, fmt.Errorf("signing time %v cannot be encoded", signingTime)
	}
	signerID, err := signer.party().identifier()
	if err != nil {
		return nil, err
	}
	suite, err := suiteFor(signer.Scheme, signer.Key.Public())
	if err != nil {
		return nil, err
	}
	s := &signedData{contentType: p.contentType, content: content, suite: suite, signerID: signerID}
	s.attributes = append([]attribute{
		newAttribute(oidContentType, mustEncode(func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(p.contentType) })),
		newAttribute(oidMessageDigest, mustEncode(func(b *cryptobyte.Builder) { b.AddASN1OctetString(suite.sum(content)) })),
		newAttribute(oidSigningTime, mustEncode(func(b *cryptobyte.Builder) { addSigningTime(b, signingTime) })),
	}, extra...)
	signed, err := s.signedAttributes(cryptobyte_asn1.SET)
	if err != nil {
		return nil, err
	}
	if s.signature, err = suite.sign(signer.Key, signed); err != nil {
		return nil, fmt.Errorf("signing a %s: %w", p.what, err)
	}
	der, err := s.marshal()
	if err != nil {
		return nil, err
	}
	if len(der) > MaxSize {
		return nil, fmt.Errorf("%w: %s of %d bytes, at most %d are allowed", ErrTooLarge, p.what, len(der), MaxSize)
	}
	return der, nil
}

// parseSignedData reads the outer structure. It does not look into the content or the values of
// attributes, which are read after the signature was verified.
func parseSignedData(p profile, der []byte) (*signedData, error) {
	if len(der) > MaxSize {
		return nil, fmt.Errorf("%w: %s of %d bytes, at most %d are allowed", ErrTooLarge, p.what, len(der), MaxSize)
	}
	if bytes.HasPrefix(der, []byte("-----BEGIN ")) {
		return nil, fmt.Errorf("%w: %s is PEM, not DER", ErrMalformed, p.what)
	}
	s := &signedData{}
	top := decode(p.what, der)
	info := top.sequence("contentInfo")
	info.oidIs("contentType", oidSignedData)
	explicit := info.part("content", tagged(0).Constructed())
	body := explicit.sequence("signedData")
	body.version(3)
	digests := body.part("digestAlgorithms", cryptobyte_asn1.SET)
	digest := digests.element("digestAlgorithm", cryptobyte_asn1.SEQUENCE)
	digests.end()

	encap := body.sequence("encapContentInfo")
	encap.oidIs("eContentType", p.contentType)
	s.contentType = p.contentType
	wrapped := encap.part("eContent", tagged(0).Constructed())
	s.content = wrapped.octets("octets", cryptobyte_asn1.OCTET_STRING)
	wrapped.end()
	encap.end()

	// Certificates and CRLs would be bytes that no signature covers.
	body.refuse("certificates", tagged(0).Constructed())
	body.refuse("crls", tagged(1).Constructed())
	signers := body.part("signerInfos", cryptobyte_asn1.SET)
	s.parseSignerInfo(signers.sequence("signerInfo"), p, digest)
	if signers.more() {
		signers.malformed("signerInfo", "is not the only one")
	}
	signers.end()
	body.end()
	explicit.end()
	info.end()
	if err := top.end(); err != nil {
		return nil, err
	}
	again, err := s.marshal()
	return s, sameEncoding(p.what, der, again, err)
}

// parseSignerInfo reads the SignerInfo (RFC 5652 §5.3) in d. digest is the
// digest algorithm that the SignedData announced.
func (s *signedData) parseSignerInfo(d *decoder, p profile, digest []byte) {
	d.version(3)
	s.signerID = d.identifier(tagged(0))
	signerDigest := d.element("digestAlgorithm", cryptobyte_asn1.SEQUENCE)
	// Without signed attributes the signature would cover the content alone,
	// and one over attributes could pass for one over content that looks like
	// them (RFC 5652 §5.4).
	attributes := d.part("signedAttrs", tagged(0).Constructed())
	for attributes.more() {
		s.parseAttribute(attributes)
	}
	attributes.end()
	s.suite = suites[d.algorithm("signatureAlgorithm", suiteIdentifiers...)]
	s.signature = d.octets("signature", cryptobyte_asn1.OCTET_STRING)
	d.refuse("unsignedAttrs", tagged(1).Constructed())
	if d.end() != nil {
		return
	}
	// A digest weaker than the signature's would weaken the signature.
	if !bytes.Equal(signerDigest, s.suite.digest) || !bytes.Equal(digest, s.suite.digest) {
		d.fail(fmt.Errorf("%w: %s.digestAlgorithm does not fit the signature algorithm %v", ErrUnknown, d.what, s.suite.scheme))
	}
	s.checkAttributes(attributes, p)
}

// parseAttribute reads one Attribute (RFC 5652 §5.3).
func (s *signedData) parseAttribute(d *decoder) {
	attr := d.sequence("attribute")
	oid := attr.oid("attrType")
	values := attr.part("attrValues", cryptobyte_asn1.SET)
	value := values.any("attrValue")
	if values.more() {
		values.malformed("attrValue", "is not the only one")
	}
	values.end()
	attr.end()
	if *d.err != nil {
		return
	}
	a, err := encodeAttribute(oid, value)
	if err != nil {
		d.malformed("attribute", "has no encoding")
	}
	s.attributes = append(s.attributes, a)
}

// checkAttributes checks that the attributes are those of the profile, each once, in the order of
// DER. An unknown attribute could change the meaning of the signature (RFC 5652 §11), so there must
// be none.
func (s *signedData) checkAttributes(d *decoder, p profile) {
	for _, oid := range p.attributes {
		if n := s.count(oid); n != 1 {
			d.malformed("attribute", fmt.Sprintf("%v is there %d times, not once", oid, n))
		}
	}
	if len(s.attributes) != len(p.attributes) {
		d.fail(fmt.Errorf("%w: %s has an attribute that does not belong there", ErrUnknown, d.what))
	}
	for i := 1; i < len(s.attributes); i++ {
		if bytes.Compare(s.attributes[i-1].der, s.attributes[i].der) >= 0 {
			d.malformed("attribute", "is not in the order of DER")
		}
	}
}

func (s *signedData) count(oid asn1.ObjectIdentifier) (n int) {
	for _, a := range s.attributes {
		if a.oid.Equal(oid) {
			n++
		}
	}
	return n
}

// attribute returns the value of an attribute that the profile demands.
func (s *signedData) attribute(oid asn1.ObjectIdentifier) []byte {
	for _, a := range s.attributes {
		if a.oid.Equal(oid) {
			return a.value
		}
	}
	return nil
}

// verify checks the signer, the message digest and the signature (RFC 5652
// §5.6), in this order. It returns the signer's key, and the time that the signer
// claims.
func (s *signedData) verify(p profile, trusted []Party) (crypto.PublicKey, time.Time, error) {
	pub, err := s.signer(trusted)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", p.what, err)
	}
	signingTime, err := s.verifyKey(p, pub)
	return pub, signingTime, err
}

// verifyKey is verify once the key is known.
func (s *signedData) verifyKey(p profile, pub crypto.PublicKey) (time.Time, error) {
	if !s.suite.fits(pub) {
		return time.Time{}, fmt.Errorf("%w: %s: scheme %v with %v does not fit the signer's %s key", ErrUnknown, p.what, s.suite.scheme, s.suite.hash, kindOf(pub))
	}
	contentType := decode(p.what+".contentType", s.attribute(oidContentType))
	contentType.oidIs("value", p.contentType)
	if err := contentType.end(); err != nil {
		return time.Time{}, err
	}
	digest := decode(p.what+".messageDigest", s.attribute(oidMessageDigest))
	value := digest.octets("value", cryptobyte_asn1.OCTET_STRING)
	if err := digest.end(); err != nil {
		return time.Time{}, err
	}
	if !bytes.Equal(value, s.suite.sum(s.content)) {
		return time.Time{}, fmt.Errorf("%w: %s: messageDigest is not that of the content", ErrSignature, p.what)
	}
	signed, err := s.signedAttributes(cryptobyte_asn1.SET)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %s: %w", ErrMalformed, p.what, err)
	}
	if err := s.suite.verify(pub, signed, s.signature); err != nil {
		return time.Time{}, fmt.Errorf("%w: %s, signer %x: %w", ErrSignature, p.what, s.signerID, err)
	}
	return parseSigningTime(p, s.attribute(oidSigningTime))
}

// signer returns the key of the claimed signer if it is trusted. The identifier only chooses the
// key that has to verify the signature.
func (s *signedData) signer(trusted []Party) (crypto.PublicKey, error) {
	for _, p := range trusted {
		id, err := p.identifier()
		if err != nil {
			return nil, fmt.Errorf("trusted key: %w", err)
		}
		if bytes.Equal(id, s.signerID) {
			return p.Key, nil
		}
	}
	return nil, fmt.Errorf("%w: signed by %x, which is none of the %d trusted keys", ErrUntrusted, s.signerID, len(trusted))
}

func (s *signedData) marshal() ([]byte, error) { return s.marshalWith(nil) }

// marshalWith is marshal with a certificate added, unless it is nil. Such an object is for other
// programs: [parseSignedData] does not accept it.
func (s *signedData) marshalWith(certificate []byte) ([]byte, error) {
	attributes, err := s.signedAttributes(tagged(0).Constructed())
	if err != nil {
		return nil, err
	}
	return encodeIn(len(s.content)+len(certificate)+2048, func(b *cryptobyte.Builder) { // 2048 holds most signatures
		addSequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidSignedData)
			b.AddASN1(tagged(0).Constructed(), func(b *cryptobyte.Builder) {
				addSequence(b, func(b *cryptobyte.Builder) {
					b.AddASN1Int64(3)
					addOctets(b, cryptobyte_asn1.SET, s.suite.digest)
					addSequence(b, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(s.contentType)
						b.AddASN1(tagged(0).Constructed(), func(b *cryptobyte.Builder) { b.AddASN1OctetString(s.content) })
					})
					if certificate != nil {
						addOctets(b, tagged(0).Constructed(), certificate)
					}
					b.AddASN1(cryptobyte_asn1.SET, func(b *cryptobyte.Builder) {
						addSequence(b, func(b *cryptobyte.Builder) {
							b.AddASN1Int64(3)
							addOctets(b, tagged(0), s.signerID)
							b.AddBytes(s.suite.digest)
							b.AddBytes(attributes)
							b.AddBytes(s.suite.signature)
							b.AddASN1OctetString(s.signature)
						})
					})
				})
			})
		})
	})
}

// signedAttributes encodes the attributes under the tag of SET, as they are
// signed, or under [0], as they are stored (RFC 5652 §5.4).
func (s *signedData) signedAttributes(tag cryptobyte_asn1.Tag) ([]byte, error) {
	elements := make([][]byte, len(s.attributes))
	for i, a := range s.attributes {
		elements[i] = a.der
	}
	return encode(func(b *cryptobyte.Builder) { addSetOf(b, tag, elements) })
}

// addSigningTime adds a CMS Time: UTCTime through 2049, GeneralizedTime from
// 2050 (RFC 5652 §11.3).
func addSigningTime(b *cryptobyte.Builder, t time.Time) {
	if t.UTC().Year() < 2050 {
		addTime(b, cryptobyte_asn1.UTCTime, utcTime, t)
	} else {
		addTime(b, cryptobyte_asn1.GeneralizedTime, generalizedTime, t)
	}
}

func parseSigningTime(p profile, value []byte) (time.Time, error) {
	d := decode(p.what+".signingTime", value)
	var t time.Time
	if d.next(cryptobyte_asn1.UTCTime) {
		t = d.timeAs("value", cryptobyte_asn1.UTCTime, utcTime)
	} else {
		t = d.time("value")
	}
	if err := d.end(); err != nil {
		return time.Time{}, err
	}
	again, err := encode(func(b *cryptobyte.Builder) { addSigningTime(b, t) })
	if err := sameEncoding(d.what, value, again, err); err != nil {
		return time.Time{}, err
	}
	return t, nil
}
