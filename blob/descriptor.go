package blob

import (
	"encoding/hex"
	"fmt"
	"math"
	"time"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// An ID names a keyring or a key: 16 random bytes.
type ID [16]byte

// String returns 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MaxNumber is the highest version, revision, and number of a list of members or a
// checkpoint.
const MaxNumber = math.MaxInt32

// A Descriptor is what a key blob says about itself under its signature.
type Descriptor struct {
	KeyringID ID
	Name      string    // a [ValidName]
	Version   int       // of the session key, 1..MaxNumber; a new version is a new key
	Revision  int       // of the wrapping, 1..MaxNumber; a new revision is the same key
	KeyID     ID        // the same in every revision
	Created   time.Time // of the key; whole seconds, UTC
	Purpose   keyspec.Purpose

	// CheckValue is the token's CKA_CHECK_VALUE (PKCS #11 v2.40 §4.10.2),
	// 3 bytes, or nil where the token has none.
	CheckValue []byte

	// Confirmation is what the key is recognized by whenever it is unwrapped, 16 bytes:
	// docs/format.md has how it is computed. It is nil where the token does not compute
	// it, for a key of a legacy algorithm, which would be too short for that, and for one
	// that comes from a password, which would be easier to try.
	Confirmation []byte

	// Replaces is the SHA-256 of the blob that this one takes the place of,
	// 32 bytes, or nil.
	Replaces []byte

	// Recovery is nil but in what a backup authority signs. It needs a Revision
	// of at least 2, and Replaces: an authority wraps again what an owner has
	// made, and makes no keys.
	Recovery *Recovery

	// Legacy is nil but for a key of a legacy algorithm, which has it.
	Legacy *Legacy

	// Imported is set if the key was made elsewhere: whoever made it may have it too.
	Imported bool
}

// Place returns the place where a blob with this descriptor belongs.
func (d Descriptor) Place() Place { return Place{d.KeyringID, d.Name, d.Version, d.Revision} }

// A Place is where a blob was found.
type Place struct {
	KeyringID         ID
	Name              string
	Version, Revision int
}

// String returns "name version.revision in keyring id", quoted for one line.
func (p Place) String() string {
	return fmt.Sprintf("%q %d.%d in keyring %v", shorten(p.Name), p.Version, p.Revision, p.KeyringID)
}

const (
	formatVersion  = 1
	checkValueSize = 3
	digestSize     = 32

	confirmationSize = 16
)

func (d Descriptor) validate() error {
	if err := ValidName(d.Name); err != nil {
		return err
	}
	switch {
	case d.Version < 1 || d.Version > MaxNumber:
		return fmt.Errorf("key version %d is not in 1..%d", d.Version, MaxNumber)
	case d.Revision < 1 || d.Revision > MaxNumber:
		return fmt.Errorf("revision %d is not in 1..%d", d.Revision, MaxNumber)
	case !validTime(d.Created):
		return fmt.Errorf("creation time %v cannot be encoded", d.Created)
	case !d.Purpose.Valid():
		return fmt.Errorf("unknown purpose %d", int(d.Purpose))
	case d.CheckValue != nil && len(d.CheckValue) != checkValueSize:
		return fmt.Errorf("key check value has %d bytes, not %d", len(d.CheckValue), checkValueSize)
	case d.Confirmation != nil && len(d.Confirmation) != confirmationSize:
		return fmt.Errorf("key confirmation has %d bytes, not %d", len(d.Confirmation), confirmationSize)
	case d.Confirmation != nil && d.Legacy != nil:
		return fmt.Errorf("a key of a legacy algorithm has a key confirmation")
	case d.Replaces != nil && len(d.Replaces) != digestSize:
		return fmt.Errorf("digest of the replaced blob has %d bytes, not %d", len(d.Replaces), digestSize)
	case (d.Legacy != nil) != (d.Purpose == keyspec.Decrypt):
		return fmt.Errorf("purpose %q does not go with what is said of a legacy algorithm", d.Purpose)
	case d.Recovery == nil:
		return nil
	case d.Revision < 2 || d.Replaces == nil:
		return fmt.Errorf("revision %d has a recovery and replaces no other", d.Revision)
	}
	return d.Recovery.validate()
}

// Key returns the specification of a session key of an algorithm with the descriptor.
func (d Descriptor) Key(a keyspec.Algorithm) keyspec.Key {
	size := a.KeySize()
	if d.Legacy != nil {
		size = d.Legacy.KeySize
	}
	return keyspec.Key{Algorithm: a, Purpose: d.Purpose, Size: size}
}

// fits checks that the descriptor and the content that is signed with it agree.
func (d Descriptor) fits(c Content) error {
	if !d.Purpose.Fits(c.Algorithm) {
		return fmt.Errorf("an %s key cannot have the purpose %q", c.Algorithm, d.Purpose)
	}
	if c.Derivation != nil && d.CheckValue == nil {
		return fmt.Errorf("a derived key needs a check value, or no wrong password is noticed")
	}
	if c.Derivation != nil && d.Confirmation != nil {
		return fmt.Errorf("a derived key has a key confirmation")
	}
	if d.Legacy == nil {
		return nil
	}
	if err := d.Legacy.Check(c.Algorithm); err != nil {
		return err
	}
	for _, r := range c.Recipients {
		if err := r.fitsSize(c.Algorithm, d.Legacy.KeySize); err != nil {
			return err
		}
	}
	return nil
}

func (d Descriptor) marshal() ([]byte, error) {
	return encode(func(b *cryptobyte.Builder) {
		addSequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(formatVersion)
			b.AddASN1OctetString(d.KeyringID[:])
			addUTF8String(b, d.Name)
			b.AddASN1Int64(int64(d.Version))
			b.AddASN1Int64(int64(d.Revision))
			b.AddASN1OctetString(d.KeyID[:])
			addTime(b, cryptobyte_asn1.GeneralizedTime, generalizedTime, d.Created)
			b.AddASN1Enum(int64(d.Purpose))
			if d.CheckValue != nil {
				addOctets(b, tagged(0), d.CheckValue)
			}
			if d.Replaces != nil {
				addOctets(b, tagged(1), d.Replaces)
			}
			if d.Recovery != nil {
				d.Recovery.add(b, tagged(2))
			}
			if d.Legacy != nil {
				d.Legacy.add(b, tagged(3))
			}
			if d.Imported {
				addOctets(b, tagged(4), nil)
			}
			if d.Confirmation != nil {
				addOctets(b, tagged(5), d.Confirmation)
			}
		})
	})
}

