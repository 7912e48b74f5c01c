package output

import (
	"fmt"
	"io"
	"os"
	"slices"
)

const (
	columnGap = 2
	// MinColumn is the least width to which a column is narrowed.
	MinColumn = 8
)

// fit narrows the widest columns until a row has at most width characters, and reports whether that
// was possible. No column becomes narrower than its least width or MinColumn. A width of 0 means no
// limit.
func fit(columns, least []int, width int) (fitted []int, fits bool) {
	fitted = slices.Clone(columns)
	over := columnGap*(len(columns)-1) - width
	for _, c := range columns {
		over += c
	}
	if width == 0 {
		return fitted, true
	}
	for ; over > 0; over-- {
		widest := -1
		for i, c := range fitted {
			if c > max(least[i], MinColumn) && (widest < 0 || c > fitted[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return fitted, false
		}
		fitted[widest]--
	}
	return fitted, true
}

// Table prints rows in columns; the first row is the heading.
func Table(rows [][]string) error { return WriteTable(os.Stdout, rows) }

// WriteTable prints rows in columns to out.
func WriteTable(out io.Writer, rows [][]string) error {
	s := NewStream(out)
	s.rows = rows
	return s.End()
}

// Line prints a line to stdout. The error is that of writing, as of a full disk.
func Line(format string, args ...any) error {
	_, err := fmt.Printf(format+"\n", args...)
	return err
}

// A Checked remembers the first error of writing to W, for callers that ignore it: package cli does,
// when it prints help.
type Checked struct {
	W   io.Writer
	Err error
}

func (c *Checked) Write(p []byte) (int, error) {
	n, err := c.W.Write(p)
	if c.Err == nil {
		c.Err = err
	}
	return n, err
}
