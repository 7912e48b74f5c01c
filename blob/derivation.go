package blob

import (
	"bytes"

	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/pbkdf2"
	"golang.org/x/crypto/scrypt"
)

// A KDF makes a key from a password.
type KDF int

const (
	// Scrypt is scrypt (RFC 7914) with block size 8 and parallelization 1.
	Scrypt KDF = iota + 1
	// PBKDF2 is PBKDF2 with HMAC-SHA-256 (RFC 8018 §5.2).
	PBKDF2
)

var kdfs = [...]string{Scrypt: "scrypt", PBKDF2: "pbkdf2"}

// ParseKDF is the inverse of [KDF.String].
func ParseKDF(s string) (KDF, error) {
	for k := Scrypt; k.valid(); k++ {
		if kdfs[k] == s {
			return k, nil
		}
	}
	return 0, fmt.Errorf("unknown key derivation %q: use scrypt or pbkdf2", s)
}

// String returns "scrypt" or "pbkdf2".
func (k KDF) String() string {
	if !k.valid() {
		return fmt.Sprintf("KDF(%d)", int(k))
	}
	return kdfs[k]
}

func (k KDF) valid() bool { return k >= Scrypt && int(k) < len(kdfs) }

// Costs. New records have the default cost. A record that is read has at least that, so that nobody
// is tricked into using a password in a way that is cheap to guess, and at most a bound, so that no
// record uses up the machine: the largest scrypt takes 1 GiB.
const (
	DefaultScryptCost = 1 << 18 // N: 256 MiB, about a second
	maxScryptCost     = 1 << 20
	minScryptCost     = 1 << 17 // OWASP Password Storage Cheat Sheet

	DefaultPBKDF2Cost = 600_000 // iterations: OWASP Password Storage Cheat Sheet, PBKDF2-HMAC-SHA256
	maxPBKDF2Cost     = 20_000_000
	minPBKDF2Cost     = DefaultPBKDF2Cost

	scryptBlockSize       = 8
	scryptParallelization = 1

	// SaltSize is the size of a salt in bytes.
	SaltSize = 32
)

// A Derivation is how a session key is made from a password. It takes the place of recipients, in
// what the format calls a derivation record, and nothing in it is secret. The signature keeps
// whoever has the storage from changing the salt or lowering the cost.
type Derivation struct {
	KDF  KDF
	Cost int            // scrypt: N, a power of two; PBKDF2: the iteration count
	Salt [SaltSize]byte // random
}

// Memory returns how much memory computing the key takes, in bytes, or 0 for very little.
func (d Derivation) Memory() int64 {
	if d.KDF == Scrypt {
		return 128 * scryptBlockSize * int64(d.Cost) // RFC 7914 §2
	}
	return 0
}

// String returns the KDF with its parameters, for people.
func (d Derivation) String() string {
	if d.KDF == Scrypt {
		return fmt.Sprintf("scrypt, N=2^%d, r=%d, p=%d, %d MiB of memory", bits.Len(uint(d.Cost))-1, scryptBlockSize, scryptParallelization, d.Memory()>>20)
	}
	return fmt.Sprintf("PBKDF2-HMAC-SHA-256, %d iterations", d.Cost)
}

// Key computes the key of size bytes, 1 to 64, from a password. It takes about a second, and
// [Derivation.Memory]. The caller must overwrite the password and the key.
func (d Derivation) Key(password []byte, size int) ([]byte, error) {
	if err := d.validate(); err != nil {
		return nil, err
	}
	if size < 1 || size > 64 {
		return nil, fmt.Errorf("a key of %d bytes", size)
	}
	if d.KDF == Scrypt {
		return scrypt.Key(password, d.Salt[:], d.Cost, scryptBlockSize, scryptParallelization, size)
	}
	return pbkdf2.Key(password, d.Salt[:], d.Cost, size, sha256.New), nil
}

// validate returns an error with the bound that the cost exceeds.
func (d Derivation) validate() error {
	switch {
	case !d.KDF.valid():
		return fmt.Errorf("unknown key derivation %d", int(d.KDF))
	case d.KDF == PBKDF2 && (d.Cost < minPBKDF2Cost || d.Cost > maxPBKDF2Cost):
		return fmt.Errorf("PBKDF2 with %d iterations; %d to %d are allowed", d.Cost, minPBKDF2Cost, maxPBKDF2Cost)
	case d.KDF == Scrypt && (d.Cost < minScryptCost || d.Cost > maxScryptCost || bits.OnesCount(uint(d.Cost)) != 1):
		return fmt.Errorf("scrypt with a cost of %d; powers of two from %d to %d are allowed", d.Cost, minScryptCost, maxScryptCost)
	case d.Salt == [SaltSize]byte{}:
		return errors.New("the salt is all zeros")
	}
	return nil
}

