package blob

import (
	"encoding/asn1"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers, each under the name that its standard gives it.
var (
	// RFC 5652 §4, §5.1, §6.1, §11; RFC 5083 and RFC 6211 are not used.
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidEnvelopedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}

	// id-ct-contentInfo, RFC 5652 §3: a ContentInfo inside another.
	oidContentInfo = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 6}

	// RFC 5754 §2, RFC 4055 §2.1.
	oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}

	// RFC 8017 A.2, RFC 4055, RFC 5754 §3.
	oidRSAESOAEP       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	oidMGF1            = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidRSASSAPSS       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidSHA256WithRSA   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	oidECDSAWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidECDSAWithSHA384 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
	oidECDSAWithSHA512 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}

	// RFC 5753 §7.1.2, §7.1.4.
	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidECDHSHA256  = asn1.ObjectIdentifier{1, 3, 132, 1, 11, 1}
	oidECDHSHA384  = asn1.ObjectIdentifier{1, 3, 132, 1, 11, 2}
	oidECDHSHA512  = asn1.ObjectIdentifier{1, 3, 132, 1, 11, 3}

	// RFC 3565 §2.3.2.
	oidAES128Wrap = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 5}
	oidAES192Wrap = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 25}
	oidAES256Wrap = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 45}

	// RFC 3565 §2.1.
	oidAES256CBC = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}

	// RFC 8018 B.1.2.
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidHMACSHA384 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 10}
	oidHMACSHA512 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 11}

	// RFC 8018 B.2, PKCS #5; RC4 is of the same arc.
	oidRC2CBC     = asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 2}
	oidRC4        = asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 4}
	oidDESEDE3CBC = asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}
	oidDESCBC     = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 7}

	// RFC 7914 §7, RFC 8018 A.2.
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}

	// The project's own arc, made from a GUID under Microsoft's arc for that.
	// The arc 2.25.<uuid> would be the usual choice, but GnuTLS and GnuPG
	// cannot read its 128-bit component.
	oidArc           = asn1.ObjectIdentifier{1, 2, 840, 113556, 1, 8000, 2554, 47797, 52584, 63263, 19885, 34898, 7319848, 2394228}
	oidKeyDescriptor = append(slices.Clone(oidArc), 1)
	oidProof         = append(slices.Clone(oidArc), 3)

	oidDerivationRecord = append(slices.Clone(oidArc), 4)
	oidCheckpoint       = append(slices.Clone(oidArc), 5)
	oidShares           = append(slices.Clone(oidArc), 6)
	oidApproval         = append(slices.Clone(oidArc), 7)
	oidRehearsal        = append(slices.Clone(oidArc), 8)
)

var derNULL = []byte{0x05, 0x00}

// algorithmIdentifier returns the DER of an AlgorithmIdentifier. Identifiers are
// compared as these bytes: whether parameters are absent, NULL or spelled out
// is part of the closed list, never a choice of the writer.
func algorithmIdentifier(oid asn1.ObjectIdentifier, parameters ...[]byte) []byte {
	return mustEncode(func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oid)
			for _, p := range parameters {
				b.AddBytes(p)
			}
		})
	})
}
