package blob

import (
	"encoding/asn1"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// An Approval is the signed statement of a custodian, or of an owner, that one list of members may follow
// another. It serves for nothing else: not for other lists, not for another recovering machine, and not
// after it expires.
type Approval struct {
	KeyringID ID
	Created   time.Time // whole seconds, UTC
	Expires   time.Time // whole seconds, UTC: what it approves must be recorded by then
	List      [32]byte  // SHA-256 of the list in force
	Proposed  [32]byte  // the [ProposedDigest] of the list that may follow
	Quorum    *Approved // nil for an owner's
}

// An Approved is what a custodian approves beyond a list of members.
type Approved struct {
	Certificate [32]byte // SHA-256 of the quorum's certificate
	Recipient   [32]byte // SHA-256 of the SubjectPublicKeyInfo of the recovering machine's key
	Share       [32]byte // SHA-256 of the [Sealed] by which the share goes to that key
}

var approval = kind[Approval]{
	profile: profile{
		what:        "approval",
		contentType: oidApproval,
		attributes:  []asn1.ObjectIdentifier{oidContentType, oidMessageDigest, oidSigningTime},
	},
	marshal: func(a Approval) ([]byte, []attribute, error) {
		content, err := a.marshal()
		return content, nil, err
	},
	parse: func(s *signedData) (Approval, error) { return parseApproval(s.content) },
}

// SignApproval makes a signed approval, as [Sign] makes a key blob.
func SignApproval(a Approval, signer Signer, signingTime time.Time) (*VerifiedApproval, error) {
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("approval: %w", err)
	}
	v, err := approval.sign(a, signer, signingTime)
	if err != nil {
		return nil, err
	}
	return &VerifiedApproval{v}, nil
}

// An UnverifiedApproval is an approval as it came from storage or in a file. Anybody can have made it.
type UnverifiedApproval struct{ unverified[Approval] }

// ParseApproval reads the outer structure of an approval, as [Parse] does that of a key blob.
func ParseApproval(der []byte) (*UnverifiedApproval, error) {
	u, err := approval.read(der)
	if err != nil {
		return nil, err
	}
	return &UnverifiedApproval{u}, nil
}

// Verify checks an approval as [Unverified.Verify] checks a key blob. The caller compares what it approves
// with what is to be done.
func (u *UnverifiedApproval) Verify(trusted []Party) (*VerifiedApproval, error) {
	v, err := u.verify(trusted)
	if err != nil {
		return nil, err
	}
	return &VerifiedApproval{v}, nil
}

// A VerifiedApproval is an approval made by a trusted signer.
type VerifiedApproval struct{ verified[Approval] }

// Approval returns what was signed.
func (v *VerifiedApproval) Approval() Approval {
	a := v.value
	if a.Quorum != nil {
		q := *a.Quorum
		a.Quorum = &q
	}
	return a
}

func (a Approval) validate() error {
	switch {
	case !validTime(a.Created):
		return fmt.Errorf("creation time %v cannot be encoded", a.Created)
	case !validTime(a.Expires):
		return fmt.Errorf("expiry %v cannot be encoded", a.Expires)
	case a.Expires.Before(wholeSecond(a.Created)):
		return fmt.Errorf("it expires before it was made")
	}
	return nil
}

func (a Approval) marshal() ([]byte, error) {
	return encodeIn(256, func(b *cryptobyte.Builder) {
		addSequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(formatVersion)
			b.AddASN1OctetString(a.KeyringID[:])
			addTime(b, cryptobyte_asn1.GeneralizedTime, generalizedTime, a.Created)
			addTime(b, cryptobyte_asn1.GeneralizedTime, generalizedTime, a.Expires)
			b.AddASN1OctetString(a.List[:])
			b.AddASN1OctetString(a.Proposed[:])
			if a.Quorum != nil {
				b.AddASN1(tagged(0).Constructed(), func(b *cryptobyte.Builder) {
					b.AddASN1OctetString(a.Quorum.Certificate[:])
					b.AddASN1OctetString(a.Quorum.Recipient[:])
					b.AddASN1OctetString(a.Quorum.Share[:])
				})
			}
		})
	})
}

// parseApproval reads what was signed.
func parseApproval(der []byte) (Approval, error) {
	var a Approval
	top := decode("approval", der)
	d := top.sequence("content")
	d.formatVersion()
	a.KeyringID = d.id("keyringID")
	a.Created = d.time("created")
	a.Expires = d.time("expires")
	a.List = d.digest("list")
	a.Proposed = d.digest("proposed")
	if d.next(tagged(0).Constructed()) {
		q := d.part("quorum", tagged(0).Constructed())
		a.Quorum = &Approved{q.digest("certificate"), q.digest("recipient"), q.digest("share")}
		q.refuseLaterFields(0)
		q.end()
	}
	d.refuseLaterFields(1)
	d.end()
	if err := top.end(); err != nil {
		return Approval{}, err
	}
	return a, canonical(top.what, der, a.validate, a.marshal)
}
