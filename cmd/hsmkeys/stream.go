package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// A stream is what goes to stdout while it comes: a table or a JSON array of as many
// things as there are, of which only the last few are in memory. What has come is never
// held back for longer than streamDelay.
type stream struct {
	out     *bufio.Writer
	flushed time.Time
	err     error // the first of writing
	failed  error // what an exit status is made of, see fail

	width  int        // of the terminal, or 0
	widths []int      // table: of the columns
	words  []int      // table: of the longest word of each column
	rows   [][]string // table: not yet written

	painted map[string]string // table: how cells look that have a colour

	inArray bool   // JSON
	indent  string // JSON: of the array
}

const (
	streamDelay = 100 * time.Millisecond
	streamRows  = 256 // so many rows at the most decide on the width of columns
)

func newStream(out io.Writer) *stream {
	s := &stream{out: bufio.NewWriterSize(out, 64<<10), flushed: time.Now()}
	if f, ok := out.(*os.File); ok {
		s.width = terminalWidth(f)
	}
	return s
}

// row adds a row to the table; the first is the heading.
func (s *stream) row(cells ...string) {
	s.rows = append(s.rows, cells)
	if len(s.rows) == streamRows || s.isLate() {
		s.writeRows()
	}
}

// writeRows writes the rows that have come. Columns get wider where they must, and never
// narrower.
func (s *stream) writeRows() {
	for _, row := range s.rows {
		for i, cell := range row {
			if i == len(s.widths) {
				s.widths, s.words = append(s.widths, 0), append(s.words, 0)
			}
			s.widths[i] = max(s.widths[i], utf8.RuneCountInString(cell))
			s.words[i] = max(s.words[i], longestWord(cell))
		}
	}
	widths := fit(s.widths, s.words, s.width)
	for _, row := range s.rows {
		s.writeRow(row, widths)
	}
	s.rows = s.rows[:0]
	s.flushLate()
}

// writeRow writes a row, in several lines where a cell is wider than its column.
func (s *stream) writeRow(row []string, widths []int) {
	cells := make([][]string, len(row))
	height := 1
	for i, cell := range row {
		cells[i] = wrapText(cell, widths[i])
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
				if painted, ok := s.painted[text]; ok {
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

// line writes one line.
func (s *stream) line(text string) {
	s.write(text + "\n")
	s.flushLate()
}

// element adds an element to the JSON array, which looks as if the whole document had been
// printed in one piece.
func (s *stream) element(v any) {
	text, err := jsonText(v, s.indent+"  ")
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

// endArray ends the JSON array.
func (s *stream) endArray() {
	if s.inArray {
		s.write("\n" + s.indent + "]")
	} else {
		s.write("[]")
	}
	if s.indent == "" {
		s.write("\n")
	}
}

// document prints a JSON document around an array that is too large to be printed in one
// piece: v has it under this name, and has it empty.
func (s *stream) document(v any, name string, array func()) {
	text, err := jsonText(v, "")
	empty := fmt.Sprintf("%q: []", name) // in no string of the document, where quotes are escaped
	before, after, found := strings.Cut(text, empty)
	if err != nil || !found {
		s.err = errors.Join(s.err, err, fmt.Errorf("no %s", empty))
		return
	}
	s.write(before + strings.TrimSuffix(empty, "[]"))
	s.indent = "  "
	array()
	s.endArray()
	s.write(after + "\n")
}

// fail tells of an error, behind what has come so far, and remembers that one which counts
// for the exit status.
func (s *stream) fail(err error) {
	s.flush()
	say(err)
	if s.failed == nil || status(err) == statusIntegrity {
		s.failed = errors.Join(errReported, err)
	}
}

// cut says whether an error is that the user has interrupted the program, which is no
// verdict on anything, and remembers it for the end.
func (s *stream) cut(err error) bool {
	if !errors.Is(err, context.Canceled) {
		return false
	}
	s.failed = errors.Join(s.failed, err)
	return true
}

func (s *stream) write(text string) {
	if _, err := s.out.WriteString(text); err != nil && s.err == nil {
		s.err = err
	}
}

func (s *stream) isLate() bool { return time.Since(s.flushed) > streamDelay }

func (s *stream) flushLate() {
	if s.isLate() {
		s.flushOut()
	}
}

// flush writes all that has come.
func (s *stream) flush() {
	if len(s.rows) > 0 {
		s.writeRows()
	}
	s.flushOut()
}

func (s *stream) flushOut() {
	if err := s.out.Flush(); err != nil && s.err == nil {
		s.err = err
	}
	s.flushed = time.Now()
}

// end writes the rest, and gives the errors.
func (s *stream) end() error {
	s.flush()
	return errors.Join(s.failed, s.err)
}

// table prints rows in columns; the first row is the heading.
func table(rows [][]string) error { return writeTable(os.Stdout, rows) }

// writeTable prints rows where they are to be read.
func writeTable(out io.Writer, rows [][]string) error {
	s := newStream(out)
	s.rows = rows
	return s.end()
}
