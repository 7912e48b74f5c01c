package ledger

import (
	"crypto/x509"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
)

// names are the identifiers by which CMS objects of a keyring name keys (see
// [blob.Identifier]). A key may have several, as it may have had several certificates; a
// name has one key for ever, or it would be left open whose an older signature is. The
// subject key identifier of each key is among its names, also where its certificate has
// another: no certificate may give it to another key.
//
// A name leads from what an object says to a key that the lists of members know. Whether
// the object is to be believed is a matter of that key.
type names map[string]certified

type certified struct {
	certificate *x509.Certificate
	key         string // its subject key identifier
}

// add takes in the names that a list of members gives.
func (n names) add(members []blob.Member) error {
	for _, m := range members {
		for _, c := range certificates(m) {
			if name, other := n.clash(c); other != nil {
				return fmt.Errorf("it gives %q the identifier %x, which named another key before: %w", m.Label, name, ErrIllegal)
			}
			for _, name := range namesOf(c) {
				n[name] = certified{c, certifiedKey(c)}
			}
		}
	}
	return nil
}

// clash returns a name of the key in a certificate that names another key already, and the
// certificate of that.
func (n names) clash(c *x509.Certificate) (string, *x509.Certificate) {
	for _, name := range namesOf(c) {
		if other, ok := n[name]; ok && other.key != certifiedKey(c) {
			return name, other.certificate
		}
	}
	return "", nil
}

// namesOf are the names of the key in a certificate.
func namesOf(c *x509.Certificate) []string { return []string{identifier(c), certifiedKey(c)} }

// certificates are those of a member's keys: the one to which session keys are wrapped,
// and where there is another that signs, its.
func certificates(m blob.Member) []*x509.Certificate {
	if m.Signing == nil {
		return []*x509.Certificate{m.Certificate}
	}
	return []*x509.Certificate{m.Certificate, m.Signing}
}

// signingCertificate is the certificate of the key with which a member signs.
func signingCertificate(m blob.Member) *x509.Certificate {
	all := certificates(m)
	return all[len(all)-1]
}

// identifier is that of a certificate in a list that was parsed, so it has one.
func identifier(c *x509.Certificate) string {
	id, _ := blob.Identifier(c)
	return string(id)
}

// certifiedKey is the subject key identifier of the key in such a certificate.
func certifiedKey(c *x509.Certificate) string {
	id, _ := blob.PublicKeyID(c.PublicKey)
	return string(id)
}
