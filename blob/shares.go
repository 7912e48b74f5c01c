package blob

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Shares are the shares of a quorum's private key, each sealed to its custodian, with the commitments by
// which each can be checked alone (Feldman, "A Practical Scheme for Non-interactive Verifiable Secret
// Sharing", 1987). An owner signs them.
//
// The private key is f(0) of a polynomial f modulo the order of P-384, of the degree Threshold-1, and the
// share with the index i, from 1, is f(i). Commitment j is the coefficient of x^j times the base point, so
// commitment 0 is the quorum's public key.
type Shares struct {
	KeyringID   ID
	ID          ID        // random, so that proofs about these shares can name them
	Created     time.Time // whole seconds, UTC
	Certificate *x509.Certificate
	Commitments [][]byte // one for each of the threshold, 97 bytes: 4, x, y
	Sealed      []Sealed // 2..MaxCustodians; each holds a share of 48 bytes, most significant byte first
}

// ShareSize is the size of a share of a quorum's private key in bytes, and CommitmentSize that of a
// commitment (SEC 1 §2.3.3, uncompressed).
const (
	ShareSize      = 48
	CommitmentSize = 1 + 2*ShareSize
)

var shares = kind[Shares]{
	profile: profile{
		what:        "shares",
		contentType: oidShares,
		attributes:  []asn1.ObjectIdentifier{oidContentType, oidMessageDigest, oidSigningTime},
	},
	marshal: func(s Shares) ([]byte, []attribute, error) {
		content, err := s.marshal()
		return content, nil, err
	},
	parse: func(s *signedData) (Shares, error) { return parseShares(s.content) },
}

// SignShares makes signed shares, as [Sign] makes a key blob.
func SignShares(s Shares, signer Signer, signingTime time.Time) (*VerifiedShares, error) {
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("shares: %w", err)
	}
	v, err := shares.sign(s, signer, signingTime)
	if err != nil {
		return nil, err
	}
	return &VerifiedShares{v}, nil
}

// UnverifiedShares are shares as they came from storage. Anybody can have made them.
type UnverifiedShares struct{ unverified[Shares] }

// ParseShares reads the outer structure of shares, as [Parse] does that of a key blob.
func ParseShares(der []byte) (*UnverifiedShares, error) {
	u, err := shares.read(der)
	if err != nil {
		return nil, err
	}
	return &UnverifiedShares{u}, nil
}

// Verify checks shares as [Unverified.Verify] checks a key blob. Shares of another keyring, or of another
// quorum than the member's, are an [ErrMisplaced].
func (u *UnverifiedShares) Verify(trusted []Party, keyring ID, of Member) (*VerifiedShares, error) {
	v, err := u.verify(trusted)
	if err != nil {
		return nil, err
	}
	switch s := v.value; {
	case s.KeyringID != keyring:
		return nil, fmt.Errorf("%w: shares signed for keyring %v, found in keyring %v", ErrMisplaced, s.KeyringID, keyring)
	case !s.Certificate.Equal(of.Certificate), len(s.Commitments) != of.Quorum.Threshold, len(s.Sealed) != len(of.Quorum.Custodians):
		return nil, fmt.Errorf("%w: shares of another quorum than %q", ErrMisplaced, of.Label)
	}
	for i, c := range of.Quorum.Custodians {
		id, err := Identifier(c.Certificate)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(v.value.Sealed[i].Recipient.Identifier, id) {
			return nil, fmt.Errorf("%w: share %d is not sealed to the custodian %q", ErrMisplaced, i+1, c.Label)
		}
	}
	return &VerifiedShares{v}, nil
}

// VerifiedShares are shares that an owner has signed.
type VerifiedShares struct{ verified[Shares] }

// Shares returns what was signed. It must not be modified.
func (v *VerifiedShares) Shares() Shares { return v.value }

func (s Shares) validate() error {
	if !validTime(s.Created) {
		return fmt.Errorf("creation time %v cannot be encoded", s.Created)
	}
	if s.Certificate == nil {
		return fmt.Errorf("no certificate")
	}
	if err := validThreshold(len(s.Commitments), len(s.Sealed)); err != nil {
		return err
	}
	for i, c := range s.Commitments {
		if len(c) != CommitmentSize {
			return fmt.Errorf("commitment %d has %d bytes, not %d", i, len(c), CommitmentSize)
		}
	}
	key, ok := s.Certificate.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("the certificate's key is not EC")
	}
	if point, err := key.Bytes(); err != nil || !bytes.Equal(point, s.Commitments[0]) {
		return fmt.Errorf("the certificate is not of the key that was split")
	}
	for i, sealed := range s.Sealed {
		if err := sealed.validate(); err != nil {
			return fmt.Errorf("share %d: %w", i+1, err)
		}
	}
	return nil
}

func (s Shares) marshal() ([]byte, error) {
	all := make([][]byte, len(s.Sealed))
	for i, sealed := range s.Sealed {
		var err error
		if all[i], err = sealed.marshal(); err != nil {
			return nil, err
		}
	}
	return encodeIn(4096, func(b *cryptobyte.Builder) {
		addSequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(formatVersion)
			b.AddASN1OctetString(s.KeyringID[:])
			b.AddASN1OctetString(s.ID[:])
			addTime(b, cryptobyte_asn1.GeneralizedTime, generalizedTime, s.Created)
			b.AddBytes(s.Certificate.Raw)
			addSequence(b, func(b *cryptobyte.Builder) {
				for _, c := range s.Commitments {
					b.AddASN1OctetString(c)
				}
			})
			addSequence(b, func(b *cryptobyte.Builder) {
				for _, sealed := range all {
					b.AddBytes(sealed)
				}
			})
		})
	})
}

// parseShares reads what was signed.
func parseShares(der []byte) (Shares, error) {
	var s Shares
	top := decode("shares", der)
	d := top.sequence("content")
	d.formatVersion()
	s.KeyringID = d.id("keyringID")
	s.ID = d.id("id")
	s.Created = d.time("created")
	s.Certificate = d.certificate()
	commitments := d.sequence("commitments")
	for commitments.more() && len(s.Commitments) <= MaxCustodians {
		s.Commitments = append(s.Commitments, commitments.octetsOf("commitment", cryptobyte_asn1.OCTET_STRING, CommitmentSize))
	}
	if len(s.Commitments) > MaxCustodians {
		commitments.malformed("commitment", fmt.Sprintf("is not one of at most %d", MaxCustodians))
	}
	commitments.end()
	sealed := d.sequence("shares")
	for sealed.more() && len(s.Sealed) <= MaxCustodians {
		s.Sealed = append(s.Sealed, sealed.sealed())
	}
	if len(s.Sealed) > MaxCustodians {
		sealed.malformed("share", fmt.Sprintf("is not one of at most %d", MaxCustodians))
	}
	sealed.end()
	d.refuseLaterFields(0)
	d.end()
	if err := top.end(); err != nil {
		return Shares{}, err
	}
	return s, canonical(top.what, der, s.validate, s.marshal)
}
