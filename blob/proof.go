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

// A Proof is what a holder says, under its signature, that its token has
// really unwrapped. That a blob names somebody as a holder does not show that
// they can open it: whoever wrapped it may have had the wrong public key, or
// the token may be dead.
type Proof struct {
	KeyringID ID
	Created   time.Time  // whole seconds, UTC
	Blobs     [][32]byte // SHA-256 of the key blobs, 1..MaxProofBlobs, each once, ascending
}

// MaxProofBlobs is the highest number of blobs in one proof. Whoever has more
// makes several.
const MaxProofBlobs = 4096

var proof = profile{
	what:        "proof",
	contentType: oidProof,
	attributes:  []asn1.ObjectIdentifier{oidContentType, oidMessageDigest, oidSigningTime},
}

// SignProof makes a signed proof: DER, at most [MaxSize] bytes. It is to a
// proof what [Sign] is to a key blob. Blobs are sorted; none, or one twice, is
// an error.
func SignProof(p Proof, signer Signer, signingTime time.Time) ([]byte, error) {
	p = p.clone()
	slices.SortFunc(p.Blobs, compareDigests)
	if err := p.validate(); err != nil {
		return nil, fmt.Errorf("proof: %w", err)
	}
	content, err := p.marshal()
	if err != nil {
		return nil, err
	}
	der, err := signContent(proof, content, nil, signer, signingTime)
	if err != nil {
		return nil, err
	}
	u, err := ParseProof(der)
	if err != nil {
		return nil, err
	}
	if _, err := u.Verify([]Party{signer.party()}, p.KeyringID); err != nil {
		return nil, fmt.Errorf("new %w", err)
	}
	return der, nil
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

// Proof gives what was signed.
func (v *VerifiedProof) Proof() Proof { return v.proof.clone() }

func (p Proof) clone() Proof {
	p.Blobs = slices.Clone(p.Blobs)
	return p
}

func (p Proof) validate() error {
	switch {
	case !validTime(p.Created):
		return fmt.Errorf("creation time %v cannot be encoded", p.Created)
	case len(p.Blobs) < 1 || len(p.Blobs) > MaxProofBlobs:
		return fmt.Errorf("%d blobs, not 1 to %d", len(p.Blobs), MaxProofBlobs)
	}
	for i := 1; i < len(p.Blobs); i++ {
		switch c := compareDigests(p.Blobs[i-1], p.Blobs[i]); {
		case c == 0:
			return fmt.Errorf("blob %x is there twice", p.Blobs[i])
		case c > 0:
			return fmt.Errorf("blob %x is not in ascending order", p.Blobs[i])
		}
	}
	return nil
}

func (p Proof) marshal() ([]byte, error) {
	return encode(func(b *cryptobyte.Builder) {
		addSequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(formatVersion)
			b.AddASN1OctetString(p.KeyringID[:])
			addTime(b, cryptobyte_asn1.GeneralizedTime, generalizedTime, p.Created)
			addDigests(b, cryptobyte_asn1.SEQUENCE, p.Blobs)
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
	copy(p.KeyringID[:], d.octetsOf("keyringID", cryptobyte_asn1.OCTET_STRING, len(ID{})))
	p.Created = d.time("created")
	p.Blobs = d.digests("blobs", cryptobyte_asn1.SEQUENCE, MaxProofBlobs)
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

func compareDigests(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) }