// parseDescriptor reads the value of the signed attribute.
func parseDescriptor(der []byte) (Descriptor, error) {
	var out Descriptor
	top := decode("keyDescriptor", der)
	d := top.sequence("value")
	d.formatVersion()
	out.KeyringID = d.id("keyringID")
	out.Name = string(d.octets("name", cryptobyte_asn1.UTF8String))
	out.Version = d.integer("keyVersion")
	out.Revision = d.integer("revision")
	out.KeyID = d.id("keyID")
	out.Created = d.time("created")
	out.Purpose = keyspec.Purpose(d.enumerated("purpose"))
	if d.next(tagged(0)) {
		out.CheckValue = d.octetsOf("keyCheckValue", tagged(0), checkValueSize)
	}
	if d.next(tagged(1)) {
		out.Replaces = d.octetsOf("replaces", tagged(1), digestSize)
	}
	out.Recovery = d.recovery(tagged(2))
	out.Legacy = d.legacy(tagged(3))
	if d.next(tagged(4)) {
		out.Imported = true
		d.octetsOf("imported", tagged(4), 0)
	}
	if d.next(tagged(5)) {
		out.Confirmation = d.octetsOf("keyConfirmation", tagged(5), confirmationSize)
	}
	d.refuseLaterFields(6)
	d.end()
	if err := top.end(); err != nil {
		return Descriptor{}, err
	}
	return out, canonical(top.what, der, out.validate, out.marshal)
}

// formatVersion takes the version of one of our own structures.
func (d *decoder) formatVersion() {
	if v := d.integer("version"); *d.err == nil && v != formatVersion {
		d.fail(fmt.Errorf("%w: %s has the format version %d", ErrNewer, d.what, v))
	}
}

// refuseLaterFields fails if a context tag from first on comes next: these are for fields that a
// later version may add. Ignoring one would mean acting on half of what the signer said.
func (d *decoder) refuseLaterFields(first uint8) {
	const classMask, contextClass, numberMask = 0xc0, 0x80, 0x1f
	if d.more() && d.in[0]&classMask == contextClass && d.in[0]&numberMask >= first {
		d.fail(fmt.Errorf("%w: %s has the field [%d]", ErrNewer, d.what, d.in[0]&numberMask))
	}
}
