package blob

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A Quorum is what a list of members states about a backup authority whose private key was split: any
// Threshold of the custodians can put it together, and fewer learn nothing about it. A recovery that it
// signs counts only with the [Approval] of as many of them.
type Quorum struct {
	Threshold  int      // 2..len(Custodians)
	Custodians []Member // 2..MaxCustodians, of the role [Custodian], in the order of their shares
	Shares     [32]byte // SHA-256 of the signed [Shares]
}

// MaxCustodians is the highest number of custodians of a quorum.
const MaxCustodians = 32

// validateQuorum checks what a member with a quorum has beyond others.
func (m Member) validateQuorum() error {
	q := m.Quorum
	if m.Role != BackupAuthority || m.Signing != nil {
		return fmt.Errorf("it is no backup authority that signs itself")
	}
	if key, ok := m.Certificate.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P384() {
		return fmt.Errorf("its key is not EC on P-384")
	}
	if err := validThreshold(q.Threshold, len(q.Custodians)); err != nil {
		return err
	}
	keys, labels := map[string]bool{}, map[string]bool{}
	for _, c := range q.Custodians {
		if c.Role != Custodian || c.Quorum != nil {
			return fmt.Errorf("%q has the role %v, not that of a custodian", shorten(c.Label), c.Role)
		}
		keyIDs, err := c.validate()
		if err != nil {
			return err
		}
		for _, id := range keyIDs {
			if keys[string(id)] {
				return fmt.Errorf("custodian %q: key %x is there twice", c.Label, id)
			}
			keys[string(id)] = true
		}
		if labels[c.Label] {
			return fmt.Errorf("custodian %q is there twice", c.Label)
		}
		labels[c.Label] = true
	}
	return nil
}

func validThreshold(threshold, custodians int) error {
	if custodians < 2 || custodians > MaxCustodians {
		return fmt.Errorf("%d custodians, not 2 to %d", custodians, MaxCustodians)
	}
	if threshold < 2 || threshold > custodians {
		return fmt.Errorf("threshold %d is not in 2..%d", threshold, custodians)
	}
	return nil
}

// add adds the Quorum under a context tag, which replaces that of SEQUENCE.
func (q *Quorum) add(b *cryptobyte.Builder, tag cryptobyte_asn1.Tag) {
	b.AddASN1(tag.Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1Int64(int64(q.Threshold))
		b.AddASN1OctetString(q.Shares[:])
		addSequence(b, func(b *cryptobyte.Builder) {
			for _, c := range q.Custodians {
				c.add(b)
			}
		})
	})
}

// quorum takes a Quorum. A custodian in it with a quorum of its own is refused before that is read, or
// they could be nested without end.
func (d *decoder) quorum(tag cryptobyte_asn1.Tag) *Quorum {
	q := d.part("quorum", tag.Constructed())
	out := &Quorum{Threshold: q.integer("threshold"), Shares: q.digest("shares")}
	custodians := q.sequence("custodians")
	for custodians.more() && len(out.Custodians) <= MaxCustodians {
		out.Custodians = append(out.Custodians, custodians.custodian())
	}
	if len(out.Custodians) > MaxCustodians {
		custodians.malformed("custodian", fmt.Sprintf("is not one of at most %d", MaxCustodians))
	}
	custodians.end()
	q.refuseLaterFields(0)
	q.end()
	return out
}
