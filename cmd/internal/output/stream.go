// Package output writes to stdout: lines, tables that fit the terminal, and JSON.
package output

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// A Stream writes a table or a JSON array of any length to stdout while its elements come. Only the
// last few are in memory, and none is held back for longer than maxDelay.
type Stream struct {
	out     *bufio.Writer
	flushed time.Time
	err     error // the first of writing
	Failed  error // what an exit status is made of, see fail

	width  int        // of the terminal, or 0
	widths []int      // table: of the columns
	parts  []int      // table: of the longest unbreakable part of each column
	rows   [][]string // table: not yet written

	pending []string // table: the heading, until there is a row
	heading []string // table: the first row that was written
	records int      // table: how many rows were written below each other

	Painted map[string]string // table: how cells look that have a colour

	inArray bool   // JSON
	indent  string // JSON: of the array
}

const (
	maxDelay = 100 * time.Millisecond
	maxRows  = 256 // the maximal number of rows that decide on the widths of columns
)

// NewStream returns a stream to out.
func NewStream(out io.Writer) *Stream {
	s := &Stream{out: bufio.NewWriterSize(out, 64<<10), flushed: time.Now()}
	if f, ok := out.(terminal.File); ok {
		s.width = terminal.Width(f)
	}
	return s
}

// Heading sets the heading of the table. It is written with the first row, and not at all if there is
// none.
func (s *Stream) Heading(cells ...string) { s.pending = cells }

// Row adds a row to the table.
func (s *Stream) Row(cells ...string) {
	if s.pending != nil {
		s.rows = append(s.rows, s.pending)
		s.pending = nil
	}
	s.rows = append(s.rows, cells)
	if len(s.rows) == maxRows || s.isLate() {
		s.writeRows()
	}
}

// writeRows writes the pending rows. Columns become wider if they must, and never narrower. A row
// of one cell spans all columns.
func (s *Stream) writeRows() {
	for _, row := range s.rows {
		for i, cell := range row {
			if i == len(s.widths) {
				s.widths, s.parts = append(s.widths, 0), append(s.parts, 0)
			}
			if len(row) > 1 {
				n := utf8.RuneCountInString(cell)
				s.widths[i] = max(s.widths[i], n)
				if s.width > 0 && n > s.parts[i] { // else it is not asked for, or no longer
					s.parts[i] = max(s.parts[i], text.LongestPart(cell))
				}
			}
		}
	}
	widths, fits := s.columns()
	for _, row := range s.rows {
		isHeading := s.heading == nil
		if isHeading {
			s.heading = row
		}
		switch {
		case len(row) == 1 && s.width > 0:
			s.writeRow(row, []int{s.width})
		case len(row) == 1:
			s.writeRow(row, []int{utf8.RuneCountInString(row[0])})
		case fits:
			s.writeRow(row, widths)
		case !isHeading:
			s.writeRecord(row)
		}
	}
	s.rows = s.rows[:0]
	s.flushLate()
}

// columns returns the widths of the columns, and reports whether a row fits the terminal without a
// word being cut. Two columns are labels and their values, and always fit: labels stay on one line,
// and long words beside them are cut.
func (s *Stream) columns() (widths []int, fits bool) {
	if len(s.widths) != 2 {
		return fit(s.widths, s.parts, s.width)
	}
	labels := s.widths[0]
	if 2*labels > s.width {
		labels = 0
	}
	widths, _ = fit(s.widths, []int{labels, 0}, s.width)
	return widths, true
}

// writeRecord writes the cells of a row below each other, each beside its heading, and skips empty
// ones.
func (s *Stream) writeRecord(row []string) {
	labels := 0
	for _, label := range s.heading {
		labels = max(labels, utf8.RuneCountInString(label))
	}
	if s.records++; s.records > 1 {
		s.write("\n")
	}
	for i, cell := range row {
		if cell == "" {
			continue
		}
		s.writeRow([]string{s.heading[i], cell}, []int{labels, max(s.width-labels-columnGap, MinColumn)})
	}
}

