package blob

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxMembers is the highest number of members of a keyring, as each of them is
// a recipient.
const MaxMembers = MaxRecipients

const maxLabel = 64

// A MemberList is the members who hold the keys of a keyring. Lists are numbered and each names the
// one before it. They are not signed: a list counts through the [Checkpoint] that has its SHA-256.
type MemberList struct {
	KeyringID ID
	Number    int       // 1..MaxNumber
	Previous  []byte    // SHA-256 of list Number-1, 32 bytes; nil for list 1
	Created   time.Time // whole seconds, UTC
	Members   []Member  // 1..MaxMembers, at least one owner, each public key once in all certificates

	// Recovery is nil except in a list by which a backup authority puts a new owner
	// in the place of one whose key was lost. Its List is Number then, and From the
	// key of none of Members.
	Recovery *Recovery

	Policy Policy // for the lists that follow this one

	// Approvals are signed [Approval] objects, at most MaxApprovals, ascending by their bytes. What
	// they approve is the list without them, see [ProposedDigest].
	Approvals [][]byte
}

// MaxApprovals is the highest number of approvals in a list of members.
const MaxApprovals = MaxCustodians

// ProposedDigest returns what an [Approval] of a list of members approves: the SHA-256 of the list
// without its approvals.
func ProposedDigest(l MemberList) ([32]byte, error) {
	l.Approvals = nil
	der, err := MarshalMembers(l)
	return sha256.Sum256(der), err
}

// MarshalMembers encodes a list of members: DER, at most [MaxSize] bytes. The list is
// not signed; what names its SHA-256 is. The creation time is cut to whole seconds.
func MarshalMembers(l MemberList) ([]byte, error) {
	if err := l.validate(); err != nil {
		return nil, fmt.Errorf("member list %d: %w", l.Number, err)
	}
	der, err := l.marshal()
	if err != nil {
		return nil, fmt.Errorf("member list %d: %w", l.Number, err)
	}
	if _, err := ParseMembers(der); err != nil {
		return nil, fmt.Errorf("new %w", err)
	}
	return der, nil
}

// ParseMembers reads a list of members, which must be in its one encoding. Nothing in
// it is known to be true unless its SHA-256 comes from a checkpoint that is: the caller
// compares that, and the keyring and number, with what it expects. The error is an
// [ErrMalformed], [ErrTooLarge], [ErrUnknown] or [ErrNewer].
func ParseMembers(der []byte) (MemberList, error) {
	if len(der) > MaxSize {
		return MemberList{}, fmt.Errorf("%w: member list of %d bytes, at most %d are allowed", ErrTooLarge, len(der), MaxSize)
	}
	der = bytes.Clone(der) // the list keeps parts of it
	var l MemberList
	top := decode("member list", der)
	d := top.sequence("content")
	d.formatVersion()
	l.KeyringID = d.id("keyringID")
	l.Number = d.integer("number")
	l.Created = d.time("created")
	if d.next(tagged(0)) {
		l.Previous = d.octetsOf("previous", tagged(0), digestSize)
	}
	members := d.sequence("members")
	for members.more() && len(l.Members) <= MaxMembers {
		l.Members = append(l.Members, members.member())
	}
	if len(l.Members) > MaxMembers {
		members.malformed("member", fmt.Sprintf("is not one of at most %d", MaxMembers))
	}
	members.end()
	l.Recovery = d.recovery(tagged(1))
	l.Policy = d.policy(tagged(2))
	l.Approvals = d.approvals(tagged(3))
	d.refuseLaterFields(4)
	d.end()
	if err := top.end(); err != nil {
		return MemberList{}, err
	}
	if err := canonical(top.what, der, l.validate, l.marshal); err != nil {
		return MemberList{}, err
	}
	return l, nil
}

func (l MemberList) validate() error {
	switch {
	case l.Number < 1 || l.Number > MaxNumber:
		return fmt.Errorf("number %d is not in 1..%d", l.Number, MaxNumber)
	case l.Number == 1 && l.Previous != nil:
		return fmt.Errorf("the first list names one before it")
	case l.Number > 1 && len(l.Previous) != digestSize:
		return fmt.Errorf("digest of the list before has %d bytes, not %d", len(l.Previous), digestSize)
	case !validTime(l.Created):
		return fmt.Errorf("creation time %v cannot be encoded", l.Created)
	case len(l.Members) < 1 || len(l.Members) > MaxMembers:
		return fmt.Errorf("%d members, not 1 to %d", len(l.Members), MaxMembers)
	}
	owners, seen := 0, make(map[string]bool)
	for _, m := range l.Members {
		if m.Role == Custodian {
			return fmt.Errorf("member %q: a custodian is none", shorten(m.Label))
		}
		keyIDs, err := m.validate()
		if err != nil {
			return err
		}
		// Under two roles, or two labels, a key would be removed under one and
		// stay under the other; and one that decrypts for a member and signs for
		// another would leave open whose signature it is.
		for _, keyID := range keyIDs {
			if seen[string(keyID)] {
				return fmt.Errorf("key %x is there twice", keyID)
			}
			seen[string(keyID)] = true
		}
		if m.Role == Owner {
			owners++
		}
	}
	if owners == 0 {
		return fmt.Errorf("no member is an owner: nobody could sign the next list")
	}
	if err := l.CheckPolicy(); err != nil {
		return err
	}
	if err := l.validateCustodians(seen); err != nil {
		return err
	}
	if err := distinct(l.Everybody()); err != nil {
		return err
	}
	if err := l.validateApprovals(); err != nil {
		return err
	}
	switch {
	case l.Recovery == nil:
		return nil
	case l.Recovery.List != l.Number || l.Number == 1: // before the first there was nothing to recover
		return fmt.Errorf("recovery by list %d in list %d", l.Recovery.List, l.Number)
	case seen[string(l.Recovery.From)]:
		return fmt.Errorf("recovery from %x, who stays a member", l.Recovery.From)
	}
	return l.Recovery.validate()
}

