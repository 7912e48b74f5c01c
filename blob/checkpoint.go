package blob

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/asn1"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A Checkpoint is the signed state of a keyring at one moment: its members, and the root of the
// trie that maps the name of each key to its versions. Checkpoints are numbered and chained: each
// names the one before it, and has the hash of a log of all that went before.
//
// Whatever the digests in a checkpoint reach is as genuine as the checkpoint. That
// its signer was entitled to it, and that it follows from the one before it, is for
// the caller to check.
type Checkpoint struct {
	KeyringID ID
	Number    int       // 1..MaxNumber
	Created   time.Time // whole seconds, UTC
	Nonce     [16]byte  // random: two signers never make the same checkpoint
	Previous  []byte    // SHA-256 of checkpoint Number-1, 32 bytes; nil for checkpoint 1

	// Log is the tree hash (RFC 9162 §2.1.1) of the log whose records are the
	// digests, 32 bytes each, of checkpoints 1..Number-1.
	Log [32]byte

	List    ListRef  // the list of members in force
	Root    [32]byte // digest of the root node of the trie
	RootAt  Hint
	Keys    int      // names in the trie, 0..MaxNumber
	Changes [32]byte // SHA-256 of the record of what this checkpoint changed
}

// A ListRef names a list of members.
type ListRef struct {
	Number     int      // of the list, 1..MaxNumber
	Digest     [32]byte // SHA-256 of the list
	Introduced int      // number of the checkpoint that introduced the list, 1..Number of this one
}

var checkpoint = kind[Checkpoint]{
	profile: profile{
		what:        "checkpoint",
		contentType: oidCheckpoint,
		attributes:  []asn1.ObjectIdentifier{oidContentType, oidMessageDigest, oidSigningTime},
	},
	marshal: func(c Checkpoint) ([]byte, []attribute, error) {
		content, err := c.marshal()
		return content, nil, err
	},
	parse: func(s *signedData) (Checkpoint, error) { return parseCheckpoint(s.content) },
}

// SignCheckpoint makes a signed checkpoint, as [Sign] makes a key blob.
func SignCheckpoint(c Checkpoint, signer Signer, signingTime time.Time) (*VerifiedCheckpoint, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("checkpoint %d: %w", c.Number, err)
	}
	v, err := checkpoint.sign(c, signer, signingTime)
	if err != nil {
		return nil, err
	}
	return &VerifiedCheckpoint{v}, nil
}

// An UnverifiedCheckpoint is a checkpoint as it came from storage. Anybody can have
// made it.
type UnverifiedCheckpoint struct{ unverified[Checkpoint] }

// ParseCheckpoint reads the outer structure of a checkpoint, as [Parse] does that of a
// key blob.
func ParseCheckpoint(der []byte) (*UnverifiedCheckpoint, error) {
	u, err := checkpoint.read(der)
	if err != nil {
		return nil, err
	}
	return &UnverifiedCheckpoint{u}, nil
}

// Verify checks a checkpoint as [Unverified.Verify] checks a key blob. The caller
// compares the keyring and the number with those that it expects.
func (u *UnverifiedCheckpoint) Verify(trusted []Party) (*VerifiedCheckpoint, error) {
	v, err := u.verify(trusted)
	if err != nil {
		return nil, err
	}
	return &VerifiedCheckpoint{v}, nil
}

// VerifyDigest is Verify for a checkpoint whose SHA-256 is known from a place that
// is trusted: a pin, or a later checkpoint. Another digest is an [ErrMisplaced].
//
// It does not check the signature: the digest says that these are the bytes, not
// that their signer was entitled to them.
func (u *UnverifiedCheckpoint) VerifyDigest(digest [32]byte) (*VerifiedCheckpoint, error) {
	if got := u.Digest(); subtle.ConstantTimeCompare(got[:], digest[:]) != 1 {
		return nil, fmt.Errorf("%w: checkpoint with the digest %x, not %x", ErrMisplaced, got, digest)
	}
	signingTime, err := parseSigningTime(u.kind.profile, u.signed.attribute(oidSigningTime))
	if err != nil {
		return nil, err
	}
	v, err := u.accept(nil, signingTime)
	if err != nil {
		return nil, err
	}
	return &VerifiedCheckpoint{v}, nil
}

