package ledger

import (
	"encoding/binary"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A decoder reads the compact form of nodes and records: numbers are varints as of
// package encoding/binary, texts follow their length. The first error stays. Nothing is
// allocated for a length that the input does not have. That each value has its shortest
// form is checked by encoding it again.
type decoder struct {
	in  []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = malformed(format, args...)
	}
	d.in = nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", blob.ErrMalformed, fmt.Errorf(format, args...))
}

func (d *decoder) bytes(what string, n int) []byte {
	if n > len(d.in) {
		d.fail("%s ends early", what)
		return nil
	}
	b := d.in[:n:n]
	d.in = d.in[n:]
	return b
}

func (d *decoder) byte(what string) byte {
	if b := d.bytes(what, 1); b != nil {
		return b[0]
	}
	return 0
}

// number reads a number of least..most.
func (d *decoder) number(what string, least, most int) int {
	if len(d.in) > 0 && d.in[0] < 0x80 && int(d.in[0]) >= least && int(d.in[0]) <= most {
		n := int(d.in[0])
		d.in = d.in[1:]
		return n
	}
	v, n := binary.Uvarint(d.in)
	if n <= 0 || v < uint64(least) || v > uint64(most) {
		d.fail("%s is not in %d..%d", what, least, most)
		return 0
	}
	d.in = d.in[n:]
	return int(v)
}

func (d *decoder) signed(what string) int64 {
	v, n := binary.Varint(d.in)
	if n <= 0 {
		d.fail("%s is no number", what)
		return 0
	}
	d.in = d.in[n:]
	return v
}

func (d *decoder) text(what string, least, most int) string {
	return string(d.bytes(what, d.number(what, least, most)))
}

func (d *decoder) digest(what string) (out Digest) {
	copy(out[:], d.bytes(what, len(out)))
	return out
}

func appendNumber(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }

func appendText(b []byte, s string) []byte { return append(appendNumber(b, len(s)), s...) }
