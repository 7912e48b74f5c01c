package blob

import (
	"bytes"
	"crypto/ecdh"
	"crypto/x509"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A Proposal is a list of members that somebody else is asked to approve. It is not signed: whoever
// approves it looks at what the list says, and approves its digest.
type Proposal struct {
	Expires time.Time // whole seconds, UTC: approvals are made until then, for not longer
	List    MemberList

	Recovery *ProposedRecovery // nil for a change by owners, whose List has the proposer's approval
}

// A ProposedRecovery is what a proposal of a recovery by a [Quorum] has beyond the list.
type ProposedRecovery struct {
	Quorum [32]byte // SHA-256 of the quorum's certificate

	// Recipient is the recovering machine's key, on P-384: custodians seal their shares to it.
	Recipient *ecdh.PublicKey
}

// MarshalProposal encodes a proposal: DER, at most [MaxSize] bytes.
func MarshalProposal(p Proposal) ([]byte, error) {
	der, err := p.marshal()
	if err == nil {
		_, err = ParseProposal(der)
	}
	if err != nil {
		return nil, fmt.Errorf("proposal: %w", err)
	}
	return der, nil
}

// ParseProposal reads a proposal, which must be in its one encoding. Anybody can have made it. The error
// is an [ErrMalformed], [ErrTooLarge], [ErrUnknown] or [ErrNewer].
func ParseProposal(der []byte) (Proposal, error) {
	if len(der) > MaxSize {
		return Proposal{}, fmt.Errorf("%w: proposal of %d bytes, at most %d are allowed", ErrTooLarge, len(der), MaxSize)
	}
	var p Proposal
	top := decode("proposal", bytes.Clone(der))
	d := top.sequence("content")
	d.formatVersion()
	p.Expires = d.time("expires")
	list := d.octets("list", cryptobyte_asn1.OCTET_STRING)
	if d.next(tagged(0).Constructed()) {
		r := d.part("recovery", tagged(0).Constructed())
		p.Recovery = &ProposedRecovery{r.digest("quorum"), r.recoveringKey()}
		r.refuseLaterFields(0)
		r.end()
	}
	d.refuseLaterFields(1)
	d.end()
	if err := top.end(); err != nil {
		return Proposal{}, err
	}
	var err error
	if p.List, err = ParseMembers(list); err != nil {
		return Proposal{}, err
	}
	return p, canonical(top.what, der, p.validate, p.marshal)
}

// recoveringKey takes a public key on P-384.
func (d *decoder) recoveringKey() *ecdh.PublicKey {
	point := d.octetsOf("recipient", cryptobyte_asn1.OCTET_STRING, CommitmentSize)
	if *d.err != nil {
		return nil
	}
	key, err := ecdh.P384().NewPublicKey(point)
	if err != nil {
		d.malformed("recipient", "is no uncompressed point of P-384")
	}
	return key
}

func (p Proposal) validate() error {
	switch {
	case !validTime(p.Expires):
		return fmt.Errorf("expiry %v cannot be encoded", p.Expires)
	case p.Recovery != nil && (p.Recovery.Recipient == nil || p.Recovery.Recipient.Curve() != ecdh.P384()):
		return fmt.Errorf("the recipient's key is not on P-384")
	case (p.Recovery != nil) != (p.List.Recovery != nil):
		return fmt.Errorf("a recovery is a quorum's, and nothing else is")
	}
	return nil
}

// RecipientInfo returns the SubjectPublicKeyInfo (RFC 5280 §4.1) of the recovering machine's key, which an
// [Approval] has the SHA-256 of.
func (r *ProposedRecovery) RecipientInfo() ([]byte, error) {
	return x509.MarshalPKIXPublicKey(r.Recipient)
}

func (p Proposal) marshal() ([]byte, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	list, err := MarshalMembers(p.List)
	if err != nil {
		return nil, err
	}
	return encodeIn(len(list)+256, func(b *cryptobyte.Builder) {
		addSequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(formatVersion)
			addTime(b, cryptobyte_asn1.GeneralizedTime, generalizedTime, p.Expires)
			b.AddASN1OctetString(list)
			if p.Recovery != nil {
				b.AddASN1(tagged(0).Constructed(), func(b *cryptobyte.Builder) {
					b.AddASN1OctetString(p.Recovery.Quorum[:])
					b.AddASN1OctetString(p.Recovery.Recipient.Bytes())
				})
			}
		})
	})
}
