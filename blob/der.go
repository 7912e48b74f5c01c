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

// A decoder reads DER. The first failure of a decoder and of those for its
// parts is kept; after it they return zero values, so that a structure reads
// top to bottom like its ASN.1 and is checked once at the end.
//
// cryptobyte refuses indefinite and padded lengths, tags above 30, and padded
// integers. What it lets through (unsorted sets, times with an offset) is
// refused where it is read, or by [sameEncoding].
type decoder struct {
	in   cryptobyte.String
	what string
	err  *error
}

func decode(what string, der []byte) *decoder {
	return &decoder{der, what, new(error)}
}

// fail records err as the failure of d, unless there is one already.
func (d *decoder) fail(err error) {
	if *d.err == nil {
		*d.err = err
	}
}

func (d *decoder) malformed(what, problem string) {
	d.fail(fmt.Errorf("%w: %s.%s %s", ErrMalformed, d.what, what, problem))
}

// element takes one element with its tag and length.
func (d *decoder) element(what string, tag cryptobyte_asn1.Tag) []byte {
	var out cryptobyte.String
	if *d.err != nil {
		return nil
	}
	if !d.in.ReadASN1Element(&out, tag) {
		d.malformed(what, fmt.Sprintf("is not a DER element with tag 0x%02x", uint8(tag)))
		return nil
	}
	return out
}

// any takes one element whatever its tag.
func (d *decoder) any(what string) []byte {
	var out cryptobyte.String
	var tag cryptobyte_asn1.Tag
	if *d.err != nil {
		return nil
	}
	if !d.in.ReadAnyASN1Element(&out, &tag) {
		d.malformed(what, "is not a DER element")
		return nil
	}
	return out
}

// part takes one element and returns a decoder for what is in it.
func (d *decoder) part(what string, tag cryptobyte_asn1.Tag) *decoder {
	return &decoder{d.octets(what, tag), d.what + "." + what, d.err}
}

func (d *decoder) sequence(what string) *decoder { return d.part(what, cryptobyte_asn1.SEQUENCE) }

// octets takes one element and returns what is in it.
func (d *decoder) octets(what string, tag cryptobyte_asn1.Tag) []byte {
	var out cryptobyte.String
	if *d.err != nil {
		return nil
	}
	if !d.in.ReadASN1(&out, tag) {
		d.malformed(what, fmt.Sprintf("is not a DER element with tag 0x%02x", uint8(tag)))
		return nil
	}
	return out
}

// octetsOf is octets of an exact size.
func (d *decoder) octetsOf(what string, tag cryptobyte_asn1.Tag, size int) []byte {
	out := d.octets(what, tag)
	if *d.err == nil && len(out) != size {
		d.malformed(what, fmt.Sprintf("has %d bytes, not %d", len(out), size))
	}
	return out
}

// identifier takes a SubjectKeyIdentifier (RFC 5652 §10.2.4) of a size that is accepted.
func (d *decoder) identifier(tag cryptobyte_asn1.Tag) []byte {
	out := d.octets("subjectKeyIdentifier", tag)
	if n := len(out); *d.err == nil && (n < 1 || n > maxIdentifier) {
		d.malformed("subjectKeyIdentifier", fmt.Sprintf("has %d bytes, not 1 to %d", n, maxIdentifier))
	}
	return out
}

func (d *decoder) integer(what string) int { return d.number(what, cryptobyte_asn1.INTEGER) }

func (d *decoder) enumerated(what string) int { return d.number(what, cryptobyte_asn1.ENUM) }

// number takes an INTEGER or ENUMERATED of 0..2^31-1. Those are the same
// octets under different tags (X.690 §8.4).
func (d *decoder) number(what string, tag cryptobyte_asn1.Tag) int {
	octets := d.octets(what, tag)
	if *d.err != nil {
		return 0
	}
	switch {
	case len(octets) == 0:
		d.malformed(what, "is an integer without content")
	case octets[0]&0x80 != 0:
		d.malformed(what, "is negative")
	case len(octets) > 1 && octets[0] == 0 && octets[1]&0x80 == 0:
		d.malformed(what, "is a padded integer")
	case len(octets) > 4:
		d.malformed(what, "is above 2147483647")
	}
	n := 0
	for _, o := range octets[:min(len(octets), 4)] {
		n = n<<8 | int(o)
	}
	return n
}

// version takes the INTEGER version of a CMS structure.
func (d *decoder) version(want int) {
	if v := d.integer("version"); *d.err == nil && v != want {
		d.fail(fmt.Errorf("%w: %s.version is %d, not %d", ErrUnknown, d.what, v, want))
	}
}

func (d *decoder) oid(what string) asn1.ObjectIdentifier {
	var out asn1.ObjectIdentifier
	if *d.err != nil {
		return nil
	}
	if !d.in.ReadASN1ObjectIdentifier(&out) {
		d.malformed(what, "is not an object identifier")
	}
	return out
}

// oidIs takes an object identifier that must be want.
func (d *decoder) oidIs(what string, want asn1.ObjectIdentifier) {
	if got := d.oid(what); *d.err == nil && !got.Equal(want) {
		d.fail(fmt.Errorf("%w: %s.%s is %v, not %v", ErrUnknown, d.what, what, got, want))
	}
}

