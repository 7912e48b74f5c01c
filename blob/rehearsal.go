package blob

import (
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A Rehearsal is the signed statement of a backup authority that a recovery was walked from end to end, in
// a copy of the keyring and for one key alone: recovered to a throw-away token, joined and rewrapped by
// that, and a file decrypted with it that was encrypted before.
type Rehearsal struct {
	KeyringID  ID
	Created    time.Time // whole seconds, UTC
	Seconds    int       // that it took, 0..MaxNumber
	Checkpoint int       // number of the head that was copied, 1..MaxNumber
	List       int       // number of the list of members in force there, 1..MaxNumber
	From       []byte    // subject key identifier, 20 bytes, of the owner who was taken for lost
	Canary     string    // name of the key
	Version    int       // of it, 1..MaxNumber
	Blob       [32]byte  // SHA-256 of its key blob
	Program    string    // and version that did it, 1..128 bytes of printable UTF-8
	Spare      string    // what the throw-away token was, 1..128 bytes of printable UTF-8
}

const maxRehearsalText = 128

var rehearsal = kind[Rehearsal]{
	profile: profile{
		what:        "rehearsal",
		contentType: oidRehearsal,
		attributes:  []asn1.ObjectIdentifier{oidContentType, oidMessageDigest, oidSigningTime},
	},
	marshal: func(r Rehearsal) ([]byte, []attribute, error) {
		content, err := r.marshal()
		return content, nil, err
	},
	parse: func(s *signedData) (Rehearsal, error) { return parseRehearsal(s.content) },
}

// SignRehearsal makes a signed rehearsal, as [Sign] makes a key blob.
func SignRehearsal(r Rehearsal, signer Signer, signingTime time.Time) (*VerifiedRehearsal, error) {
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("rehearsal: %w", err)
	}
	v, err := rehearsal.sign(r, signer, signingTime)
	if err != nil {
		return nil, err
	}
	return &VerifiedRehearsal{v}, nil
}

// An UnverifiedRehearsal is a rehearsal as it came from storage. Anybody can have made it.
type UnverifiedRehearsal struct{ unverified[Rehearsal] }

// ParseRehearsal reads the outer structure of a rehearsal, as [Parse] does that of a key blob.
func ParseRehearsal(der []byte) (*UnverifiedRehearsal, error) {
	u, err := rehearsal.read(der)
	if err != nil {
		return nil, err
	}
	return &UnverifiedRehearsal{u}, nil
}

// Digest returns the SHA-256 of the whole object.
func (u *UnverifiedRehearsal) Digest() [32]byte { return sha256.Sum256(u.raw) }

// Verify checks a rehearsal as [Unverified.Verify] checks a key blob. One of another keyring is an
// [ErrMisplaced].
func (u *UnverifiedRehearsal) Verify(trusted []Party, keyring ID) (*VerifiedRehearsal, error) {
	v, err := u.verify(trusted)
	if err != nil {
		return nil, err
	}
	if v.value.KeyringID != keyring {
		return nil, fmt.Errorf("%w: rehearsal signed for keyring %v, found in keyring %v", ErrMisplaced, v.value.KeyringID, keyring)
	}
	return &VerifiedRehearsal{v}, nil
}

// A VerifiedRehearsal is a rehearsal made by a trusted signer.
type VerifiedRehearsal struct{ verified[Rehearsal] }

// Rehearsal returns what was signed. It must not be modified.
func (v *VerifiedRehearsal) Rehearsal() Rehearsal { return v.value }

func (r Rehearsal) validate() error {
	if !validTime(r.Created) {
		return fmt.Errorf("creation time %v cannot be encoded", r.Created)
	}
	if r.Seconds < 0 || r.Seconds > MaxNumber {
		return fmt.Errorf("it took %d seconds", r.Seconds)
	}
	for what, n := range map[string]int{"checkpoint": r.Checkpoint, "list": r.List, "version": r.Version} {
		if n < 1 || n > MaxNumber {
			return fmt.Errorf("%s %d is not in 1..%d", what, n, MaxNumber)
		}
	}
	if len(r.From) != keyIDSize {
		return fmt.Errorf("subject key identifier has %d bytes, not %d", len(r.From), keyIDSize)
	}
	if err := ValidName(r.Canary); err != nil {
		return err
	}
	for what, text := range map[string]string{"program": r.Program, "spare": r.Spare} {
		if err := validText(text, maxRehearsalText); err != nil {
			return fmt.Errorf("%s %w", what, err)
		}
	}
	return nil
}

func (r Rehearsal) marshal() ([]byte, error) {
	return encodeIn(512, func(b *cryptobyte.Builder) {
		addSequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(formatVersion)
			b.AddASN1OctetString(r.KeyringID[:])
			addTime(b, cryptobyte_asn1.GeneralizedTime, generalizedTime, r.Created)
			b.AddASN1Int64(int64(r.Seconds))
			b.AddASN1Int64(int64(r.Checkpoint))
			b.AddASN1Int64(int64(r.List))
			b.AddASN1OctetString(r.From)
			addUTF8String(b, r.Canary)
			b.AddASN1Int64(int64(r.Version))
			b.AddASN1OctetString(r.Blob[:])
			addUTF8String(b, r.Program)
			addUTF8String(b, r.Spare)
		})
	})
}

// parseRehearsal reads what was signed.
func parseRehearsal(der []byte) (Rehearsal, error) {
	var r Rehearsal
	top := decode("rehearsal", der)
	d := top.sequence("content")
	d.formatVersion()
	r.KeyringID = d.id("keyringID")
	r.Created = d.time("created")
	r.Seconds = d.integer("seconds")
	r.Checkpoint = d.integer("checkpoint")
	r.List = d.integer("list")
	r.From = d.octetsOf("from", cryptobyte_asn1.OCTET_STRING, keyIDSize)
	r.Canary = string(d.octets("canary", cryptobyte_asn1.UTF8String))
	r.Version = d.integer("version")
	r.Blob = d.digest("blob")
	r.Program = string(d.octets("program", cryptobyte_asn1.UTF8String))
	r.Spare = string(d.octets("spare", cryptobyte_asn1.UTF8String))
	d.refuseLaterFields(0)
	d.end()
	if err := top.end(); err != nil {
		return Rehearsal{}, err
	}
	return r, canonical(top.what, der, r.validate, r.marshal)
}
