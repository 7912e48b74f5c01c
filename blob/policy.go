package blob

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A Policy is what a list of members demands of the lists that follow it.
type Policy struct {
	// QuorumOnly demands that every recovery is one by a [Quorum].
	QuorumOnly bool
	// SecondOwner demands that every other list has the [Approval] of an owner who is not the signer
	// of the checkpoint that introduces it.
	SecondOwner bool
}

// Bits of a Policy in its INTEGER.
const (
	policyQuorumOnly = 1 << iota
	policySecondOwner
)

// add adds the Policy under a context tag, which replaces that of INTEGER, unless it demands nothing.
func (p Policy) add(b *cryptobyte.Builder, tag cryptobyte_asn1.Tag) {
	bits := int64(0)
	if p.QuorumOnly {
		bits |= policyQuorumOnly
	}
	if p.SecondOwner {
		bits |= policySecondOwner
	}
	if bits > 0 {
		b.AddASN1Int64WithTag(bits, tag)
	}
}

// policy takes a Policy, or returns one that demands nothing if none comes next.
func (d *decoder) policy(tag cryptobyte_asn1.Tag) Policy {
	if !d.next(tag) {
		return Policy{}
	}
	bits := d.number("policy", tag)
	if *d.err == nil && bits&^(policyQuorumOnly|policySecondOwner) != 0 {
		d.fail(fmt.Errorf("%w: %s has a policy with the bits %b", ErrUnknown, d.what, bits))
	}
	return Policy{QuorumOnly: bits&policyQuorumOnly != 0, SecondOwner: bits&policySecondOwner != 0}
}

// ErrPolicy is the error for a list of members that could not do what its own policy demands.
var ErrPolicy = errors.New("the policy could not be kept to")

// CheckPolicy returns an [ErrPolicy] unless the list has the members that its policy demands: a quorum, or
// a second owner.
func (l MemberList) CheckPolicy() error {
	owners, quorums := 0, 0
	for _, m := range l.Members {
		if m.Role == Owner {
			owners++
		}
		if m.Quorum != nil {
			quorums++
		}
	}
	switch {
	case l.Policy.QuorumOnly && quorums == 0:
		return fmt.Errorf("only a quorum may recover, and there would be none: %w", ErrPolicy)
	case l.Policy.SecondOwner && owners < 2:
		return fmt.Errorf("a second owner must approve changes, and there would be none: %w", ErrPolicy)
	}
	return nil
}
