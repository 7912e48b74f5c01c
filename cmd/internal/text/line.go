// Package text prepares text for a person to read: on one line, without characters that a terminal
// interprets, quoted, wrapped, enumerated.
package text

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Line returns s as one line, with "?" in place of characters that do not print: a message may quote
// what somebody else wrote.
func Line(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) { // among them those that change the direction of text
			return '?'
		}
		return r
	}, strings.TrimSpace(s))
}

// Printable returns s, quoted if it has characters that a terminal would interpret or a reader could
// mistake.
func Printable(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}

// Time returns t in UTC as RFC 3339 has it.
func Time(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Age returns a time span for a person, in the largest unit of which there are two: 90d, 47h, 3m.
func Age(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	}
	return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
}

// Plural returns n with the noun that goes with it.
func Plural(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Enumerate joins names with commas and "and".
func Enumerate(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// ShellQuote quotes s so that a shell reads it as one word.
func ShellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@%", r)
	}
	if s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