// validateCustodians returns an error if a custodian has a key of a member: who is both could put its
// own share to use, and counts for one more than it seems.
func (l MemberList) validateCustodians(keysOfMembers map[string]bool) error {
	for _, m := range l.Members {
		if m.Quorum == nil {
			continue
		}
		for _, c := range m.Quorum.Custodians {
			keyIDs, err := c.validate()
			if err != nil {
				return err
			}
			for _, id := range keyIDs {
				if keysOfMembers[string(id)] {
					return fmt.Errorf("custodian %q: key %x is a member's", c.Label, id)
				}
			}
		}
	}
	return nil
}

func (l MemberList) validateApprovals() error {
	if len(l.Approvals) > MaxApprovals {
		return fmt.Errorf("%d approvals, not at most %d", len(l.Approvals), MaxApprovals)
	}
	for i := 1; i < len(l.Approvals); i++ {
		if bytes.Compare(l.Approvals[i-1], l.Approvals[i]) >= 0 {
			return fmt.Errorf("approval %d is not in ascending order", i+1)
		}
	}
	return nil
}

// Everybody returns the members and the custodians of their quorums. A custodian of several quorums is
// there several times.
func (l MemberList) Everybody() []Member {
	all := slices.Clone(l.Members)
	for _, m := range l.Members {
		if m.Quorum != nil {
			all = append(all, m.Quorum.Custodians...)
		}
	}
	return all
}

// distinct returns an error if two keys have one identifier, so that it would be open whose a
// signature or a wrapped key is. The issuers of certificates choose these identifiers and promise
// nothing, so none may be the subject key identifier of another key either.
func distinct(members []Member) error {
	named := make(map[string]string) // subject key identifiers
	for _, m := range members {
		parties, err := m.Parties()
		if err != nil {
			return fmt.Errorf("member %q: %w", m.Label, err)
		}
		for _, p := range parties {
			key, err := PublicKeyID(p.Key)
			if err != nil {
				return fmt.Errorf("member %q: %w", m.Label, err)
			}
			for _, id := range [][]byte{p.ID, key} {
				if other, ok := named[string(id)]; ok && other != string(key) {
					return fmt.Errorf("member %q: the subjectKeyIdentifier %x names another key as well", m.Label, id)
				}
				named[string(id)] = string(key)
			}
		}
	}
	return nil
}

func (l MemberList) marshal() ([]byte, error) {
	return encode(func(b *cryptobyte.Builder) {
		addSequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(formatVersion)
			b.AddASN1OctetString(l.KeyringID[:])
			b.AddASN1Int64(int64(l.Number))
			addTime(b, cryptobyte_asn1.GeneralizedTime, generalizedTime, l.Created)
			if l.Previous != nil {
				addOctets(b, tagged(0), l.Previous)
			}
			addSequence(b, func(b *cryptobyte.Builder) {
				for _, m := range l.Members {
					m.add(b)
				}
			})
			if l.Recovery != nil {
				l.Recovery.add(b, tagged(1))
			}
			l.Policy.add(b, tagged(2))
			if len(l.Approvals) > 0 {
				b.AddASN1(tagged(3).Constructed(), func(b *cryptobyte.Builder) {
					for _, approval := range l.Approvals {
						b.AddASN1OctetString(approval)
					}
				})
			}
		})
	})
}

// approvals takes the signed approvals, or returns nil if none come next.
func (d *decoder) approvals(tag cryptobyte_asn1.Tag) [][]byte {
	if !d.next(tag.Constructed()) {
		return nil
	}
	var all [][]byte
	approvals := d.part("approvals", tag.Constructed())
	for approvals.more() && len(all) <= MaxApprovals {
		all = append(all, approvals.octets("approval", cryptobyte_asn1.OCTET_STRING))
	}
	if len(all) > MaxApprovals {
		approvals.malformed("approval", fmt.Sprintf("is not one of at most %d", MaxApprovals))
	}
	approvals.end()
	return all
}
