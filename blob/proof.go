package blob

import (
	"bytes"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A Proof is a holder's signed statement of what its token has really unwrapped.
// That a blob names a holder does not show that the holder can open it: whoever
// wrapped it may have had the wrong public key, or the token may be dead.
type Proof struct {
	KeyringID ID
	Created   time.Time // whole seconds, UTC
	Opened    []Opened  // 1..MaxOpened, each blob once, ascending by blob
}

// Opened names a key blob that was unwrapped, and the key that came out, which is
// still the same when another blob has taken the place of this one.
type Opened struct {
	Blob  [32]byte // SHA-256 of the key blob
	KeyID ID       // of the session key
}

// MaxOpened is the highest number of blobs in one proof, which fits in [MaxSize].
// Whoever has opened more makes several.
const MaxOpened = 4096

var proof = profile{
	what:        "proof",
	contentType: oidProof,
	attributes:  []asn1.ObjectIdentifier{oidContentType, oidMessageDigest, oidSigningTime},
}

// SignProof makes a signed proof. It is to a proof what [Sign] is to a key blob.
// Opened is sorted; nothing in it, or a blob twice, is an error.
func SignProof(p Proof, signer Signer, signingTime time.Time) (*VerifiedProof, error) {
	p = p.clone()
	slices.SortFunc(p.Opened, Opened.compare)
	if err := p.validate(); err != nil {
		return nil, fmt.Errorf("proof: %w", err)
	}
	content, err := p.marshal()
	if err != nil {
		return nil, err
	}
	return sign(proof, content, nil, signer, signingTime, func(der []byte, trusted []Party) (*VerifiedProof, error) {
		u, err := ParseProof(der)
		if err != nil {
			return nil, err
		}
		return u.Verify(trusted, p.KeyringID)
	})
}

// An UnverifiedProof is a proof as it came from storage. Anybody can have made
// it.
type UnverifiedProof struct{ unverified }

// ParseProof is to a proof what [Parse] is to a key blob.
func ParseProof(der []byte) (*UnverifiedProof, error) {
	u, err := parseObject(proof, der)
	if err != nil {
		return nil, err
	}
	return &UnverifiedProof{u}, nil
}

// Verify is to a proof what [Unverified.Verify] is to a key blob. A proof for
// another keyring is an [ErrMisplaced]. The caller compares the signer with the
// path under which the proof was found: a holder speaks for its own token only.
func (u *UnverifiedProof) Verify(trusted []Party, keyring ID) (*VerifiedProof, error) {
	v, err := u.verify(proof, trusted)
	if err != nil {
		return nil, err
	}
	p, err := parseProof(u.signed.content)
	if err != nil {
		return nil, err
	}
	if p.KeyringID != keyring {
		return nil, fmt.Errorf("%w: proof signed for keyring %v, found in keyring %v", ErrMisplaced, p.KeyringID, keyring)
	}
	return &VerifiedProof{v, p}, nil
}

// A VerifiedProof is a proof made by a trusted signer. It cannot be changed;
// accessors copy.
type VerifiedProof struct {
	verified
	proof Proof
}

// Proof returns what was signed.
func (v *VerifiedProof) Proof() Proof { return v.proof.clone() }

func (p Proof) clone() Proof {
	p.Opened = slices.Clone(p.Opened)
	return p
}

func (o Opened) compare(other Opened) int { return bytes.Compare(o.Blob[:], other.Blob[:]) }

func (p Proof) validate() error {
	switch {
	case !validTime(p.Created):
		return fmt.Errorf("creation time %v cannot be encoded", p.Created)
	case len(p.Opened) < 1 || len(p.Opened) > MaxOpened:
		return fmt.Errorf("%d blobs, not 1 to %d", len(p.Opened), MaxOpened)
	}
	for i := 1; i < len(p.Opened); i++ {
		switch c := p.Opened[i-1].compare(p.Opened[i]); {
		case c == 0:
			return fmt.Errorf("blob %x is there twice", p.Opened[i].Blob)
		case c > 0:
			return fmt.Errorf("blob %x is not in ascending order", p.Opened[i].Blob)
		}
	}
	return nil
}

func (p Proof) marshal() ([]byte, error) {
	return encodeIn(64+64*len(p.Opened), func(b *cryptobyte.Builder) {
		addSequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(formatVersion)
			b.AddASN1OctetString(p.KeyringID[:])
			addTime(b, cryptobyte_asn1.GeneralizedTime, generalizedTime, p.Created)
			addSequence(b, func(b *cryptobyte.Builder) {
				for _, o := range p.Opened {
					addSequence(b, func(b *cryptobyte.Builder) {
						b.AddASN1OctetString(o.Blob[:])
						b.AddASN1OctetString(o.KeyID[:])
					})
				}
			})
		})
	})
}

// parseProof reads what was signed. It is called after the signature was
// verified.
func parseProof(der []byte) (Proof, error) {
	var p Proof
	top := decode("proof", der)
	d := top.sequence("content")
	d.formatVersion()
	p.KeyringID = d.id("keyringID")
	p.Created = d.time("created")
	all := d.sequence("opened")
	for all.more() && len(p.Opened) <= MaxOpened {
		o := all.sequence("blob")
		p.Opened = append(p.Opened, Opened{o.digest("digest"), o.id("keyID")})
		o.refuseLaterFields(0)
		o.end()
	}
	if len(p.Opened) > MaxOpened {
		all.malformed("blob", fmt.Sprintf("is not one of at most %d", MaxOpened))
	}
	all.end()
	d.refuseLaterFields(0)
	d.end()
	if err := top.end(); err != nil {
		return Proof{}, err
	}
	if err := p.validate(); err != nil {
		return Proof{}, fmt.Errorf("%w: proof: %w", ErrMalformed, err)
	}
	again, err := p.marshal()
	return p, sameEncoding("proof", der, again, err)
}
