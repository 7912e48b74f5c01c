package blob

import (
	"crypto"
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A Role is what a member of a keyring may do.
type Role int

const (
	// An Owner holds every key, and signs blobs and checkpoints.
	Owner Role = iota + 1
	// A BackupAuthority holds every key, against the loss of the owner's token.
	BackupAuthority
	// A Custodian is no member: it holds a share of the private key of a [Quorum].
	Custodian
)

// String returns "owner", "authority" or "custodian".
func (r Role) String() string {
	switch r {
	case Owner:
		return "owner"
	case BackupAuthority:
		return "authority"
	case Custodian:
		return "custodian"
	}
	return fmt.Sprintf("Role(%d)", int(r))
}

// A Member is somebody to whom session keys are wrapped.
type Member struct {
	Role        Role
	Label       string            // 1..64 bytes of printable UTF-8, for people
	Certificate *x509.Certificate // of the key exchange key: session keys are wrapped to it

	// Signing is the certificate of the key that signs for the member, where the
	// key exchange key must not, as on cards that decrypt with one key and sign
	// with another. nil: the key exchange key signs as well.
	Signing *x509.Certificate

	// Quorum is not nil for a backup authority whose private key is in no one's hands. Certificate
	// is of an EC key on P-384 then, and Signing is nil.
	Quorum *Quorum
}

// Signer returns the public key with which the member signs. No other signature is the member's,
// not even one by its key exchange key if it has a signing key.
func (m Member) Signer() crypto.PublicKey {
	if m.Signing != nil {
		return m.Signing.PublicKey
	}
	return m.Certificate.PublicKey
}

// Parties returns the member's keys as CMS names them: first the one to which session keys are
// wrapped, last the one that signs. Without a signing key there is only one.
func (m Member) Parties() ([]Party, error) {
	var all []Party
	for _, c := range []*x509.Certificate{m.Certificate, m.Signing} {
		if c == nil {
			continue
		}
		p, err := PartyOf(c)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// validate also returns the subject key identifiers of the member's keys.
func (m Member) validate() ([][]byte, error) {
	if m.Role < Owner || m.Role > Custodian {
		return nil, fmt.Errorf("member %q: unknown role %d", m.Label, int(m.Role))
	}
	if err := validText(m.Label, maxLabel); err != nil {
		return nil, fmt.Errorf("member %q: label %w", shorten(m.Label), err)
	}
	if m.Certificate == nil {
		return nil, fmt.Errorf("member %q: no certificate", m.Label)
	}
	keyID, err := PublicKeyID(m.Certificate.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("member %q: %w", m.Label, err)
	}
	if m.Quorum != nil {
		if err := m.validateQuorum(); err != nil {
			return nil, fmt.Errorf("quorum %q: %w", m.Label, err)
		}
	}
	if m.Signing == nil {
		return [][]byte{keyID}, nil
	}
	signing, err := PublicKeyID(m.Signing.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("member %q: signing key: %w", m.Label, err)
	}
	return [][]byte{keyID, signing}, nil
}

func (m Member) add(b *cryptobyte.Builder) {
	addSequence(b, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(int64(m.Role))
		addUTF8String(b, m.Label)
		b.AddBytes(m.Certificate.Raw)
		if m.Signing != nil {
			b.AddASN1(tagged(0).Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(m.Signing.Raw) })
		}
		if m.Quorum != nil {
			m.Quorum.add(b, tagged(1))
		}
	})
}

func (d *decoder) member() Member { return d.memberWith(true) }

func (d *decoder) custodian() Member { return d.memberWith(false) }

// memberWith takes a Member, with a quorum or without.
func (d *decoder) memberWith(quorum bool) Member {
	m := d.sequence("member")
	out := Member{Role: Role(m.enumerated("role")), Label: string(m.octets("label", cryptobyte_asn1.UTF8String))}
	out.Certificate = m.certificate()
	if m.next(tagged(0).Constructed()) {
		signing := m.part("signing", tagged(0).Constructed())
		out.Signing = signing.certificate()
		signing.end()
	}
	later := uint8(1)
	if quorum {
		later = 2
		if m.next(tagged(1).Constructed()) {
			out.Quorum = m.quorum(tagged(1))
		}
	}
	m.refuseLaterFields(later)
	m.end()
	return out
}

// certificate takes a Certificate (RFC 5280 §4.1).
func (d *decoder) certificate() *x509.Certificate {
	raw := d.element("certificate", cryptobyte_asn1.SEQUENCE)
	if *d.err != nil {
		return nil
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		d.malformed("certificate", err.Error())
		return nil
	}
	return cert
}