// derived is the kind of object that is signed in place of an EnvelopedData. Its content type
// differs, so that no signature over the one can be taken for one over the other.
var derived = keyKind("derivation record", oidDerivationRecord, Content.marshalDerived, parseDerived)

var prfSHA256 = algorithmIdentifier(oidHMACSHA256, derNULL) // RFC 8018 B.1.2

// marshalDerived returns a DerivationRecord. The KDF's identifiers are the standard ones, with
// keyLength present: whoever reads it needs no other place for that.
func (c Content) marshalDerived() ([]byte, error) {
	d := c.Derivation
	return encode(func(b *cryptobyte.Builder) {
		addSequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(formatVersion)
			addSequence(b, func(b *cryptobyte.Builder) {
				if d.KDF == Scrypt {
					b.AddASN1ObjectIdentifier(oidScrypt)
				} else {
					b.AddASN1ObjectIdentifier(oidPBKDF2)
				}
				addSequence(b, func(b *cryptobyte.Builder) {
					b.AddASN1OctetString(d.Salt[:])
					b.AddASN1Int64(int64(d.Cost))
					if d.KDF == Scrypt {
						b.AddASN1Int64(scryptBlockSize)
						b.AddASN1Int64(scryptParallelization)
					}
					b.AddASN1Int64(int64(c.Algorithm.KeySize()))
					if d.KDF == PBKDF2 {
						b.AddBytes(prfSHA256)
					}
				})
			})
			b.AddBytes(algorithmIdentifiers[c.Algorithm])
		})
	})
}

// parseDerived reads a DerivationRecord, and holds the cost to its bounds before anybody
// computes with it.
func parseDerived(der []byte) (Content, error) {
	var d Derivation
	top := decode("derivationRecord", der)
	record := top.sequence("value")
	record.formatVersion()
	kdf := record.sequence("keyDerivationAlgorithm")
	switch oid := kdf.oid("algorithm"); {
	case oid.Equal(oidScrypt):
		d.KDF = Scrypt
	case oid.Equal(oidPBKDF2):
		d.KDF = PBKDF2
	default:
		kdf.fail(fmt.Errorf("%w: key derivation %v", ErrUnknown, oid))
	}
	parameters := kdf.sequence("parameters")
	copy(d.Salt[:], parameters.octetsOf("salt", cryptobyte_asn1.OCTET_STRING, SaltSize))
	d.Cost = parameters.integer("cost")
	if d.KDF == Scrypt {
		parameters.mustBe("blockSize", scryptBlockSize)
		parameters.mustBe("parallelizationParameter", scryptParallelization)
	}
	size := parameters.integer("keyLength")
	if d.KDF == PBKDF2 {
		parameters.algorithm("prf", prfSHA256)
	}
	parameters.end()
	kdf.end()
	identifier := record.element("keyAlgorithm", cryptobyte_asn1.SEQUENCE)
	record.refuseLaterFields(0)
	record.end()
	if err := top.end(); err != nil {
		return Content{}, err
	}
	algorithm, known := algorithmFor(identifier)
	switch {
	case !known:
		return Content{}, fmt.Errorf("%w: key algorithm %x", ErrUnknown, identifier[:min(len(identifier), 64)])
	case size != algorithm.KeySize():
		return Content{}, fmt.Errorf("%w: derivation record of %d bytes for an %s key", ErrMalformed, size, algorithm)
	}
	c := Content{Algorithm: algorithm, Derivation: &d}
	if err := d.validate(); err != nil {
		return Content{}, fmt.Errorf("%w: derivation record: %w", ErrUnknown, err)
	}
	return c, canonical(top.what, der, c.validate, c.marshalDerived)
}

// mustBe takes an INTEGER that must have one value.
func (d *decoder) mustBe(what string, want int) {
	if got := d.integer(what); *d.err == nil && got != want {
		d.fail(fmt.Errorf("%w: %s.%s is %d, not %d", ErrUnknown, d.what, what, got, want))
	}
}

// isDerived reports whether an object claims to be a derivation record. That proves nothing: it
// only chooses how the object is then read.
func isDerived(der []byte) bool {
	oid, err := encode(func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidDerivationRecord) })
	if err != nil {
		return false
	}
	top := decode("object", der)
	info := top.sequence("contentInfo")
	info.oidIs("contentType", oidSignedData)
	explicit := info.part("content", tagged(0).Constructed())
	body := explicit.sequence("signedData")
	body.version(3)
	body.part("digestAlgorithms", cryptobyte_asn1.SET)
	encap := body.sequence("encapContentInfo")
	return *encap.err == nil && bytes.HasPrefix(encap.in, oid)
}
