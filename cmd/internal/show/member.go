package show

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A Member is a member of the keyring in JSON. Its form is stable.
type Member struct {
	Label        string    `json:"label"`
	Role         string    `json:"role"`
	Subject      string    `json:"subject"`
	Key          string    `json:"key"`
	SubjectKeyID string    `json:"subject_key_id"`
	Fingerprint  string    `json:"fingerprint"` // SHA-256 of the certificate
	NotAfter     time.Time `json:"not_after"`
	Signing      string    `json:"signing_fingerprint,omitempty"` // SHA-256 of the certificate of the key that signs, where it is another
	Quorum       *Quorum   `json:"quorum,omitempty"`
}

// A Quorum is what the list of members states about a quorum, in JSON. Its form is stable.
type Quorum struct {
	Threshold  int      `json:"threshold"`
	Custodians []Member `json:"custodians"`
	Shares     string   `json:"shares"` // path in the store
}

// quorumOf returns the quorum that a member is, or nil.
func quorumOf(m blob.Member) *Quorum {
	if m.Quorum == nil {
		return nil
	}
	q := &Quorum{Threshold: m.Quorum.Threshold, Shares: blob.SharesPath(m.Quorum.Shares)}
	for _, c := range m.Quorum.Custodians {
		q.Custodians = append(q.Custodians, MemberOf(c))
	}
	return q
}

// Members returns all members of a keyring.
func Members(k *hsmkeys.Keyring) []Member {
	var all []Member
	for _, m := range k.Members() {
		all = append(all, MemberOf(m))
	}
	return all
}

// MemberOf returns a member in the form for JSON.
func MemberOf(m blob.Member) Member {
	id, _ := blob.PublicKeyID(m.Certificate.PublicKey) // a key of another kind has none
	signing := ""
	if m.Signing != nil {
		signing = Fingerprint(m.Signing)
	}
	return Member{
		Signing: signing, Quorum: quorumOf(m),
		Label: m.Label, Role: m.Role.String(), Subject: m.Certificate.Subject.String(), Key: KeyType(m.Certificate),
		SubjectKeyID: hex.EncodeToString(id), Fingerprint: Fingerprint(m.Certificate), NotAfter: m.Certificate.NotAfter,
	}
}

// MemberRows returns what a person compares before accepting a member.
func MemberRows(m blob.Member) [][]string {
	j := MemberOf(m)
	var rows [][]string
	if m.Role != 0 { // or else it is not known yet
		rows = append(rows, []string{"  role", j.Role})
	}
	rows = append(rows,
		[]string{"  label", text.Printable(j.Label)},
		[]string{"  subject", text.Printable(j.Subject)},
		[]string{"  key", j.Key + ", id " + j.SubjectKeyID},
		[]string{"  fingerprint", "SHA-256 " + j.Fingerprint},
		[]string{"  valid until", text.Time(j.NotAfter)})
	if m.Signing != nil {
		rows = append(rows, []string{"  signs with", KeyType(m.Signing) + ", SHA-256 " + Fingerprint(m.Signing)})
	}
	return append(rows, QuorumRows(m)...)
}

// QuorumRows returns the threshold and the custodians of a quorum, and nothing for another member.
func QuorumRows(m blob.Member) [][]string {
	if m.Quorum == nil {
		return nil
	}
	rows := [][]string{{"  threshold", fmt.Sprintf("%d of %d custodians", m.Quorum.Threshold, len(m.Quorum.Custodians))}}
	for _, c := range m.Quorum.Custodians {
		rows = append(rows, []string{"  custodian", fmt.Sprintf("%s, %s, SHA-256 %s", text.Printable(c.Label), KeyType(c.Certificate), Fingerprint(c.Certificate))})
		if c.Signing != nil {
			rows = append(rows, []string{"    signs with", fmt.Sprintf("%s, SHA-256 %s", KeyType(c.Signing), Fingerprint(c.Signing))})
		}
	}
	return rows
}

// Party returns [MemberRows] under a title, for a decision about several members.
func Party(title string, m blob.Member) [][]string {
	return append([][]string{{title}}, MemberRows(m)...)
}

// Fingerprint returns the SHA-256 of a certificate, as openssl x509 -fingerprint shows it.
func Fingerprint(c *x509.Certificate) string {
	var parts []string
	for _, b := range sha256.Sum256(c.Raw) {
		parts = append(parts, fmt.Sprintf("%02X", b))
	}
	return strings.Join(parts, ":")
}

// KeyType returns the kind and size of the key in a certificate.
func KeyType(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "EC " + key.Curve.Params().Name
	}
	return c.PublicKeyAlgorithm.String()
}

