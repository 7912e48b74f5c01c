package hsmkeys

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A Pin is the checkpoint of a keyring that the holder of a key exchange pair has accepted last. It
// is kept where those who can write to the storage cannot, so that an old state of the storage is
// noticed.
type Pin struct {
	Pair string // subject key identifier of the pair, 40 hexadecimal digits
	ledger.Pin
}

const (
	pinFormat = "hsmkeys-pin-2"

	// maxPin is the maximal length of a pin, in bytes. The longest has 307.
	maxPin = 384
)

// String returns the form in which a pin is kept: one line of text, which other tools
// show as it is.
func (p Pin) String() string {
	return fmt.Sprintf("%s %s %s %x %d %x %d %x", pinFormat, p.Pair, p.Keyring, p.First, p.At.Number, p.At.Digest, p.Checked.Number, p.Checked.Digest)
}

// ParsePin reads what [Pin.String] returns, and nothing else.
func ParsePin(s string) (Pin, error) {
	malformed := fmt.Errorf("not a pin of a keyring: %w", blob.ErrMalformed)
	fields := strings.Split(s[:min(len(s), maxPin)], " ")
	if len(fields) != 8 || fields[0] != pinFormat {
		return Pin{}, malformed
	}
	p := Pin{Pair: fields[1]}
	var pair [20]byte
	if !decodeHex(pair[:], fields[1]) || !decodeHex(p.Keyring[:], fields[2]) || !decodeHex(p.First[:], fields[3]) ||
		!parsePoint(&p.At, fields[4], fields[5]) || !parsePoint(&p.Checked, fields[6], fields[7]) || p.Checked.Number > p.At.Number {
		return Pin{}, malformed
	}
	if p.String() != s { // there is one way to write it
		return Pin{}, malformed
	}
	return p, nil
}

func parsePoint(at *ledger.Point, number, digest string) bool {
	n, err := strconv.ParseInt(number, 10, 32)
	at.Number = int(n)
	return err == nil && n >= 1 && decodeHex(at.Digest[:], digest)
}

func decodeHex(dst []byte, s string) bool {
	if len(s) != hex.EncodedLen(len(dst)) {
		return false
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

// of reports whether two pins are of the same pair and keyring.
func (p Pin) of(other Pin) bool { return p.Pair == other.Pair && p.First == other.First }

// before reports whether a pin is an older one of the same keyring.
func (p Pin) before(next Pin) bool { return p.of(next) && p.At.Number < next.At.Number }

// outdated reports whether a pin is neither the newest nor the one before it.
func (p Pin) outdated(newest Pin, all []Pin) bool {
	return slices.ContainsFunc(all, func(between Pin) bool { return p.before(between) && between.before(newest) })
}
