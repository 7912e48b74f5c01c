package ledger

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Point names one checkpoint of a keyring, and with it everything before it: nobody
// can make two checkpoints with one digest.
type Point struct {
	Number int    // 1..[blob.MaxNumber]; 0 for no checkpoint
	Digest Digest // SHA-256 of the checkpoint
}

// String returns the number in decimal, a colon, and the digest in 64 lower-case
// hexadecimal digits.
func (p Point) String() string { return fmt.Sprintf("%d:%x", p.Number, p.Digest) }

// ParsePoint is the inverse of [Point.String]. Anything else is a [blob.ErrMalformed].
func ParsePoint(s string) (Point, error) {
	const longest = len("2147483647:") + 2*len(Digest{})
	malformed := fmt.Errorf("checkpoint %q is not a number, a colon and 64 hexadecimal digits: %w", s[:min(len(s), longest)], blob.ErrMalformed)
	number, digest, _ := strings.Cut(s, ":")
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || n < 1 || len(digest) != 2*len(Digest{}) {
		return Point{}, malformed
	}
	p := Point{Number: int(n)}
	if _, err := hex.Decode(p.Digest[:], []byte(digest)); err != nil || p.String() != s {
		return Point{}, malformed
	}
	return p, nil
}