// writeRow writes a row, in several lines if a cell is wider than its column.
func (s *Stream) writeRow(row []string, widths []int) {
	cells := make([][]string, len(row))
	height := 1
	for i, cell := range row {
		cells[i] = text.Wrap(cell, widths[i])
		height = max(height, len(cells[i]))
	}
	for n := range height {
		gap := 0 // not written yet, so that no line ends in blanks that wrapping made
		for i, lines := range cells {
			text := ""
			if n < len(lines) {
				text = lines[n]
			}
			if text != "" || height == 1 {
				s.write(strings.Repeat(" ", gap))
				gap = 0
				if painted, ok := s.Painted[text]; ok {
					s.write(painted)
				} else {
					s.write(text)
				}
			}
			gap += widths[i] - utf8.RuneCountInString(text) + columnGap
		}
		s.write("\n")
	}
}

// Line writes one line.
func (s *Stream) Line(text string) {
	s.write(text + "\n")
	s.flushLate()
}

// Text writes text as it is.
func (s *Stream) Text(text string) {
	s.write(text)
	s.flushLate()
}

// JSONLine writes a JSON document on one line.
func (s *Stream) JSONLine(v any) {
	text, err := line(v)
	if err != nil {
		s.err = errors.Join(s.err, err)
		return
	}
	s.Line(text)
}

// Element adds an element to the JSON array. The result looks as if the whole document had been
// printed at once.
func (s *Stream) Element(v any) {
	text, err := document(v, s.indent+"  ")
	if err != nil {
		s.err = errors.Join(s.err, err)
		return
	}
	if s.inArray {
		s.write(",\n")
	} else {
		s.write("[\n")
	}
	s.inArray = true
	s.write(s.indent + "  " + text)
	s.flushLate()
}

// EndArray ends the JSON array.
func (s *Stream) EndArray() {
	if s.inArray {
		s.write("\n" + s.indent + "]")
	} else {
		s.write("[]")
	}
	if s.indent == "" {
		s.write("\n")
	}
}

// Document prints a JSON document around an array that is too large to be printed at once. In v,
// the array has this name and is empty.
func (s *Stream) Document(v any, name string, array func()) {
	text, err := document(v, "")
	empty := fmt.Sprintf("%q: []", name) // in no string of the document, where quotes are escaped
	before, after, found := strings.Cut(text, empty)
	if err != nil || !found {
		s.err = errors.Join(s.err, err, fmt.Errorf("no %s", empty))
		return
	}
	s.write(before + strings.TrimSuffix(empty, "[]"))
	s.indent = "  "
	array()
	s.EndArray()
	s.write(after + "\n")
}

// Fail prints an error after the elements so far, and remembers the one that decides on the exit
// status.
func (s *Stream) Fail(err error) {
	s.flush()
	message.Error(err)
	if s.Failed == nil || failure.Status(err) == failure.StatusIntegrity {
		s.Failed = errors.Join(failure.ErrReported, err)
	}
}

// Cut reports whether an error means that the user has interrupted the program, which says nothing
// about the element, and remembers it for [Stream.End].
func (s *Stream) Cut(err error) bool {
	if !errors.Is(err, context.Canceled) {
		return false
	}
	s.Failed = errors.Join(s.Failed, err)
	return true
}

func (s *Stream) write(text string) {
	if _, err := s.out.WriteString(text); err != nil && s.err == nil {
		s.err = err
	}
}

func (s *Stream) isLate() bool { return time.Since(s.flushed) > maxDelay }

func (s *Stream) flushLate() {
	if s.isLate() {
		s.flushOut()
	}
}

// flush writes all pending rows.
func (s *Stream) flush() {
	if len(s.rows) > 0 {
		s.writeRows()
	}
	s.flushOut()
}

func (s *Stream) flushOut() {
	if err := s.out.Flush(); err != nil && s.err == nil {
		s.err = err
	}
	s.flushed = time.Now()
}

// End writes the rest, and returns the errors.
func (s *Stream) End() error {
	s.flush()
	return errors.Join(s.Failed, s.err)
}
