package token

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLabel is the longest CKA_LABEL of an object made here, in bytes. PKCS #11 has no
// limit, tokens have.
const maxLabel = 64

// ValidLabel returns an error unless label will do for an object that is made here: 1 to
// 64 bytes of UTF-8 that print. Other programs show labels on terminals, where control
// characters act and a bidirectional override shows another label.
func ValidLabel(label string) error {
	if label == "" || len(label) > maxLabel || !printable(label) {
		return errors.New("a label has 1 to 64 bytes of UTF-8, and every character prints")
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
