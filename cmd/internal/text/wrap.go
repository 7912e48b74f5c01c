package text

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// LongestPart returns the number of characters of the longest part of a text that a line
// must not break.
func LongestPart(text string) int {
	longest := 0
	for _, word := range strings.Fields(text) {
		for _, part := range parts(word) {
			longest = max(longest, utf8.RuneCountInString(part))
		}
	}
	return longest
}

// parts splits a word where a line may break within it: after a comma or a slash, and after
// a hyphen between letters. Times, serial numbers and fingerprints are one part.
func parts(word string) []string {
	var all []string
	runes, start := []rune(word), 0
	for i := 1; i < len(runes); i++ {
		hyphen := runes[i-1] == '-' && i > 1 && unicode.IsLetter(runes[i-2]) && unicode.IsLetter(runes[i])
		if hyphen || runes[i-1] == ',' || runes[i-1] == '/' {
			all = append(all, string(runes[start:i]))
			start = i
		}
	}
	return append(all, string(runes[start:]))
}

// Wrap breaks a text into lines of at most width characters: at blanks, else within a
// word where [parts] has it. A part that is longer than a line is cut, after a colon where
// there is one, which keeps the bytes of a fingerprint whole. All lines have the indentation
// of the text.
func Wrap(text string, width int) []string {
	if utf8.RuneCountInString(text) <= width {
		return []string{text}
	}
	indent := text[:len(text)-len(strings.TrimLeft(text, " "))]
	if 2*len(indent) >= width {
		indent = ""
	}
	w := wrapper{width: width - len(indent)}
	for _, word := range strings.Fields(text) {
		if w.add(" ", word) {
			continue
		}
		for i, part := range parts(word) {
			if glue := strings.Repeat(" ", 1-min(i, 1)); !w.add(glue, part) {
				w.cut(part)
			}
		}
	}
	w.end()
	for i := range w.lines {
		w.lines[i] = indent + w.lines[i]
	}
	return w.lines
}

// A wrapper fills lines.
type wrapper struct {
	width int
	lines []string
	line  string
}

// add puts text at the end of the line, or on a line of its own, and reports whether it
// fits there.
func (w *wrapper) add(glue, text string) bool {
	n := utf8.RuneCountInString(text)
	if w.line != "" && utf8.RuneCountInString(w.line+glue)+n <= w.width {
		w.line += glue + text
		return true
	}
	if n > w.width {
		return false
	}
	w.end()
	w.line = text
	return true
}

func (w *wrapper) end() {
	if w.line != "" {
		w.lines = append(w.lines, w.line)
	}
	w.line = ""
}

// cut spreads a text that is longer than a line over several.
func (w *wrapper) cut(text string) {
	w.end()
	runes := []rune(text)
	for len(runes) > w.width {
		n := w.width
		if colon := strings.LastIndex(string(runes[:n]), ":"); colon >= 0 {
			n = utf8.RuneCountInString(string(runes[:n])[:colon+1])
		}
		w.lines = append(w.lines, string(runes[:n]))
		runes = runes[n:]
	}
	w.line = string(runes)
}
