package blob

import (
	"bytes"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A Recovery states that a backup authority has brought keys to a new owner. It is part of the list
// of members by which the recovery began, and of each key blob that the authority wrapped again, so
// that nobody can take a blob that an authority signed for an owner's.
type Recovery struct {
	List   int    // number of the list of members by which the recovery began, 1..MaxNumber
	From   []byte // subject key identifier, 20 bytes, of the owner whose key exchange pair was lost
	Reason string // for people, 1..256 bytes of printable UTF-8

	// Rehearsal marks a recovery that is rehearsed, in a copy of the keyring. The keyring itself must not
	// accept it: it makes a token that nobody protects an owner.
	Rehearsal bool
}

const maxReason = 256

func (r *Recovery) validate() error {
	switch {
	case r.List < 1 || r.List > MaxNumber:
		return fmt.Errorf("recovery: list %d is not in 1..%d", r.List, MaxNumber)
	case len(r.From) != keyIDSize:
		return fmt.Errorf("recovery: subject key identifier has %d bytes, not %d", len(r.From), keyIDSize)
	}
	if err := validText(r.Reason, maxReason); err != nil {
		return fmt.Errorf("recovery: reason %w", err)
	}
	return nil
}

// clone returns a copy that shares nothing, nil for nil.
func (r *Recovery) clone() *Recovery {
	if r == nil {
		return nil
	}
	c := *r
	c.From = bytes.Clone(r.From)
	return &c
}

// add adds the Recovery under a context tag, which replaces that of SEQUENCE.
func (r *Recovery) add(b *cryptobyte.Builder, tag cryptobyte_asn1.Tag) {
	b.AddASN1(tag.Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1Int64(int64(r.List))
		b.AddASN1OctetString(r.From)
		addUTF8String(b, r.Reason)
		if r.Rehearsal {
			addOctets(b, tagged(0), nil) // NULL
		}
	})
}

// recovery takes a Recovery, or returns nil where none comes next.
func (d *decoder) recovery(tag cryptobyte_asn1.Tag) *Recovery {
	if !d.next(tag.Constructed()) {
		return nil
	}
	r := d.part("recovery", tag.Constructed())
	out := &Recovery{
		List:   r.integer("list"),
		From:   r.octetsOf("from", cryptobyte_asn1.OCTET_STRING, keyIDSize),
		Reason: string(r.octets("reason", cryptobyte_asn1.UTF8String)),
	}
	if r.next(tagged(0)) {
		r.octetsOf("rehearsal", tagged(0), 0)
		out.Rehearsal = true
	}
	r.refuseLaterFields(1)
	r.end()
	return out
}
