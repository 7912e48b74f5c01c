package blob

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A Legacy is what decrypting with a key of a legacy algorithm needs besides the key. Nothing in it
// is secret. Such keys come from elsewhere, to open old data: their purpose is [Decrypt].
type Legacy struct {
	// KeySize is the length of the wrapped key in bytes: 5 to 16 for RC2 and RC4, 8 for
	// DES, 16 (two keys) or 24 for 3DES.
	KeySize int

	// EffectiveBits is RC2's effective key length (RFC 2268 §2), 1 to 1024; 0 for all
	// others.
	EffectiveBits int

	// Salt stands behind an RC2 or RC4 key of CryptoAPI: the cipher is given both. Key
	// and salt have at most 16 bytes together (KP_SALT_EX). Nil for none.
	Salt []byte
}

const (
	maxEffectiveBits = 1024
	maxSaltedKey     = 16
)

// Check returns an error if a key of algorithm a cannot have the parameters.
func (l Legacy) Check(a keyspec.Algorithm) error {
	stream := a == keyspec.RC2 || a == keyspec.RC4
	switch {
	case !a.IsLegacy():
		return fmt.Errorf("%v is not a legacy algorithm", a)
	case !a.HasSize(l.KeySize):
		return fmt.Errorf("an %v key of %d bytes", a, l.KeySize)
	case a == keyspec.RC2 && (l.EffectiveBits < 1 || l.EffectiveBits > maxEffectiveBits):
		return fmt.Errorf("an RC2 key with %d effective bits, not 1 to %d", l.EffectiveBits, maxEffectiveBits)
	case a != keyspec.RC2 && l.EffectiveBits != 0:
		return fmt.Errorf("an %v key with effective bits", a)
	case l.Salt != nil && (!stream || len(l.Salt) == 0 || l.KeySize+len(l.Salt) > maxSaltedKey):
		return fmt.Errorf("an %v key of %d bytes with a salt of %d", a, l.KeySize, len(l.Salt))
	}
	return nil
}

func (l *Legacy) clone() *Legacy {
	if l == nil {
		return nil
	}
	c := *l
	c.Salt = bytes.Clone(l.Salt)
	return &c
}

// Equal reports whether two keys have the same parameters. Either may be nil.
func (l *Legacy) Equal(m *Legacy) bool {
	if l == nil || m == nil {
		return l == m
	}
	return l.KeySize == m.KeySize && l.EffectiveBits == m.EffectiveBits && slices.Equal(l.Salt, m.Salt)
}

func (l *Legacy) add(b *cryptobyte.Builder, tag cryptobyte_asn1.Tag) {
	b.AddASN1(tag.Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1Int64(int64(l.KeySize))
		if l.EffectiveBits != 0 {
			b.AddASN1Int64WithTag(int64(l.EffectiveBits), tagged(0))
		}
		if l.Salt != nil {
			addOctets(b, tagged(1), l.Salt)
		}
	})
}

// legacy takes the field of a descriptor if it is present. It is checked against the algorithm
// later.
func (d *decoder) legacy(tag cryptobyte_asn1.Tag) *Legacy {
	if !d.next(tag.Constructed()) {
		return nil
	}
	in := d.part("legacy", tag.Constructed())
	l := Legacy{KeySize: in.integer("keyLength")}
	if in.next(tagged(0)) {
		l.EffectiveBits = in.number("effectiveBits", tagged(0))
	}
	if in.next(tagged(1)) {
		l.Salt = in.octets("salt", tagged(1))
	}
	in.refuseLaterFields(2)
	in.end()
	return &l
}
