package blob

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// validText says whether text may be stored for people: 1..most bytes of UTF-8
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
