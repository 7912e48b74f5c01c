package blob

import (
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A PackID names a pack of trie nodes: the first 16 bytes of its SHA-256.
type PackID [16]byte

// A Hint is where a node lies: Length bytes from Offset of a pack. It is never
// hashed and never trusted: what is read there counts only if its digest is the
// one that was wanted.
type Hint struct {
	Pack           PackID
	Offset, Length int
}

func (h Hint) validate() error {
	if min(h.Offset, h.Length) < 0 || max(h.Offset, h.Length) > MaxPack {
		return fmt.Errorf("hint of %d bytes at %d is not within a pack of at most %d bytes", h.Length, h.Offset, MaxPack)
	}
	return nil
}

func (h Hint) add(b *cryptobyte.Builder) {
	addSequence(b, func(b *cryptobyte.Builder) {
		b.AddASN1OctetString(h.Pack[:])
		b.AddASN1Int64(int64(h.Offset))
		b.AddASN1Int64(int64(h.Length))
	})
}

// hint takes a Hint.
func (d *decoder) hint(what string) (h Hint) {
	in := d.sequence(what)
	copy(h.Pack[:], in.octetsOf("pack", cryptobyte_asn1.OCTET_STRING, len(h.Pack)))
	h.Offset, h.Length = in.integer("offset"), in.integer("length")
	in.refuseLaterFields(0)
	in.end()
	return h
}