// CertificateName returns the name of a certificate's holder: the common name, or else an
// alternative name (RFC 5280 §4.2.1.6), or else the most specific other attribute of the subject.
// It returns "" if the certificate names nobody.
func CertificateName(c *x509.Certificate) string {
	all := append([]string{c.Subject.CommonName}, c.EmailAddresses...)
	all = append(all, c.DNSNames...)
	for _, u := range c.URIs {
		all = append(all, u.String())
	}
	all = append(all, attributeOf(c, oidEmailAddress), attributeOf(c, oidUID), c.Subject.SerialNumber)
	all = append(append(all, c.Subject.OrganizationalUnit...), c.Subject.Organization...)
	return cmp.Or(all...)
}

// Attributes of a subject's name that package pkix does not know (RFC 2985 §5.2.1, RFC 4519
// §2.39).
var (
	oidEmailAddress = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	oidUID          = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
)

// attributeOf returns an attribute of the subject, or "".
func attributeOf(c *x509.Certificate, kind asn1.ObjectIdentifier) string {
	for _, a := range c.Subject.Names {
		if value, ok := a.Value.(string); ok && a.Type.Equal(kind) {
			return value
		}
	}
	return ""
}

// VoucherRows returns who vouches for a keyring. A former member may have kept the key of the
// certificate, and could sign any continuation of the lists that it still knew.
func VoucherRows(k *hsmkeys.Keyring, voucher *x509.Certificate) ([][]string, error) {
	by, err := k.MemberWith(voucher.PublicKey)
	if err != nil {
		return nil, err
	}
	rows := Party("vouched for by", by)
	if left := k.LeftAt(by); left > 0 {
		rows[1][1] = fmt.Sprintf("FORMER %s, removed with list of members %d", by.Role, left)
	}
	if !by.Certificate.Equal(voucher) { // that of the key that signs, or one that was made anew
		rows = append(rows, []string{"  in the file", "SHA-256 " + Fingerprint(voucher)})
	}
	return rows, nil
}

// WarnFormerVoucher warns of a voucher that is a former member, when nobody is asked to confirm.
func WarnFormerVoucher(k *hsmkeys.Keyring, voucher *x509.Certificate) {
	by, err := k.MemberWith(voucher.PublicKey)
	if err != nil {
		return // and it did not vouch for it
	}
	if left := k.LeftAt(by); left > 0 {
		message.Warn(fmt.Errorf("the voucher %q is a former %s, removed with list of members %d; take the certificate of a member of today", by.Label, by.Role, left))
	}
}

// KeyringRows returns the members of a keyring.
func KeyringRows(k *hsmkeys.Keyring) [][]string {
	var rows [][]string
	for _, m := range Members(k) {
		rows = append(rows, []string{"  " + m.Role, text.Printable(m.Label) + ", SHA-256 " + m.Fingerprint})
	}
	return rows
}

// NoteAlone prints what it means that there is no backup authority.
func NoteAlone(k *hsmkeys.Keyring) {
	if lost := Alone(k.Members()); lost != "" {
		message.Note("%s (hsmkeys authority add)", lost)
	}
}

// Alone returns what it means for members that none of them is a backup authority, or "" if one is.
func Alone(members []blob.Member) string {
	owners := 0
	for _, m := range members {
		if m.Role == blob.BackupAuthority {
			return ""
		}
		owners++
	}
	if owners == 1 {
		return "there is no backup authority: when this token is lost, the key and all data under it are lost"
	}
	return fmt.Sprintf("there is no backup authority: only the tokens of the %d owners open the key", owners)
}

// MemberChanges returns who joined and who left. A member that did both has changed.
func MemberChanges(e ledger.Event) string {
	var all []string
	left := map[string]bool{}
	for _, m := range e.Left {
		left[ledger.KeyID(m)] = true
	}
	for _, m := range e.Joined {
		does := "joined"
		if left[ledger.KeyID(m)] {
			does = "changed"
			delete(left, ledger.KeyID(m))
		}
		all = append(all, fmt.Sprintf("%s %s %s", m.Role, text.Printable(m.Label), does))
	}
	for _, m := range e.Left {
		if left[ledger.KeyID(m)] {
			all = append(all, fmt.Sprintf("%s %s left", m.Role, text.Printable(m.Label)))
		}
	}
	if e.Policy != nil {
		all = append(all, "policy: "+Policy(*e.Policy))
	}
	if len(e.Approved) > 0 {
		all = append(all, "approved by "+session.Labels(e.Approved))
	}
	return strings.Join(all, ", ")
}

// Policy returns what a policy demands.
func Policy(p blob.Policy) string {
	recovery, changes := "a backup authority recovers", "an owner changes the members"
	if p.QuorumOnly {
		recovery = "only a quorum recovers"
	}
	if p.SecondOwner {
		changes = "two owners change the members"
	}
	return recovery + ", " + changes
}
