package hsmkeys_test

import (
	"context"
	"crypto"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/token"
)

// sha256Only is the extension by which a certificate says that its pair opens what is
// wrapped by OAEP with SHA-256 (RFC 4262 and RFC 4055).
const sha256Only = "1.2.840.113549.1.9.15=DER:303c303a06092a864886f70d010107302da00d300b0609608648016503040201a11c301a06092a864886f70d010108300d06096086480165030402010500\n"

// Whoever can write to the token without its PIN can have put any certificate of the pair's
// key there. What it says of the hash of OAEP is not believed: SoftHSM opens SHA-1 alone.
func TestACertificateWithAFalseHashIsNotTaken(t *testing.T) {
	ca := newIssuer(t)
	const usage = "keyUsage=digitalSignature,keyEncipherment\nsubjectKeyIdentifier=hash\n"
	for _, test := range []struct {
		name       string
		extensions string
		says       crypto.Hash
		taken      bool
	}{
		{"true", usage, crypto.SHA1, true},
		{"false", usage + sha256Only, crypto.SHA256, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := emptySite(t, "hash "+test.name)
			pair := s.pairOn(t, "card", token.RSA2048)
			planted := ca.issue(t, "planted", pair.Public(), test.extensions)
			if got := token.CertifiedOAEPHash(planted); got != test.says {
				t.Fatalf("the certificate says %v", got)
			}
			s.store(t, pair, planted)
			c, err := hsmkeys.CertificateOf(context.Background(), pair, "office")
			if err != nil {
				t.Fatal(err)
			}
			if c.Equal(planted) != test.taken || token.CertifiedOAEPHash(c) != crypto.SHA1 {
				t.Errorf("%q, which says %v", c.Subject, token.CertifiedOAEPHash(c))
			}
		})
	}
}
