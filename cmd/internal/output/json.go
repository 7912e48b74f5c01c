package output

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"unicode"
	"unicode/utf16"
)

// JSON prints one document.
func JSON(v any) error {
	text, err := document(v, "")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(os.Stdout, text)
	return err
}

// document returns v as JSON, with an indentation of the second and later lines. People read it on
// terminals and in reviews too, so characters that do not print are escaped: labels are chosen by
// others, and one that changes the direction of text would show another label.
func document(v any, indent string) (string, error) { return encode(v, indent, "  ") }

// line is document without line feeds.
func line(v any) (string, error) { return encode(v, "", "") }

func encode(v any, prefix, indent string) (string, error) {
	var text strings.Builder
	e := json.NewEncoder(&text)
	e.SetIndent(prefix, indent)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return escapeUnprintable(strings.TrimSuffix(text.String(), "\n")), nil
}

// escapeUnprintable escapes characters that do not print (RFC 8259 §7). Outside of strings JSON has
// no such character but line feeds.
func escapeUnprintable(text string) string {
	unprintable := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
	if strings.IndexFunc(text, unprintable) < 0 {
		return text
	}
	var out strings.Builder
	for _, r := range text {
		switch {
		case !unprintable(r):
			out.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}
