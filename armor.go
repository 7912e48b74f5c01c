package hsmkeys

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age/armor"

	"github.com/hsmkeys/hsmkeys/blob"
)

// As in age's own library, [Keyring.Decrypt] reads the binary format alone, and armor is
// removed where the caller asks for it.

// maxArmorSpace is how much white space may stand before the armor, in bytes, and
// maxArmorLine how long a line is allowed to be before it is refused unread; age reads
// lines of any length into memory.
const (
	maxArmorSpace = 1024
	maxArmorLine  = maxArmorSpace
)

// Armored reports whether a file that starts like this is an age file in ASCII armor.
// White space may stand before it. To know, it needs the first 2 KiB of the file.
func Armored(start []byte) bool {
	text := bytes.TrimLeft(start, " \t\r\n")
	return len(start)-len(text) <= maxArmorSpace && bytes.HasPrefix(text, []byte(armor.Header))
}

// Dearmor returns a reader of the binary age file that src holds, whether in ASCII armor
// or binary already. White space around the armor and lines that end in CRLF are
// accepted, as by age. Armor that is damaged is a [blob.ErrIntegrity]; errors of src are
// passed on unchanged.
func Dearmor(src io.Reader) io.Reader {
	source := &sourceReader{src: src}
	return &dearmorer{source: source, in: bufio.NewReaderSize(source, 2*maxArmorSpace)}
}

type dearmorer struct {
	source *sourceReader
	in     *bufio.Reader
	out    io.Reader // nil until the start has been seen
}

func (d *dearmorer) Read(p []byte) (int, error) {
	if d.out == nil {
		d.out = d.in
		if space, ok := d.armored(); ok {
			_, _ = d.in.Discard(space) // it is in the buffer
			d.out = armor.NewReader(&lineLimiter{src: d.in})
		}
	}
	n, err := d.out.Read(p)
	if errors.As(err, new(*armor.Error)) {
		if d.source.err != nil {
			return n, d.source.err
		}
		err = fmt.Errorf("%w: %w", err, blob.ErrIntegrity)
	}
	return n, err
}

// armored looks at no more of the start than it must, as a pipe may not have more yet, and
// returns how much white space there is before the armor.
func (d *dearmorer) armored() (space int, ok bool) {
	for ; space <= maxArmorSpace; space++ {
		start, err := d.in.Peek(space + 1)
		if err != nil {
			break
		}
		switch start[space] {
		case ' ', '\t', '\r', '\n':
		case armor.Header[0]:
			start, _ = d.in.Peek(space + len(armor.Header))
			return space, Armored(start)
		default:
			return 0, false
		}
	}
	return 0, false
}

// lineLimiter refuses lines that are too long for any armor.
type lineLimiter struct {
	src    io.Reader
	length int
}

func (l *lineLimiter) Read(p []byte) (int, error) {
	n, err := l.src.Read(p)
	for rest := p[:n]; ; {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			l.length += len(rest)
		}
		if l.length+max(end, 0) > maxArmorLine {
			return 0, errors.New("a line is too long")
		}
		if end < 0 {
			return n, err
		}
		l.length, rest = 0, rest[end+1:]
	}
}
