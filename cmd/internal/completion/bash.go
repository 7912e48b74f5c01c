package completion

import (
	"strings"
)

// Bash passes the words as they were typed, with their quotes, and inserts candidates as they are.

// bashUnquote returns the text of a word, and the index of a quote in it that was opened and not
// closed, or -1. It expands nothing.
func bashUnquote(raw string) (text string, open int) {
	var b strings.Builder
	open = -1
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		quote := byte(0)
		if open >= 0 {
			quote = raw[open]
		}
		switch {
		case quote == 0 && (c == '\'' || c == '"'):
			open = i
		case quote != 0 && c == quote:
			open = -1
		case c == '\\' && quote != '\'' && i+1 < len(raw) && (quote == 0 || strings.IndexByte("\\\"$`", raw[i+1]) >= 0):
			i++
			b.WriteByte(raw[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), open
}

// bashQuoting returns a function that quotes a candidate for the part of the last word that
// readline replaces: what comes after an open quote, or after the last of the characters that break
// words. An @ stays with what follows it.
func bashQuoting(breaks, raw string) func(string) string {
	_, open := bashUnquote(raw)
	start := 0
	if open >= 0 {
		start = open + 1
	} else if i := strings.LastIndexAny(raw, "=:@"); i >= 0 && strings.IndexByte(breaks, raw[i]) >= 0 {
		start = i + 1
		if raw[i] == '@' {
			start = i
		}
	}
	before, _ := bashUnquote(raw[:start])
	return func(word string) string {
		word = strings.TrimPrefix(word, before)
		switch {
		case open >= 0 && raw[open] == '\'':
			return strings.ReplaceAll(word, "'", `'\''`)
		case open >= 0:
			return escape(word, func(c byte) bool { return strings.IndexByte("\\\"$`", c) >= 0 })
		default:
			return escape(word, func(c byte) bool {
				return c < 0x80 && !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') && strings.IndexByte("_-+./,%=:@", c) < 0
			})
		}
	}
}

// escape puts a backslash before special characters.
func escape(word string, special func(byte) bool) string {
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		if special(word[i]) {
			b.WriteByte('\\')
		}
		b.WriteByte(word[i])
	}
	return b.String()
}
