package blob

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// ValidLabel returns an error unless a text can be a member's label: 1..64 bytes of UTF-8 that
// print.
func ValidLabel(s string) error { return validText(s, maxLabel) }

// ValidReason returns an error unless a text can be the reason of a recovery: 1..256 bytes of
// UTF-8 that print.
func ValidReason(s string) error { return validText(s, maxReason) }

// validText returns an error unless text may be stored for people: 1..most bytes of UTF-8
// that print. It is shown on terminals, where control characters act.
func validText(text string, most int) error {
	if len(text) < 1 || len(text) > most {
		return fmt.Errorf("has %d bytes, not 1 to %d", len(text), most)
	}
	if !utf8.ValidString(text) {
		return fmt.Errorf("is not UTF-8")
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("has a character that does not print")
		}
	}
	return nil
}