// algorithm takes an AlgorithmIdentifier, which must be in list, and returns its
// index there.
func (d *decoder) algorithm(what string, list ...[]byte) int {
	der := d.element(what, cryptobyte_asn1.SEQUENCE)
	if *d.err != nil {
		return 0
	}
	for i, known := range list {
		if bytes.Equal(known, der) {
			return i
		}
	}
	d.fail(fmt.Errorf("%w: %s.%s is not one of the algorithms allowed here: %x", ErrUnknown, d.what, what, der[:min(len(der), 64)]))
	return 0
}

// time takes a GeneralizedTime in DER (X.690 §11.7) of whole seconds.
func (d *decoder) time(what string) time.Time {
	return d.timeAs(what, cryptobyte_asn1.GeneralizedTime, generalizedTime)
}

func (d *decoder) timeAs(what string, tag cryptobyte_asn1.Tag, layout string) time.Time {
	s := string(d.octets(what, tag))
	if *d.err != nil {
		return time.Time{}
	}
	t, err := time.Parse(layout, s)
	// time.Parse accepts a fraction of a second even if the layout has none.
	if err != nil || t.Format(layout) != s {
		d.malformed(what, "is not a time of whole seconds, ending in Z")
	}
	return t
}

// digest takes a SHA-256.
func (d *decoder) digest(what string) (out [digestSize]byte) {
	copy(out[:], d.octetsOf(what, cryptobyte_asn1.OCTET_STRING, digestSize))
	return out
}

// id takes an ID.
func (d *decoder) id(what string) (out ID) {
	copy(out[:], d.octetsOf(what, cryptobyte_asn1.OCTET_STRING, len(out)))
	return out
}

// next reports whether an element with a given tag comes next.
func (d *decoder) next(tag cryptobyte_asn1.Tag) bool {
	return *d.err == nil && d.in.PeekASN1Tag(tag)
}

// refuse fails when an optional element that we never write comes next.
func (d *decoder) refuse(what string, tag cryptobyte_asn1.Tag) {
	if d.next(tag) {
		d.fail(fmt.Errorf("%w: %s.%s must be absent", ErrUnknown, d.what, what))
	}
}

// more reports whether there is anything left, and whether it is worth reading.
func (d *decoder) more() bool { return *d.err == nil && !d.in.Empty() }

// end is called when everything in d has been taken. It returns the failure, if
// any, of d or one of its parts.
func (d *decoder) end() error {
	if d.more() {
		d.fail(fmt.Errorf("%w: %s has %d bytes that do not belong there", ErrMalformed, d.what, len(d.in)))
	}
	return *d.err
}

const (
	utcTime         = "060102150405Z"
	generalizedTime = "20060102150405Z"
)

// wholeSecond returns t as it is stored. ASN.1 could express fractions, but whole seconds need no
// rule for their encoding.
func wholeSecond(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// validTime reports whether the format can hold a time.
func validTime(t time.Time) bool { return t.Year() >= 1970 && t.Year() <= 9999 }

func tagged(n uint8) cryptobyte_asn1.Tag { return cryptobyte_asn1.Tag(n).ContextSpecific() }

// encode returns the bytes that f builds.
func encode(f func(*cryptobyte.Builder)) ([]byte, error) { return encodeIn(256, f) }

// encodeIn is encode with a buffer of room bytes, beyond which the builder has to copy.
func encodeIn(room int, f func(*cryptobyte.Builder)) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, room))
	f(b)
	return b.Bytes()
}

// mustEncode is for what does not depend on input.
func mustEncode(f func(*cryptobyte.Builder)) []byte {
	der, err := encode(f)
	if err != nil {
		panic(err)
	}
	return der
}

func addSequence(b *cryptobyte.Builder, f func(*cryptobyte.Builder)) {
	b.AddASN1(cryptobyte_asn1.SEQUENCE, f)
}

// addSetOf adds encoded elements in the order of DER (X.690 §11.6), under the
// tag of SET OF or one that replaces it.
func addSetOf(b *cryptobyte.Builder, tag cryptobyte_asn1.Tag, elements [][]byte) {
	elements = slices.Clone(elements)
	slices.SortFunc(elements, bytes.Compare)
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		for _, e := range elements {
			b.AddBytes(e)
		}
	})
}

func addTime(b *cryptobyte.Builder, tag cryptobyte_asn1.Tag, layout string, t time.Time) {
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(wholeSecond(t).Format(layout))) })
}

func addUTF8String(b *cryptobyte.Builder, s string) {
	b.AddASN1(cryptobyte_asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
}

func addOctets(b *cryptobyte.Builder, tag cryptobyte_asn1.Tag, octets []byte) {
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(octets) })
}

// canonical checks that what was read from der keeps its rules, and that der is its one encoding.
func canonical(what string, der []byte, validate func() error, marshal func() ([]byte, error)) error {
	if err := validate(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, what, err)
	}
	again, err := marshal()
	return sameEncoding(what, der, again, err)
}

// sameEncoding checks that der is what encoding its content again returns. Each element was checked
// when it was read. This check finds what a reader may have overlooked, which an attacker could
// change.
func sameEncoding(what string, der []byte, again []byte, err error) error {
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, what, err)
	}
	if !bytes.Equal(der, again) {
		return fmt.Errorf("%w: %s is not in its one encoding", ErrMalformed, what)
	}
	return nil
}
