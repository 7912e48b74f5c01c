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

// A Proof is a holder's signed statement of which blobs its token has unwrapped. That a blob names
// a holder does not show that the holder can open it: whoever wrapped it may have had the wrong
// public key, or the token may be dead.
type Proof struct {
	KeyringID ID
	Created   time.Time // whole seconds, UTC
	Opened    []Opened  // 1..MaxOpened, each blob once, ascending by blob
}

// An Opened names a key blob that was unwrapped, and the key in it, which stays the same when
// another blob takes the place of this one.
type Opened struct {
	Blob  [32]byte // SHA-256 of the key blob
	KeyID ID       // of the session key
}

// MaxOpened is the highest number of blobs in one proof, which fits in [MaxSize]. A holder that has
// opened more makes several proofs.
const MaxOpened = 4096

var proof = kind[Proof]{
	profile: profile{
		what:        "proof",
		contentType: oidProof,
		attributes:  []asn1.ObjectIdentifier{oidContentType, oidMessageDigest, oidSigningTime},
	},
	marshal: func(p Proof) ([]byte, []attribute, error) {
		content, err := p.marshal()
		return content, nil, err
	},
	parse: func(s *signedData) (Proof, error) { return parseProof(s.content) },
}

// SignProof makes a signed proof, as [Sign] makes a key blob. Opened is sorted; if it is
// empty, or names a blob twice, that is an error.
func SignProof(p Proof, signer Signer, signingTime time.Time) (*VerifiedProof, error) {
	p = p.clone()
	slices.SortFunc(p.Opened, Opened.compare)
	if err := p.validate(); err != nil {
		return nil, fmt.Errorf("proof: %w", err)
	}
	v, err := proof.sign(p, signer, signingTime)
	if err != nil {
		return nil, err
	}
	return &VerifiedProof{v}, nil
}

// An UnverifiedProof is a proof as it came from storage. Anybody can have made
// it.
type UnverifiedProof struct{ unverified[Proof] }

// ParseProof reads the outer structure of a proof, as [Parse] does that of a key blob.
func ParseProof(der []byte) (*UnverifiedProof, error) {
	u, err := proof.read(der)
	if err != nil {
		return nil, err
	}
	return &UnverifiedProof{u}, nil
}

// Verify checks a proof as [Unverified.Verify] checks a key blob. A proof for
// another keyring is an [ErrMisplaced]. The caller compares the signer with the
// path under which the proof was found: a holder speaks for its own token only.
func (u *UnverifiedProof) Verify(trusted []Party, keyring ID) (*VerifiedProof, error) {
	v, err := u.verify(trusted)
	if err != nil {
		return nil, err
	}
	if v.value.KeyringID != keyring {
		return nil, fmt.Errorf("%w: proof signed for keyring %v, found in keyring %v", ErrMisplaced, v.value.KeyringID, keyring)
	}
	return &VerifiedProof{v}, nil
}

// A VerifiedProof is a proof made by a trusted signer. It cannot be changed;
// accessors copy.
type VerifiedProof struct{ verified[Proof] }

// Proof returns what was signed.
func (v *VerifiedProof) Proof() Proof { return v.value.clone() }

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

// parseProof reads what was signed.
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
	return p, canonical(top.what, der, p.validate, p.marshal)
}