// Digest returns the SHA-256 of the whole object.
func (u *UnverifiedCheckpoint) Digest() [32]byte { return sha256.Sum256(u.raw) }

// A VerifiedCheckpoint is a checkpoint that is genuine, by its signature or by its
// digest. It cannot be changed; accessors copy.
type VerifiedCheckpoint struct{ verified[Checkpoint] }

// Checkpoint returns what was signed.
func (v *VerifiedCheckpoint) Checkpoint() Checkpoint {
	c := v.value
	c.Previous = bytes.Clone(c.Previous)
	return c
}

func (c Checkpoint) validate() error {
	switch {
	case c.Number < 1 || c.Number > MaxNumber:
		return fmt.Errorf("number %d is not in 1..%d", c.Number, MaxNumber)
	case c.Number == 1 && c.Previous != nil:
		return fmt.Errorf("the first checkpoint names one before it")
	case c.Number > 1 && len(c.Previous) != digestSize:
		return fmt.Errorf("digest of the checkpoint before has %d bytes, not %d", len(c.Previous), digestSize)
	case !validTime(c.Created):
		return fmt.Errorf("creation time %v cannot be encoded", c.Created)
	case c.List.Number < 1 || c.List.Number > MaxNumber:
		return fmt.Errorf("number %d of the member list is not in 1..%d", c.List.Number, MaxNumber)
	case c.List.Introduced < 1 || c.List.Introduced > c.Number:
		return fmt.Errorf("member list introduced by checkpoint %d, not one of 1..%d", c.List.Introduced, c.Number)
	case c.Keys < 0 || c.Keys > MaxNumber:
		return fmt.Errorf("%d keys, not 0..%d", c.Keys, MaxNumber)
	}
	return c.RootAt.validate()
}

func (c Checkpoint) marshal() ([]byte, error) {
	return encodeIn(512, func(b *cryptobyte.Builder) {
		addSequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(formatVersion)
			b.AddASN1OctetString(c.KeyringID[:])
			b.AddASN1Int64(int64(c.Number))
			addTime(b, cryptobyte_asn1.GeneralizedTime, generalizedTime, c.Created)
			b.AddASN1OctetString(c.Nonce[:])
			if c.Previous != nil {
				addOctets(b, tagged(0), c.Previous)
			}
			b.AddASN1OctetString(c.Log[:])
			addSequence(b, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(int64(c.List.Number))
				b.AddASN1OctetString(c.List.Digest[:])
				b.AddASN1Int64(int64(c.List.Introduced))
			})
			b.AddASN1OctetString(c.Root[:])
			c.RootAt.add(b)
			b.AddASN1Int64(int64(c.Keys))
			b.AddASN1OctetString(c.Changes[:])
		})
	})
}

// parseCheckpoint reads what was signed.
func parseCheckpoint(der []byte) (Checkpoint, error) {
	var c Checkpoint
	top := decode("checkpoint", der)
	d := top.sequence("content")
	d.formatVersion()
	c.KeyringID = d.id("keyringID")
	c.Number = d.integer("number")
	c.Created = d.time("created")
	copy(c.Nonce[:], d.octetsOf("nonce", cryptobyte_asn1.OCTET_STRING, len(c.Nonce)))
	if d.next(tagged(0)) {
		c.Previous = d.octetsOf("previous", tagged(0), digestSize)
	}
	c.Log = d.digest("log")
	list := d.sequence("list")
	c.List = ListRef{list.integer("number"), list.digest("digest"), list.integer("introduced")}
	list.refuseLaterFields(0)
	list.end()
	c.Root = d.digest("root")
	c.RootAt = d.hint("rootAt")
	c.Keys = d.integer("keys")
	c.Changes = d.digest("changes")
	d.refuseLaterFields(1)
	d.end()
	if err := top.end(); err != nil {
		return Checkpoint{}, err
	}
	return c, canonical(top.what, der, c.validate, c.marshal)
}
